/** The kinds of files that are given as kernels, intentionally or not, and the bytes that identify them. */
import { ELF_MAGIC } from '../elf/format.ts';

/** Bytes at an offset of a file. */
interface Mark {
  readonly offset: number;
  readonly bytes: readonly number[];
}

interface FileKind {
  /** As in "It looks like …". */
  readonly name: string;
  /** What to do with such a file: one sentence. */
  readonly advice: string;
  readonly mark: Mark;
  /** The compression of a compressed file, null for any other. */
  readonly compression: string | null;
}

/** @param parts bytes, or text in ASCII */
const mark = (offset: number, ...parts: readonly (number | string)[]): Mark => ({
  offset,
  bytes: parts.flatMap((part) =>
    typeof part === 'number' ? [part] : Array.from(part, (character) => character.charCodeAt(0)),
  ),
});

const compressed = (compression: string, ...bytes: readonly (number | string)[]): FileKind => ({
  name: `a file compressed with ${compression}`,
  advice: 'Only one layer of compression is removed: decompress it first.',
  mark: mark(0, ...bytes),
  compression,
});

const kind = (name: string, advice: string, at: Mark): FileKind => ({ name, advice, mark: at, compression: null });

const EXTRACT = 'First extract the kernel from it.';
const USE_SOURCE = 'Use the ELF kernel (vmlinux) that it was made from.';
const USE_ELF = 'Use an ELF kernel.';
const DUMP = 'Use the kernel that was running.';

/** In the order in which they are tried: exact marks first. */
const FILE_KINDS: readonly FileKind[] = [
  compressed('gzip', 0x1f, 0x8b),
  compressed('zstd', 0x28, 0xb5, 0x2f, 0xfd),
  compressed('xz', 0xfd, '7zXZ', 0),
  compressed('bzip2', 'BZh'),
  compressed('lzma', 0x5d, 0, 0),
  compressed('lzo', 0x89, 'LZO', 0),
  compressed('lz4', 0x04, 0x22, 0x4d, 0x18),
  compressed('lz4', 0x02, 0x21, 0x4c, 0x18),

  kind(
    'a symbol blob: a size word, then an ELF header',
    'Verify it to see what guests make of it (POST /verify, bsdsyms verify, or the page).',
    mark(4, ...ELF_MAGIC),
  ),

  kind('a Linux bzImage', USE_SOURCE, mark(0x202, 'HdrS')),
  kind('a Linux Image for arm64', USE_SOURCE, mark(0x38, 'ARMd')),
  kind('a Linux Image for RISC-V', USE_SOURCE, mark(0x38, 'RSC', 5)),
  kind('a Linux zImage', USE_SOURCE, mark(0x24, 0x18, 0x28, 0x6f, 0x01)),
  kind('a Linux EFI zboot image', USE_SOURCE, mark(4, 'zimg')),
  kind('a U-Boot uImage', 'Use the ELF kernel that it was made from.', mark(0, 0x27, 0x05, 0x19, 0x56)),
  kind('a FIT image or a device tree', 'Use the ELF kernel itself.', mark(0, 0xd0, 0x0d, 0xfe, 0xed)),
  kind('an Android boot image', EXTRACT, mark(0, 'ANDROID!')),
  kind('an Android boot image', EXTRACT, mark(0, 'VNDRBOOT')),
  kind('an EFI or Windows program (PE)', 'Use the ELF kernel that it was made from.', mark(0, 'MZ')),
  kind('a Mach-O program', USE_ELF, mark(0, 0xcf, 0xfa, 0xed, 0xfe)),
  kind('a Mach-O program', USE_ELF, mark(0, 0xce, 0xfa, 0xed, 0xfe)),
  kind('a Java class or a universal Mach-O program', USE_ELF, mark(0, 0xca, 0xfe, 0xba, 0xbe)),
  kind('a WebAssembly module', USE_ELF, mark(0, 0, 'asm')),
  kind('LLVM bitcode', 'Use the kernel that was linked from it.', mark(0, 'BC', 0xc0, 0xde)),
  kind('a kernel crash dump (kdump)', DUMP, mark(0, 'KDUMP   ')),
  kind('a kernel crash dump of FreeBSD', DUMP, mark(0, 'minidump FreeBSD')),

  kind('an ar archive, such as a static library or a .deb package', EXTRACT, mark(0, '!<arch>\n')),
  kind('a zip archive', EXTRACT, mark(0, 'PK', 3, 4)),
  kind('a 7z archive', EXTRACT, mark(0, '7z', 0xbc, 0xaf, 0x27, 0x1c)),
  kind('an RPM package', EXTRACT, mark(0, 0xed, 0xab, 0xee, 0xdb)),
  kind('a cpio archive, such as an initramfs', 'Use the kernel, not its initramfs.', mark(0, '07070')),
  kind('a tar archive', EXTRACT, mark(257, 'ustar')),

  kind('a squashfs file system', EXTRACT, mark(0, 'hsqs')),
  kind('a disk image (qcow2)', EXTRACT, mark(0, 'QFI', 0xfb)),
  kind('a disk image (VMDK)', EXTRACT, mark(0, 'KDMV')),
  kind('a disk image (VHDX)', EXTRACT, mark(0, 'vhdxfile')),
  kind('an ISO 9660 image', EXTRACT, mark(0x8001, 'CD001')),
  kind('an ext4 file system', EXTRACT, mark(0x438, 0x53, 0xef)),
  kind('a disk image or a boot sector', EXTRACT, mark(510, 0x55, 0xaa)),

  kind('a Git LFS pointer', 'Fetch the file itself (git lfs pull).', mark(0, 'version https://git-lfs')),
  kind('an ELF file in base64', 'Decode it first (base64 -d).', mark(0, 'f0VMR')),
];

const COMPRESSIONS = FILE_KINDS.filter(({ compression }) => compression !== null);

const longestMark = (kinds: readonly FileKind[]): number =>
  Math.max(...kinds.map(({ mark: { offset, bytes } }) => offset + bytes.length));
/** How much of a file's start shows its kind. */
export const LONGEST_MARK_BYTES = longestMark(FILE_KINDS);
/** How much of a file's start shows whether, and how, it is compressed. */
export const LONGEST_COMPRESSION_MARK_BYTES = longestMark(COMPRESSIONS);

const find = (kinds: readonly FileKind[], start: Uint8Array): FileKind | undefined =>
  kinds.find(({ mark: { offset, bytes } }) => bytes.every((byte, index) => start[offset + index] === byte));

/** @param start up to `LONGEST_MARK_BYTES` of the file */
export const findFileKind = (start: Uint8Array): FileKind | undefined => find(FILE_KINDS, start);

/** How a file that begins like this is compressed; null when it is not. Not every compression is unpacked. */
export const findCompression = (start: Uint8Array): string | null => find(COMPRESSIONS, start)?.compression ?? null;
