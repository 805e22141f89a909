/** The reference's measured answers, see `test/vectors`. Numbers that can pass 2^53 are hex strings there. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { GuestName, GuestOutcome } from '../../src/xen/guests/verdict.ts';

export interface Range {
  readonly pstart: string;
  readonly pend: string;
}

export interface BsdsymsVector {
  readonly name: string;
  /** Null: the end of the kernel. */
  readonly loadAddress: string | null;
  /** Base64. */
  readonly image: string;
  readonly expect: {
    readonly init: 'ok' | 'not-elf' | 'phdr-overflow' | 'shdr-overflow';
    readonly kernel: Range | null;
    /** As the reference reserves it. */
    readonly region: Range | null;
    readonly broken: { readonly stage: string; readonly reason: string } | null;
    readonly blob: { readonly length: number; readonly sizeWord: number; readonly sha256: string } | null;
  };
}

export interface HistoricalVector extends Pick<BsdsymsVector, 'name' | 'loadAddress' | 'image'> {
  readonly loader: 'xen-4.7' | 'xen-4.6' | 'libxc-4.6';
  readonly expect: {
    readonly region: Range;
    readonly blob: { readonly length: number; readonly sizeWord: number; readonly sha256: string };
  };
}

/** Addresses are hex strings, strings are themselves. */
export type GuestVector = Readonly<Record<string, unknown>> & {
  readonly ok: boolean;
  readonly error: string | null;
  /** In the reference's words. */
  readonly broken: string | null;
};

interface NotesVector {
  readonly name: string;
  readonly image: string;
  readonly brokenAtInit: string | null;
  readonly expect: { readonly pv: GuestVector; readonly hvm: GuestVector };
}

export interface FlatImageVector {
  readonly name: string;
  readonly image: string;
  readonly expect: {
    readonly pstart: string;
    readonly length: number;
    readonly sha256: string;
    /** Whether the symbols are part of it. */
    readonly bsdSymtab: boolean;
  };
}

/** What Xen's domain builder does with a file. */
interface ContainerAnswer {
  readonly accepted: boolean;
  readonly kernelSize: number | null;
  readonly sha256: string | null;
  readonly message: string | null;
  readonly loader: string | null;
  readonly guestType: string | null;
}

export interface ContainerVector {
  readonly name: string;
  /** Base64. */
  readonly file: string;
  readonly expect: ContainerAnswer;
  /** Where it differs in an HVM container. */
  readonly expectHvm?: ContainerAnswer | null;
}

interface GuestReading {
  readonly found: boolean;
  /** How many end up in the guest's table, as text as it can be beyond 2^53; null when none. */
  readonly symbols: string | null;
  /** Whether the guest read outside of the blob. It may have found a table all the same. */
  readonly readsOutside: boolean;
}

/** What guests make of a blob. */
interface GuestsVector {
  readonly name: string;
  /** Base64. */
  readonly blob: string;
  readonly expect: Readonly<Record<'freebsd' | 'netbsd' | 'netbsdKdtrace', GuestReading>> & {
    readonly xenTestFramework: GuestReading & { readonly message: string | null };
  };
}

/** A vector's name is not unique: the same image is measured at several load addresses. */
export const describeVector = ({ name, loadAddress }: Pick<BsdsymsVector, 'name' | 'loadAddress'>): string =>
  `${name} at ${loadAddress ?? 'the end of the kernel'}`;

export const imageOf = ({ image }: Pick<BsdsymsVector, 'image'>): Uint8Array =>
  new Uint8Array(Buffer.from(image, 'base64'));

export const loadAddressOf = ({ loadAddress }: Pick<BsdsymsVector, 'loadAddress'>): bigint | null =>
  loadAddress === null ? null : BigInt(loadAddress);

export const blobOf = ({ blob }: Pick<GuestsVector, 'blob'>): Uint8Array => new Uint8Array(Buffer.from(blob, 'base64'));

/** The verdict that a vector stands for; the number of symbols as text. */
export function expectedVerdict(
  { expect }: GuestsVector,
  guest: GuestName,
): { readonly outcome: GuestOutcome; readonly symbols: string | null } {
  const { found, symbols, readsOutside } = expect[guest === 'xtf' ? 'xenTestFramework' : guest];
  if (readsOutside) return { outcome: 'undefined', symbols: null };
  return { outcome: found ? 'found' : 'none', symbols };
}

/** Addresses as the vectors write them. */
export const hex = (value: bigint): string => `0x${value.toString(16)}`;

export const readBsdsymsVectors = (): readonly BsdsymsVector[] => readLines('bsdsyms.ndjson.gz') as BsdsymsVector[];

export const readHistoricalVectors = (): readonly HistoricalVector[] =>
  readLines('historical.ndjson.gz') as HistoricalVector[];

export const readNotesVectors = (): readonly NotesVector[] => readLines('xen-notes.ndjson.gz') as NotesVector[];

export const readFlatImageVectors = (): readonly FlatImageVector[] =>
  readLines('flat-image.ndjson.gz') as FlatImageVector[];

export const readContainerVectors = (): readonly ContainerVector[] =>
  readLines('containers.ndjson.gz') as ContainerVector[];

export const readGuestsVectors = (): readonly GuestsVector[] =>
  readLines('guests.ndjson.gz', (lines) => lines.replaceAll(/"symbols": ?(\d+)/g, '"symbols": "$1"')) as GuestsVector[];

function readLines(file: string, prepare = (lines: string): string => lines): unknown[] {
  const lines = gunzipSync(readFileSync(new URL(`../vectors/${file}`, import.meta.url))).toString();
  return prepare(lines)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}

/** A file that one of the tools made. */
interface CompressedVector {
  /** The command. */
  readonly name: string;
  readonly format: 'xz' | 'lzma' | 'bzip2' | 'lz4' | 'lzo';
  /** Base64. */
  readonly file: string;
  readonly expect: { readonly length: number; readonly sha256: string };
}

/** Made by `npm run test:tools -- --record test/vectors/compressed.ndjson.gz`, with xz 5.6 or later for the RISC-V filter. */
export const readCompressedVectors = (): readonly CompressedVector[] =>
  readLines('compressed.ndjson.gz') as CompressedVector[];
