/**
 * How Xen's domain builder takes in a Linux bzImage: it unpacks the payload into as many bytes as the size word at the end of
 * the payload says. Source: docs/loader.md. Nothing here throws.
 */
import { MAX_KERNEL_BYTES, notTaken, type TakenKernel, takeGzip } from './gzip-container.ts';

/** What is known about the bzImage that an image came in, after its payload was unpacked as far as that can be done. */
export interface BzImageFacts {
  /** Bytes of the payload, the size word included. */
  readonly payloadBytes: number;
  /** Where it ends in the bzImage. */
  readonly payloadEnd: number;
  /** Bytes of the bzImage. */
  readonly fileBytes: number;
  /** The first bytes of the payload. */
  readonly payloadStart: Uint8Array;
  /** How the payload is compressed; null for an ELF file. */
  readonly compression: string | null;
  /** The last four bytes of the payload as a little-endian number. */
  readonly sizeWord: number;
  /** What the first member of the payload unpacks to, in bytes; null when it is damaged or has no end. */
  readonly firstMemberBytes: number | null;
  /** What came out in all. */
  readonly unpackedBytes: number;
  /** What stopped the unpacking; null when all of the payload was unpacked. */
  readonly fault: 'cut' | 'damaged' | null;
  /** What the decoder noticed: `stored-block`, `other-than-one-checksum`, `frame-format`, `wrong-checksum`. */
  readonly traits: ReadonlySet<string>;
}

/** What the builder looks for at the start of a payload, in its order. */
const MARKS: readonly (readonly [compression: string, ...bytes: number[]])[] = [
  ['gzip', 0x1f, 0x8b],
  ['bzip2', 0x42, 0x5a, 0x68],
  ['xz', 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
  ['zstd', 0x28, 0xb5, 0x2f, 0xfd],
  ['lzma', 0x5d, 0x00],
  ['lzo', 0x89, 0x4c, 0x5a, 0x4f, 0x00],
  ['lz4', 0x02, 0x21],
];

/** The compression of a payload as the builder recognises it; null for one that it does not know. */
const findMark = (start: Uint8Array): string | null =>
  MARKS.find(([, ...bytes]) => bytes.every((byte, index) => start[index] === byte))?.[0] ?? null;

/** What the builder makes of a bzImage. */
export function takeBzImage(facts: BzImageFacts): TakenKernel {
  const { payloadBytes, compression, sizeWord, unpackedBytes, fault, traits } = facts;
  // The probe fails, and the loader for ELF gets the whole file.
  if (facts.payloadEnd > facts.fileBytes) return notTaken('no-loader');
  // The builder replaces the file by its payload before it looks at the compression, so the loader for ELF accepts it.
  if (compression === null) return { ok: true, kernelSize: payloadBytes, imageBytes: payloadBytes };
  if (findMark(facts.payloadStart) !== compression) return notTaken('unknown-compression');
  if (compression === 'gzip') {
    return takeGzip({ fileBytes: payloadBytes, sizeWord, firstMemberBytes: facts.firstMemberBytes });
  }
  if (sizeWord > MAX_KERNEL_BYTES) return notTaken('gzip-too-large');
  const name = compression.toUpperCase();
  const got = (bytes: number): TakenKernel =>
    notTaken('payload-size', `${name}: got 0x${bytes.toString(16)} bytes instead of 0x${sizeWord.toString(16)}`);
  const taken: TakenKernel = { ok: true, kernelSize: sizeWord, imageBytes: sizeWord };
  const failed = notTaken('payload-damaged', `xc_dom_probe_bzimage_kernel: unable to ${name} decompress kernel`);
  // Of these the builder reads all, of the others only the first member.
  if ((compression === 'lz4' || compression === 'zstd') && fault !== null) return failed;
  const firstMemberBytes = facts.firstMemberBytes ?? unpackedBytes;
  const isWhole = fault === null || facts.firstMemberBytes !== null;
  switch (compression) {
    case 'lz4':
      if (sizeWord < unpackedBytes) return notTaken('payload-damaged', 'LZ4: decoding failed');
      return sizeWord > unpackedBytes ? got(unpackedBytes) : taken;
    case 'zstd':
      if (sizeWord < unpackedBytes) return notTaken('payload-size', 'ZSTD: error: Destination buffer is too small');
      return sizeWord > unpackedBytes ? got(unpackedBytes) : taken;
    case 'lzo':
      if (!isWhole) return failed;
      if (traits.has('stored-block') || traits.has('other-than-one-checksum')) {
        return notTaken('payload-damaged', 'LZO1x decompression error: Look-behind overrun');
      }
      if (sizeWord < firstMemberBytes)
        return notTaken('payload-size', 'LZO1x decompression error: Output buffer overflow');
      if (sizeWord > firstMemberBytes)
        return notTaken('payload-size', 'LZO1x decompression error: Unexpected output size');
      return taken;
    default:
      // The first stream only, and of that as much as the size word says. What follows is read only when all was written:
      // then it may be missing, but not wrong.
      if (sizeWord > firstMemberBytes) return isWhole ? got(firstMemberBytes) : failed;
      return sizeWord < firstMemberBytes || isWhole || fault === 'cut' ? taken : failed;
  }
}
