import { expect, test, vi } from 'vitest';
import { loadOnce } from '../../../src/http/page-files.ts';

test('what was loaded is not loaded again, not even while it is being loaded', async () => {
  const load = vi.fn<() => Promise<object>>(() => Promise.resolve({}));
  const loadIt = loadOnce(load);
  const [first, second] = await Promise.all([loadIt(), loadIt()]);
  expect(second).toBe(first);
  expect(await loadIt()).toBe(first);
  expect(load).toHaveBeenCalledTimes(1);
});

test('what could not be loaded is loaded again for the next one', async () => {
  const load = vi.fn<() => Promise<string>>().mockRejectedValueOnce(new Error('no file')).mockResolvedValue('loaded');
  const loadIt = loadOnce(load);
  await expect(loadIt()).rejects.toThrow('no file');
  expect(await loadIt()).toBe('loaded');
});
