/** What the page and its worker say to each other. */
import type { ProblemDocument } from '../report/problem.ts';
import type {
  AddressReport,
  CheckReport,
  KernelReport,
  Layout,
  SymbolReport,
  VerifyReport,
} from '../report/schemas.ts';

/** The parameters of a layout, as text; those that are not given are absent. */
export type ParameterTexts = Readonly<Record<string, string>>;

/** What the worker is asked. Opening, loading and verifying end what was going on before. */
export type Order =
  /** Opens a file; a symbol blob is verified, anything else is loaded as a kernel. */
  | { readonly kind: 'open'; readonly file: Blob; readonly parameters: ParameterTexts }
  /** Loads the kernel that is open with other parameters. */
  | { readonly kind: 'load'; readonly parameters: ParameterTexts }
  /** Verifies a blob or a dump. @property address guest-physical, as text; empty when unknown */
  | { readonly kind: 'verify'; readonly file: Blob; readonly address: string }
  /** Ends what is going on. */
  | { readonly kind: 'cancel' }
  | Question;

/** What is asked about the kernel that is open. */
export type Question =
  /** The blob, for a download. */
  | { readonly kind: 'blob' }
  /** The picture as a file. */
  | { readonly kind: 'picture' }
  /** Bytes of the blob, of the one that it is compared with, or of the image. */
  | { readonly kind: 'bytes'; readonly of: BytesOf; readonly offset: number; readonly length: number }
  /** Symbols by name, by the beginning of a name, or by address. */
  | { readonly kind: 'symbols'; readonly text: string };

export type BytesOf = 'own' | 'other' | 'image';

/** An order with the number that all answers to it bear. */
export interface Numbered<T> {
  readonly id: number;
  readonly order: T;
}

/** What is found out about a kernel or a blob, one after the other. */
export type Finding =
  /** @property compression how the image was compressed, or null. @property size of the image in bytes */
  | { readonly kind: 'opened'; readonly compression: string | null; readonly size: number }
  | LoadedFinding
  | RefusedFinding
  | { readonly kind: 'kernel'; readonly report: KernelReport }
  | { readonly kind: 'check'; readonly requirements: CheckReport['requirements'] }
  | { readonly kind: 'verified'; readonly report: VerifyReport };

export interface LoadedFinding {
  readonly kind: 'layout';
  readonly report: Layout;
  /** SVG, to become a part of the page. */
  readonly picture: string;
  /** What the codes of its warnings mean. */
  readonly meanings: Readonly<Record<string, string>>;
}

/** Why there is no layout. */
export interface RefusedFinding {
  readonly kind: 'refused';
  /** What the service answers. */
  readonly problem: ProblemDocument;
  /** What the code means and what to do. */
  readonly explanation: string;
  /** Where in the image it was found. */
  readonly place: Place | null;
  /** Whether `onBroken=load` goes on despite it. */
  readonly canLoad: boolean;
}

/** A range of the image that a reason is about. */
export interface Place {
  /** Such as `e_shoff of the ELF header`. */
  readonly what: string;
  /** In hex, real or claimed; null when the reason is not about bytes. */
  readonly offset: string | null;
  readonly length: string | null;
  /** What lies there, as far as it is inside of the image: its first bytes. */
  readonly bytes: Uint8Array | null;
}

/** How far long work is. */
export interface Progress {
  readonly kind: 'progress';
  readonly what: string;
  /** Bytes that are done, and all of them. */
  readonly done: number;
  readonly total: number;
}

/** Found symbols: those of this name, or of names that begin with it, or the one that stands for an address. */
export type SymbolAnswer =
  | { readonly by: 'name' | 'prefix'; readonly symbols: readonly SymbolReport[]; readonly more: boolean }
  | { readonly by: 'address'; readonly address: AddressReport };

/** The answer to a question. */
export type Answer =
  | { readonly kind: 'file'; readonly file: Blob }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'symbols'; readonly answer: SymbolAnswer };

/** What the worker says. Each order ends with `done`, `failed` or `cancelled`. */
export type Report = { readonly id: number } & (
  | Finding
  | Progress
  | Answer
  | { readonly kind: 'done' }
  /** Something that cannot be answered, or that went wrong here: a sentence. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'cancelled' }
);
