/** Messages between the main thread and the threads that unpack. */
import type { DecodeFault, DecoderOptions } from './unpack/decoder.ts';
import type { DecodedFormat } from './unpack/formats.ts';

/** An order to a thread about one stream. */
export type Order = { readonly id: number } & (
  | { readonly kind: 'open'; readonly format: DecodedFormat; readonly options: DecoderOptions }
  /** Follows `needs-input`. */
  | { readonly kind: 'input'; readonly bytes: Uint8Array }
  | { readonly kind: 'end' }
  /** Follows `memory`: the decoder may allocate it. */
  | { readonly kind: 'granted' }
  /** A piece was taken; its buffer comes back. */
  | { readonly kind: 'taken'; readonly buffer: ArrayBuffer }
  | { readonly kind: 'close' }
);

/** A report of a thread about one stream. */
export type Report = { readonly id: number } & (
  | { readonly kind: 'needs-input' }
  /** The decoder needs this much memory in all. */
  | { readonly kind: 'memory'; readonly bytes: number }
  | { readonly kind: 'piece'; readonly buffer: ArrayBuffer; readonly length: number }
  | { readonly kind: 'member' }
  | { readonly kind: 'trait'; readonly trait: string }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly fault: DecodeFault }
  | { readonly kind: 'broken'; readonly error: unknown }
  /** The last report: nothing of the stream is left. */
  | { readonly kind: 'closed' }
);

export const PIECE_BYTES = 256 * 1024;
/** Buffers of a stream: one is filled while the other is taken. */
export const PIECES = 2;
