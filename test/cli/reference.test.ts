/** Images that the command names by a URL, under the user's own authority. */
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { loadImage, openImageUrl, streamExtents } from '../../src/index.ts';
import { run } from '../support/command.ts';
import { kernel } from '../support/elf-builder.ts';
import { TestOrigin } from '../support/origin.ts';
import { PATIENT } from '../support/patience.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const image = kernel({ symbols: 20_000, text: { data: new Uint8Array(2_000_000) }, memsz: 0x200000 }).bytes;
const directory = new TemporaryDirectory();
const file = directory.file('a kernel');
let origin: TestOrigin;

beforeAll(async () => {
  writeFileSync(file, image);
  origin = await TestOrigin.start();
});
afterEach(() => origin.reset());
afterAll(() => {
  origin.close();
  directory.remove();
});

const command = (...args: readonly string[]) => run(args, { env: PATIENT });

test.each([['blob'], ['layout'], ['kernel'], ['image'], ['image', '--json'], ['symbols']])(
  '%s %s writes what it writes of the file',
  async (...args) => {
    const expected = await command(...args, file);
    const url = origin.serve('/k', image);
    expect(await command(...args, url)).toEqual(expected);
    expect(await command(...args, `file://${file.replaceAll(' ', '%20')}`)).toEqual(expected);
    expect(origin.bytesSent).toBeLessThan(image.length);
  },
);

test('a compressed image is unpacked', async () => {
  const { stdout } = await command('blob', file);
  expect((await command('blob', origin.serve('/k.gz', gzipSync(image)))).stdout.equals(stdout)).toBe(true);
});

test.each([
  ['/none', 'source-refused: .*404'],
  ['/k#fragment', 'source-invalid: '],
])('%s ends with status 2, since the image was not judged', async (path, words) => {
  const { status, stdout, stderr } = await command('layout', `${origin.url}${path}`);
  expect([status, stdout.length]).toEqual([2, 0]);
  expect(stderr).toMatch(new RegExp(`^bsdsyms: ${words}[^\\n]*\\n$`));
});

test('a broken image ends with status 1, as from a file', async () => {
  const { status, stderr } = await command('layout', origin.serve('/k', Buffer.from('no image')));
  expect([status, stderr.startsWith('bsdsyms: not-elf: ')]).toEqual([1, true]);
});

test('header fields come from a file', async () => {
  const headers = directory.write(JSON.stringify({ [`${origin.url}/`]: { Authorization: 'Bearer mine' } }));
  const url = origin.serve('/k', image);
  const env = { ...PATIENT, BSDSYMS_IMAGE_SOURCE_HEADERS_FILE: headers };
  expect((await run(['kernel', url], { env })).status).toBe(0);
  expect(origin.requests[0]?.headers.authorization).toBe('Bearer mine');
  writeFileSync(headers, 'no json');
  expect(await run(['kernel', url], { env })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('BSDSYMS_IMAGE_SOURCE_HEADERS_FILE: cannot be used'),
  });
});

test('the library reads ranges of a URL', async () => {
  const { source, compression } = await openImageUrl(origin.serve('/k', image));
  try {
    const loaded = await loadImage(source);
    if (!loaded.ok) throw new Error(loaded.broken.code);
    const pieces: Uint8Array[] = [];
    for await (const piece of streamExtents(source, loaded.plan.extents)) pieces.push(piece);
    expect(Buffer.concat(pieces).equals((await command('blob', file)).stdout)).toBe(true);
    expect([compression, source.size]).toEqual([null, image.length]);
  } finally {
    await source.close();
  }
});
