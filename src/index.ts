/**
 * bsdsyms as a library: from the ELF image of a kernel to the symbols that Xen places after it.
 *
 * An image is a source of bytes; `openImageFile` opens a file as one. `loadImage` reads its headers and plans the blob,
 * `streamExtents` produces the bytes. The reports are the JSON of the service. See docs/library.md.
 */

export { type ElfImage, type ImageIdentity, type InitFailure, init as initImage } from './elf/headers.ts';
export type { Finding, Recorded, RecordedCode, Stage } from './elf/recorder.ts';
export type { Headers } from './elf/view.ts';
export { FileError, type FileErrorCode, FileSource } from './image/file.ts';
export type { GatheredImage, StoreLimits } from './image/gather.ts';
export { MemorySource } from './image/memory.ts';
export { openImageFile, openImageStream, openImageUrl } from './image/open.ts';
export type { UrlLimits } from './image/remote/open-url.ts';
export type { SourceLimits } from './image/remote/origin.ts';
export {
  type CheckedImage,
  type CheckRequest,
  checkImage,
  REQUIREMENTS,
  type Requirement,
  type RequirementName,
} from './inspect/check.ts';
export { ImageError, type ImageErrorCode, type SourceErrorCode } from './inspect/image-error.ts';
export type { Compression, ImageSource } from './inspect/image-source.ts';
export {
  type FlatRequest,
  type FlattenedImage,
  flattenImage,
  type ImageFacts,
  type InspectedKernel,
  inspectKernel,
  type LoadedImage,
  type LoadRequest,
  loadImage,
  type OnBroken,
  type OpenedImage,
  type OpenedSymbols,
  openImage,
  openSymbols,
  type RefusedImage,
  type RefusedKernel,
  type SymbolsChoice,
} from './inspect/load.ts';
export { readHeaders } from './inspect/read-headers.ts';
export { streamExtents } from './inspect/stream-extents.ts';
export type { SymbolName } from './inspect/string-table.ts';
export {
  findSymbols,
  listSymbols,
  type Page as SymbolPage,
  type ResolvedAddress,
  resolveAddresses,
  SymbolTable,
  type TableSymbol,
} from './inspect/symbol-table.ts';
export { type VerifiedBlob, verifyBlob } from './inspect/verify.ts';
export { toCheckReport, writeCheckText, writeJunit } from './report/check.ts';
export { toFlatLayout, toKernelReport } from './report/kernel.ts';
export { toLayout } from './report/layout.ts';
export { type PictureOptions, toPicture } from './report/picture/picture.ts';
export { PICTURE_CSS } from './report/picture/theme.ts';
export {
  IMAGE_PROBLEM_KINDS,
  type ImageProblemCode,
  type ProblemDocument,
  type ProblemKind,
  type ProblemSubject,
  toProblemDocument,
} from './report/problem.ts';
export type { CheckReport, FlatLayout, GuestReport, KernelReport, Layout, VerifyReport } from './report/schemas.ts';
export { toVerifyReport } from './report/verify.ts';
export { BROKEN_KINDS, type Broken, type BrokenCode, type BrokenKind } from './xen/broken.ts';
export {
  BUILDER_REFUSALS,
  type BuilderRefusal,
  type BuilderRefusalCode,
  type BuilderVerdict,
  type HvmVerdict,
  type PvGuestType,
  type PvVerdict,
} from './xen/builder.ts';
export {
  type BlobRange,
  type Comparison,
  type Difference,
  type DifferenceKind,
  type FieldDifference,
} from './xen/compare.ts';
export { type FlatImage, type FlatImageOptions, type FlatImagePlan, planFlatImage } from './xen/flat-image.ts';
export {
  GUEST_FINDINGS,
  GUESTS,
  type GuestFindingCode,
  type GuestName,
  type GuestOutcome,
  type GuestVerdict,
  type GuestVerdicts,
} from './xen/guests/verdict.ts';
export {
  DEFAULT_LOADER,
  LOADERS,
  type Loader,
  type LoadOptions,
  loadSymbols,
  type SymbolLoad,
  type SymbolPlan,
} from './xen/loaders/bsdsyms.ts';
export type { PlannedTable } from './xen/loaders/layout.ts';
export type { GuestKind, GuestParameters, NoteName } from './xen/notes/guest-parameters.ts';
export type { XenNotes } from './xen/notes/walk.ts';
export type { Extent } from './xen/plan.ts';
export { findKernelRange, type KernelRange, type LocatedKernel, listSegments, type Segment } from './xen/segments.ts';
export { planWarnings, WARNING_KINDS, type Warning, type WarningCode } from './xen/warnings.ts';
