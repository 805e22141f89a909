/** A blob, or a dump of the memory where one should be, through the eyes of guests. */
import { isDeepStrictEqual } from 'node:util';
import { SymbolBlock } from '../elf/symbols.ts';
import {
  BLOB_HEAD_BYTES,
  type BlobHeader,
  findsSectionNames,
  type GuestFinding,
  type GuestName,
  type GuestTable,
  type GuestTables,
  type GuestVerdict,
  type InspectedBlob,
  type InspectedTables,
  judge,
  locateSectionHeaders,
  nameFinding,
  readBlobHeader,
  type TableWalk,
  walkSections,
} from '../xen/guests/judge.ts';
import { SIZE_WORD_BYTES } from '../xen/loaders/bsdsyms.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Tables are looked at in blocks of about this size, so that none of them holds up other requests. */
const BLOCK_BYTES = 256 * 1024;

/** What was read of a blob, and what each guest makes of it. */
export interface VerifiedBlob extends InspectedBlob {
  readonly guests: Readonly<Record<GuestName, GuestVerdict>>;
}

/**
 * What guests would make of the bytes.
 *
 * @param address guest-physical, where the first byte was taken from; null when it is not known
 * @throws only what the source throws when it cannot be read
 */
export async function verifyBlob(source: ImageSource, address: bigint | null): Promise<VerifiedBlob> {
  const { size } = source;
  const head = await source.read(0, Math.min(size, BLOB_HEAD_BYTES));
  const bare = readBlobHeader(head);
  const header = bare ?? readBlobHeader(head.subarray(SIZE_WORD_BYTES));
  const blob: InspectedBlob = {
    size,
    address,
    sizeWord: bare === null && size >= SIZE_WORD_BYTES ? readWord(head) : null,
    header,
    tables: null,
    tablesFromZero: null,
    hasSectionNames: false,
    leakAt: null,
  };
  const inspected = header === null || bare !== null ? blob : { ...blob, ...(await inspect(source, header)) };
  return { ...inspected, guests: judge(inspected) };
}

async function inspect(
  source: ImageSource,
  header: BlobHeader,
): Promise<Omit<InspectedBlob, 'size' | 'address' | 'sizeWord' | 'header'>> {
  const at = clip(locateSectionHeaders(header), source.size);
  const sectionHeaders = await source.read(at.offset, at.length);
  const tables = await inspectTables(source, header, walkSections(header, sectionHeaders, 1));
  const fromZero = walkSections(header, sectionHeaders, 0);
  return {
    tables,
    tablesFromZero: isDeepStrictEqual(fromZero, tables.walk) ? tables : await inspectTables(source, header, fromZero),
    hasSectionNames: findsSectionNames(header, sectionHeaders, source.size),
    leakAt: await findLeak(source, header),
  };
}

const inspectTables = async (source: ImageSource, header: BlobHeader, walk: TableWalk): Promise<InspectedTables> => ({
  walk,
  ...(walk.found ? await checkNames(source, header, walk.tables) : { name: null, nameBeyond: null }),
});

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** What there is of a table. */
function clip({ offset, size }: GuestTable, available: number): Range {
  const end = BigInt(available);
  const from = offset < end ? offset : end;
  return { offset: Number(from), length: Number(size < end - from ? size : end - from) };
}

/** The first symbols whose names a guest cannot read to their end within the string table, or that begin beyond it. */
async function checkNames(
  source: ImageSource,
  { format, littleEndian }: BlobHeader,
  { symtab, strtab }: GuestTables,
): Promise<Omit<InspectedTables, 'walk'>> {
  const strings = clip(strtab, source.size);
  let first: GuestFinding | null = null;
  // A name that begins behind the last NUL has no end.
  const terminated = await findLastNul(source, strings);
  const { offset, length } = clip(symtab, source.size);
  const perBlock = Math.floor(BLOCK_BYTES / format.symbol.size);
  const count = Math.floor(length / format.symbol.size);
  for (let done = 0; done < count; done += perBlock) {
    const symbols = Math.min(perBlock, count - done);
    const bytes = await source.read(offset + done * format.symbol.size, symbols * format.symbol.size);
    const block = new SymbolBlock(bytes, done, format, littleEndian);
    for (let at = 0; at < block.count; at++) {
      const name = block.nameOffset(at);
      if (name <= terminated) continue;
      const isBeyond = BigInt(name) > strtab.size;
      if (first !== null && !isBeyond) continue;
      const code = name >= strings.length ? 'symbol-name-outside' : 'symbol-name-unterminated';
      const found = nameFinding(code, done + at, name, strings.length);
      first ??= found;
      if (isBeyond) return { name: first, nameBeyond: found };
    }
    await nextTurn();
  }
  return { name: first, nameBeyond: null };
}

/** @returns its place in the range, -1 when there is none */
async function findLastNul(source: ImageSource, { offset, length }: Range): Promise<number> {
  for (let end = length; end > 0; ) {
    const from = Math.max(0, end - BLOCK_BYTES);
    const at = (await source.read(offset + from, end - from)).lastIndexOf(0);
    if (at !== -1) return from + at;
    end = from;
    await nextTurn();
  }
  return -1;
}

/** The first byte between ELF header and section headers that is not zero, counted from the start of the blob. */
async function findLeak(source: ImageSource, { ehsize, shoff }: BlobHeader): Promise<number | null> {
  const from = BigInt(SIZE_WORD_BYTES + ehsize);
  const bytes = BigInt(SIZE_WORD_BYTES) + shoff - from;
  const { offset, length } = clip({ offset: from, size: bytes > 0n ? bytes : 0n }, source.size);
  for (let at = 0; at < length; at += BLOCK_BYTES) {
    const block = await source.read(offset + at, Math.min(BLOCK_BYTES, length - at));
    const leak = block.findIndex((byte) => byte !== 0);
    if (leak !== -1) return offset + at + leak;
    await nextTurn();
  }
  return null;
}

const readWord = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
