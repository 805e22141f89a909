/** Every mark by itself: one that is wrong would also match files of other kinds. */
import { describe, expect, test } from 'vitest';
import {
  findCompression,
  findFileKind,
  LONGEST_COMPRESSION_MARK_BYTES,
  LONGEST_MARK_BYTES,
} from '../../../src/inspect/signatures.ts';

const latin = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0));

/** The bytes at an offset of a file that is otherwise of one byte. */
function fileWith(offset: number, mark: readonly number[], filler = 0x99): Uint8Array {
  const bytes = new Uint8Array(LONGEST_MARK_BYTES + 1).fill(filler);
  bytes.set(mark, offset);
  return bytes;
}

const MARKS: readonly (readonly [kind: RegExp, offset: number, mark: readonly number[]])[] = [
  [/gzip$/, 0, [0x1f, 0x8b]],
  [/zstd$/, 0, [0x28, 0xb5, 0x2f, 0xfd]],
  [/xz$/, 0, latin('\xfd7zXZ\0')],
  [/bzip2$/, 0, latin('BZh')],
  [/lzma$/, 0, [0x5d, 0, 0]],
  [/lzo$/, 0, latin('\x89LZO\0')],
  [/lz4$/, 0, [4, 0x22, 0x4d, 0x18]],
  [/lz4$/, 0, [2, 0x21, 0x4c, 0x18]],
  [/symbol blob/, 4, latin('\x7fELF')],
  [/bzImage/, 0x202, latin('HdrS')],
  [/Image for arm64/, 0x38, latin('ARMd')],
  [/Image for RISC-V/, 0x38, latin('RSC\x05')],
  [/zImage/, 0x24, [0x18, 0x28, 0x6f, 1]],
  [/zboot/, 4, latin('zimg')],
  [/uImage/, 0, [0x27, 5, 0x19, 0x56]],
  [/device tree/, 0, [0xd0, 0x0d, 0xfe, 0xed]],
  [/Android/, 0, latin('ANDROID!')],
  [/Android/, 0, latin('VNDRBOOT')],
  [/\(PE\)/, 0, latin('MZ')],
  [/^a Mach-O/, 0, [0xcf, 0xfa, 0xed, 0xfe]],
  [/^a Mach-O/, 0, [0xce, 0xfa, 0xed, 0xfe]],
  [/Java/, 0, [0xca, 0xfe, 0xba, 0xbe]],
  [/WebAssembly/, 0, latin('\0asm')],
  [/bitcode/, 0, latin('BC\xc0\xde')],
  [/\(kdump\)/, 0, latin('KDUMP   ')],
  [/dump of FreeBSD/, 0, latin('minidump FreeBSD')],
  [/ar archive/, 0, latin('!<arch>\n')],
  [/zip archive/, 0, latin('PK\x03\x04')],
  [/7z archive/, 0, latin('7z\xbc\xaf\x27\x1c')],
  [/RPM/, 0, [0xed, 0xab, 0xee, 0xdb]],
  [/cpio/, 0, latin('07070')],
  [/tar archive/, 257, latin('ustar')],
  [/squashfs/, 0, latin('hsqs')],
  [/qcow2/, 0, latin('QFI\xfb')],
  [/VMDK/, 0, latin('KDMV')],
  [/VHDX/, 0, latin('vhdxfile')],
  [/ISO 9660/, 0x8001, latin('CD001')],
  [/ext4/, 0x438, [0x53, 0xef]],
  [/boot sector/, 510, [0x55, 0xaa]],
  [/LFS/, 0, latin('version https://git-lfs')],
  [/base64/, 0, latin('f0VMR')],
];

describe.each(MARKS)('%s at %i', (kind, offset, mark) => {
  test('is found by its whole mark, in its place', () => {
    expect(findFileKind(fileWith(offset, mark))?.name).toMatch(kind);
    expect(findFileKind(fileWith(offset, mark).subarray(0, offset + mark.length))?.name).toMatch(kind);
    expect(findFileKind(fileWith(offset + 1, mark))).toBeUndefined();
    expect(findFileKind(fileWith(offset, mark).subarray(0, offset + mark.length - 1))).toBeUndefined();
  });

  test('is not found when any byte of it is another', () => {
    for (const at of mark.keys()) {
      const other = mark.map((byte, index) => (index === at ? 0x99 : byte));
      expect(findFileKind(fileWith(offset, other))).toBeUndefined();
    }
  });
});

test('a file without a mark is of no kind', () => {
  expect(findFileKind(fileWith(0, []))).toBeUndefined();
  expect(findFileKind(new Uint8Array())).toBeUndefined();
});

test('the first kind of several is meant: the one with the more exact mark', () => {
  const both = fileWith(510, [0x55, 0xaa]);
  both.set(latin('ustar'), 257);
  expect(findFileKind(both)?.name).toMatch(/tar archive/);
  both.set([0x1f, 0x8b], 0);
  expect(findFileKind(both)?.name).toMatch(/gzip/);
});

test('a compression is found by the bytes that are read for it', () => {
  expect(LONGEST_COMPRESSION_MARK_BYTES).toBe(6);
  expect(LONGEST_MARK_BYTES).toBe(0x8006);
  for (const [kind, offset, mark] of MARKS) {
    const compression = findCompression(fileWith(offset, mark).subarray(0, LONGEST_COMPRESSION_MARK_BYTES));
    const expected = /^(gzip|zstd|xz|bzip2|lzma|lzo|lz4)\$$/.exec(kind.source)?.[1] ?? null;
    expect(compression).toBe(expected);
  }
});
