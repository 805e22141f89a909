/** What the threads that unpack are told, and what they tell. */
import type { DecodeFault, DecoderOptions } from './unpack/decoder.ts';
import type { DecodedFormat } from './unpack/formats.ts';

/** What the thread is to do with one stream. */
export type Order = { readonly id: number } & (
  | { readonly kind: 'open'; readonly format: DecodedFormat; readonly options: DecoderOptions }
  /** Follows `needs-input`. */
  | { readonly kind: 'input'; readonly bytes: Uint8Array }
  | { readonly kind: 'end' }
  /** The memory may be taken. */
  | { readonly kind: 'granted' }
  /** A piece was taken; its buffer comes back. */
  | { readonly kind: 'taken'; readonly buffer: ArrayBuffer }
  | { readonly kind: 'close' }
);

/** What the thread reports of one stream. */
export type Report = { readonly id: number } & (
  | { readonly kind: 'needs-input' }
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
/** Pieces on their way: one is filled while the one before is taken. */
export const PIECES = 2;
