/** Recognises ELF files that are not kernels, or were sent in place of a symbol blob. */
import { ELF64, PT_INTERP, PT_LOAD } from '../elf/format.ts';
import { identify, locateHeaders } from '../elf/headers.ts';
import { U64_END } from '../elf/u64.ts';
import { type Headers, View } from '../elf/view.ts';
import type { ImageSource } from './image-source.ts';
import { findTextDamage, readStart } from './recognise.ts';

/** The interpreter that FreeBSD kernels name; programs name one that exists. */
const KERNEL_INTERPRETER = '/red/herring';
/** Shared objects are linked to begin below this address, kernels are not. */
const LOWEST_KERNEL_ADDRESS = 0x1_0000n;

/**
 * What an ELF image is when it is not a kernel, and what to do, in sentences.
 *
 * @returns null when it may be a kernel
 * @throws only what the source throws when it cannot be read
 */
export async function recogniseElf(source: ImageSource, headers: Headers): Promise<string | null> {
  const damage = findHeaderDamage(headers);
  if (damage !== null) return damage;
  const { type } = identify(headers);
  if (type === 'REL') {
    return 'The image is a relocatable object (ET_REL), such as an object file (.o) or a kernel module (.ko). Use the linked kernel.';
  }
  if (type === 'CORE') {
    return 'The image is a core dump (ET_CORE). Use the kernel that was running.';
  }
  if (findShape(headers) === 'blob') {
    return 'It looks like a symbol blob without its size word. Verify it to see what guests make of it (POST /verify, bsdsyms verify, or the page).';
  }
  const { interpreter, lowest } = await readPrograms(source, headers);
  if (interpreter === KERNEL_INTERPRETER) return null;
  if (interpreter.startsWith('/')) {
    return 'It looks like a user-space program: it names an interpreter (PT_INTERP). Use a kernel.';
  }
  if (type === 'DYN' && lowest < LOWEST_KERNEL_ADDRESS) {
    return 'It looks like a shared library, a kernel module or a user-space program (ET_DYN, linked at address 0). Use a kernel.';
  }
  return null;
}

/** How handling as text damaged the ELF header of an image; null when it did not. */
export function findHeaderDamage({ imageSize, elfHeader: { bytes } }: Headers): string | null {
  return findTextDamage(new Uint8Array(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, imageSize)));
}

/**
 * Why a file is neither a symbol blob nor a dump of memory that begins with one, in a sentence.
 *
 * A dump may begin with anything, so only files that are certainly something else are refused: empty ones, ELF images,
 * and bytes that were handled as text. A dump may begin with the ELF header of a blob, without its size word.
 *
 * @returns null when it may be a blob
 * @throws only what the source throws when it cannot be read
 */
export async function findBlobRejection(source: ImageSource): Promise<string | null> {
  if (source.size === 0) return 'The file is empty. Check the step that produced it.';
  const start = await readStart(source);
  const damage = findTextDamage(start);
  if (damage !== null) return damage;
  const located = locateHeaders(start, source.size);
  if (located === null || findShape(located) !== 'image') return null;
  return (
    'The file is an ELF image, not a symbol blob, which begins with a size word. ' +
    'Its blob has to be made first (POST /bsdsyms, bsdsyms blob, or the page).'
  );
}

/**
 * Whether an ELF header is an image's or a blob's; null when it leads to no headers. An image has program headers,
 * or section headers anywhere; a blob has section headers only, right after its ELF header.
 */
function findShape({
  imageSize,
  format,
  elfHeader,
}: Pick<Headers, 'imageSize' | 'format' | 'elfHeader'>): 'image' | 'blob' | null {
  const { e_phnum, e_shnum, e_shoff, e_ehsize } = format.elfHeader.fields;
  // The fields that loaders replace are little-endian in every blob; whether a field is 0 does not depend on that.
  const view = new View({ imageSize, littleEndian: true });
  if (view.number(elfHeader, 0, e_phnum) !== 0) return 'image';
  if (view.number(elfHeader, 0, e_shnum) === 0) return null;
  const shoff = view.bigint(elfHeader, 0, e_shoff);
  const isOfBlob = shoff === BigInt(ELF64.elfHeader.size) || shoff === BigInt(view.number(elfHeader, 0, e_ehsize));
  return isOfBlob ? 'blob' : 'image';
}

interface Programs {
  /** The start of the path that PT_INTERP holds; empty when there is none. */
  readonly interpreter: string;
  /** The lowest `p_vaddr` of the PT_LOAD segments. */
  readonly lowest: bigint;
}

async function readPrograms(source: ImageSource, headers: Headers): Promise<Programs> {
  const { programHeaders: table, format } = headers;
  const { p_type, p_offset, p_filesz, p_vaddr } = format.programHeader.fields;
  const view = new View(headers);
  let lowest = U64_END;
  let path: ReturnType<View['range']> = null;
  for (let index = 0; index < table.count; index++) {
    const type = view.number(table, index, p_type);
    if (type === PT_LOAD) {
      const vaddr = view.bigint(table, index, p_vaddr);
      if (vaddr < lowest) lowest = vaddr;
    } else if (type === PT_INTERP) {
      path ??= view.range('interpreter', view.bigint(table, index, p_offset), view.bigint(table, index, p_filesz));
    }
  }
  if (path === null) return { interpreter: '', lowest };
  const bytes = await source.read(path.offset, Math.min(path.length, KERNEL_INTERPRETER.length));
  return { interpreter: String.fromCharCode(...bytes), lowest };
}
