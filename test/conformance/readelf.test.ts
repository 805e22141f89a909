/** An independent reader of ELF files: without its size word, the blob is one, with the same symbols as the image. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { mustLoad } from '../support/load.ts';

const hasReadelf = spawnSync('readelf', ['--version']).status === 0;
const SIZE_WORD_BYTES = 4;

describe.skipIf(!hasReadelf)('readelf', () => {
  let directory = '';
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bsdsyms-readelf-'));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** The rows of `readelf -sW`: number, value, size, type, binding, visibility, section, name. */
  async function listSymbols(name: string, elf: Uint8Array): Promise<string[]> {
    const file = join(directory, name);
    await writeFile(file, elf);
    const { stdout } = await promisify(execFile)('readelf', ['-sW', file], { env: { ...process.env, LC_ALL: 'C' } });
    return stdout.split('\n').filter((line) => /^\s*\d+:/.test(line));
  }

  test.each([
    ['ELF32', 0],
    ['ELF32', 1],
    ['ELF32', 1000],
    ['ELF64', 0],
    ['ELF64', 1],
    ['ELF64', 1000],
  ] as const)('lists the same symbols in the blob of an %s image with %i symbols', async (elfClass, count) => {
    const { bytes } = kernel({ class: elfClass, symbols: count });
    const { blob } = await mustLoad(bytes);
    const inImage = await listSymbols(`image-${elfClass}-${count}`, bytes);
    const inBlob = await listSymbols(`blob-${elfClass}-${count}`, blob.subarray(SIZE_WORD_BYTES));
    expect(inImage).toHaveLength(count + 1);
    expect(inBlob).toEqual(inImage);
  });
});
