/** The formats that are unpacked by the decoders of this folder. */
import { decodeBzip2 } from './bzip2.ts';
import type { DecoderOptions, Decoding, Input } from './decoder.ts';
import { decodeLz4 } from './lz4.ts';
import { decodeLzma } from './lzma.ts';
import { decodeLzop } from './lzop.ts';
import { decodeXz } from './xz.ts';

/** By the names of the compressions. */
export const DECODERS = {
  xz: decodeXz,
  lzma: decodeLzma,
  bzip2: decodeBzip2,
  lz4: decodeLz4,
  lzo: decodeLzop,
} as const satisfies Record<string, (input: Input, options: DecoderOptions) => Decoding>;

export type DecodedFormat = keyof typeof DECODERS;
