/**
 * How Xen's domain builder takes in a kernel that is packed with gzip. It believes the last four bytes of the file, and
 * unpacks one member. Source: docs/loader.md. Nothing here throws.
 */
import { BUILDER_REFUSALS, type BuilderRefusal } from './builder.ts';

/** What is known of the gzip file that an image came in. */
export interface GzipFacts {
  /** Bytes of the file. */
  readonly fileBytes: number;
  /** Its last four bytes as a little-endian number, which Xen takes for the size of the image. */
  readonly sizeWord: number;
  /** What its first member unpacks to, in bytes. Xen unpacks no other. */
  readonly firstMemberBytes: number;
}

/** What the builder has of a file before any loader looks at it. */
export type TakenKernel =
  | {
      readonly ok: true;
      /** Bytes of the kernel as the builder sees it. */
      readonly kernelSize: number;
      /** So many of them are the image's first ones; zeros follow. */
      readonly imageBytes: number;
    }
  | { readonly ok: false; readonly why: BuilderRefusal };

/** The builder adds so many zeros to what it unpacks. */
const EXTRA_BYTES = 16;
/** A size word above this is taken for nonsense. */
const MAX_SIZE_WORD = 2 ** 30;
/** The largest kernel by default, the extra bytes included. */
const MAX_KERNEL_BYTES = 2 ** 30;

/** What the builder makes of a gzip file. */
export function takeGzip({ fileBytes, sizeWord, firstMemberBytes }: GzipFacts): TakenKernel {
  if (sizeWord > MAX_SIZE_WORD) {
    const sizes = `size (zip ${fileBytes}, unzip ${sizeWord})`;
    return refuse('gzip-size-insane', `xc_dom_check_gzip: ${sizes} looks insane, skip gunzip`);
  }
  const kernelSize = sizeWord + EXTRA_BYTES;
  if (kernelSize > MAX_KERNEL_BYTES) return refuse('gzip-too-large');
  if (firstMemberBytes > kernelSize) return refuse('gzip-inflate-failed');
  return { ok: true, kernelSize, imageBytes: firstMemberBytes };
}

const refuse = (code: keyof typeof BUILDER_REFUSALS, reason: string = BUILDER_REFUSALS[code]): TakenKernel => ({
  ok: false,
  why: { code, reason },
});
