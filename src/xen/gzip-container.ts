/**
 * How Xen's domain builder reads a kernel compressed with gzip. It trusts the last four bytes of the file, and unpacks
 * one member. Source: docs/loader.md. Nothing here throws.
 */
import { type BuilderRefusal, type BuilderRefusalCode, refuse } from './builder.ts';

/** What is known about the gzip file that an image came in. */
export interface GzipFacts {
  /** Bytes of the file. */
  readonly fileBytes: number;
  /** Its last four bytes as a little-endian number, which Xen takes for the size of the image. */
  readonly sizeWord: number;
  /** Unpacked size of its first member, the only one that Xen unpacks; null when that is damaged or has no end. */
  readonly firstMemberBytes: number | null;
}

/** The kernel that the builder passes to its loaders. */
export type TakenKernel =
  | {
      readonly ok: true;
      /** Bytes of the kernel as the builder sees it. */
      readonly kernelSize: number;
      /** How many of them come from the image; zeros follow. */
      readonly imageBytes: number;
    }
  | { readonly ok: false; readonly why: BuilderRefusal };

/** Zeros that the builder adds to what it unpacks. */
const EXTRA_BYTES = 16;
/** A larger size word is refused. */
const MAX_SIZE_WORD = 2 ** 30;
/** The largest kernel by default; of gzip with the extra bytes. */
export const MAX_KERNEL_BYTES = 2 ** 30;

/** What the builder makes of a gzip file. */
export function takeGzip({ fileBytes, sizeWord, firstMemberBytes }: GzipFacts): TakenKernel {
  if (sizeWord > MAX_SIZE_WORD) {
    const sizes = `size (zip ${fileBytes}, unzip ${sizeWord})`;
    return notTaken('gzip-size-insane', `xc_dom_check_gzip: ${sizes} looks insane, skip gunzip`);
  }
  const kernelSize = sizeWord + EXTRA_BYTES;
  if (kernelSize > MAX_KERNEL_BYTES) return notTaken('gzip-too-large');
  if (firstMemberBytes === null) return notTaken('gzip-inflate-failed', 'xc_dom_do_gunzip: inflate failed');
  if (firstMemberBytes > kernelSize) return notTaken('gzip-inflate-failed');
  return { ok: true, kernelSize, imageBytes: firstMemberBytes };
}

/** The builder passes no kernel on. @param reason default: the words of the code */
export const notTaken = (code: BuilderRefusalCode, reason?: string): TakenKernel => ({
  ok: false,
  why: refuse(code, reason),
});
