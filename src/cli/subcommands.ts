/** The subcommands, one for each route of the service that takes a file. */
import type { Config } from '../config.ts';
import { hex } from '../elf/hex.ts';
import { type CheckedImage, checkImage } from '../inspect/check.ts';
import { ImageError } from '../inspect/image-error.ts';
import type { Compression, ImageSource } from '../inspect/image-source.ts';
import { flattenImage, inspectKernel, loadImage, openSymbols, type RefusedImage } from '../inspect/load.ts';
import { findBlobRejection } from '../inspect/recognise-elf.ts';
import { streamExtents } from '../inspect/stream-extents.ts';
import { verifyBlob } from '../inspect/verify.ts';
import {
  CHECK_PARAMETERS,
  FLAT_PARAMETERS,
  findSymbolConflict,
  KERNEL_PARAMETERS,
  LAYOUT_PARAMETERS,
  LOAD_PARAMETERS,
  type Parameters,
  type ParameterValues,
  SYMBOL_PARAMETERS,
  toSymbolQuery,
  VERIFY_PARAMETERS,
} from '../parameters.ts';
import { summarizeCheck, toCheckReport, toFailedCheck, writeCheckText, writeJunit } from '../report/check.ts';
import { toFlatLayout, toKernelReport } from '../report/kernel.ts';
import { toLayout } from '../report/layout.ts';
import type { ImageProblemCode } from '../report/problem.ts';
import {
  DEFAULT_PAGE_SYMBOLS,
  type NotFound,
  writeSymbolLines,
  writeSymbols,
  writeSymbolText,
} from '../report/symbols.ts';
import { printable } from '../report/table.ts';
import { toVerifyReport } from '../report/verify.ts';
import { type Broken, reportRecorded } from '../xen/broken.ts';
import type { Warning } from '../xen/warnings.ts';
import type { Piece } from './output.ts';

/** The settings that the command shares with the service. */
export const LIMITS = [
  'maxImageBytes',
  'maxBlobBytes',
  'maxFlatBytes',
  'memoryBudgetBytes',
  'spoolDir',
  'spoolBudgetBytes',
  'imageSourceHeadersFile',
  'sourceMaxRequests',
  'sourceConnectTimeoutMs',
  'sourceStallTimeoutMs',
  'sourceTimeoutMs',
] as const satisfies readonly (keyof Config)[];
export type Limits = Pick<Config, (typeof LIMITS)[number]>;

/**
 * The formats of output. Bytes are never written to a terminal. `table` is `text` in columns, for people alone; where a log may
 * be read by programs too, both exist.
 */
export type Format = 'bytes' | 'json' | 'ndjson' | 'text' | 'table' | 'svg';

/** What is written to a file of its own besides. */
export const REPORTS = {
  junit: 'Writes the requirements to this file as JUnit XML, which CI systems show as tests.',
} as const;
export type ReportName = keyof typeof REPORTS;

/** One run of a subcommand. */
interface Run<P extends Parameters = Parameters> {
  readonly source: ImageSource;
  readonly compression: Compression | null;
  readonly parameters: ParameterValues<P>;
  readonly limits: Limits;
  readonly format: Format;
}

/** The answer is complete, but not the one that was hoped for. */
interface Failure {
  /** Null for what the service does not refuse. */
  readonly code: ImageProblemCode | null;
  readonly detail: string;
}

/** The output, and remarks on it. */
export interface Result {
  readonly ok: true;
  readonly output: AsyncIterable<Piece> | Iterable<Piece>;
  /** For standard error; JSON contains it. */
  readonly broken?: Broken | null;
  readonly warnings?: readonly Warning[];
  /** Why the status is 1 although everything is written; asked when it is. */
  readonly failure?: () => Failure | null;
  /** What can be written to a file of its own. */
  readonly reports?: Readonly<Partial<Record<ReportName, () => string>>>;
}

export interface Subcommand<P extends Parameters = Parameters> {
  readonly summary: string;
  readonly parameters: P;
  /** Says which parameters, each valid by itself, cannot be given together. */
  readonly conflict?: (isGiven: (name: string) => boolean) => string | null;
  /** False for a file that is not an image: it is read as it is. */
  readonly unpack?: boolean;
  /** The first is the default. */
  readonly formats: readonly [Format, ...Format[]];
  /** The default on a terminal; without it, the first. */
  readonly terminalFormat?: Format;
  readonly reports?: readonly ReportName[];
  /** @throws ImageError for a file of the wrong kind, and what the source throws when it cannot be read */
  run(run: Run<P>): Promise<Result | RefusedImage>;
}

const json = (document: unknown): Result => ({ ok: true, output: [JSON.stringify(document)] });

/** The text for people; what writes it is loaded only then. */
const text = async (write: (writers: typeof import('../report/text.ts')) => string): Promise<Result> => ({
  ok: true,
  output: [write(await import('../report/text.ts'))],
});

const blob: Subcommand<typeof LOAD_PARAMETERS> = {
  summary: 'Writes the symbol blob that Xen places after a kernel.',
  parameters: LOAD_PARAMETERS,
  formats: ['bytes'],
  async run({ source, parameters, limits }) {
    const loaded = await loadImage(source, { ...parameters, maxBlobBytes: limits.maxBlobBytes });
    if (!loaded.ok) return loaded;
    const { plan, broken, warnings } = loaded;
    return { ok: true, output: streamExtents(source, plan.extents), broken, warnings };
  },
};

const layout: Subcommand<typeof LAYOUT_PARAMETERS> = {
  summary: 'Writes where the symbols lie, what they consist of and what guests make of them, or a picture of it.',
  parameters: LAYOUT_PARAMETERS,
  formats: ['json', 'text', 'svg'],
  terminalFormat: 'text',
  async run({ source, compression, parameters, limits: { maxBlobBytes }, format }) {
    const loaded = await loadImage(source, { ...parameters, maxBlobBytes, askGuests: format !== 'svg' });
    if (!loaded.ok) return loaded;
    if (format !== 'svg') {
      const report = toLayout(loaded, compression);
      return format === 'text' ? text(({ writeLayoutText }) => writeLayoutText(report)) : json(report);
    }
    // Loaded when it is wanted: the start of the command is most of its time.
    const { toPicture } = await import('../report/picture/picture.ts');
    const { broken, warnings } = loaded;
    return { ok: true, output: [await toPicture(loaded)], broken, warnings };
  },
};

const kernel: Subcommand<typeof KERNEL_PARAMETERS> = {
  summary: 'Writes what Xen makes of a kernel: segments, notes, whether it would start.',
  parameters: KERNEL_PARAMETERS,
  formats: ['json', 'text'],
  terminalFormat: 'text',
  async run({ source, compression, format }) {
    const inspected = await inspectKernel(source);
    if (!inspected.ok) return inspected;
    const report = toKernelReport(inspected, compression);
    return format === 'text' ? text(({ writeKernelText }) => writeKernelText(report)) : json(report);
  },
};

const image: Subcommand<typeof FLAT_PARAMETERS> = {
  summary: 'Writes the kernel as it lies in guest memory, or with --json the extents that it consists of.',
  parameters: FLAT_PARAMETERS,
  formats: ['bytes', 'json'],
  async run({ source, compression, parameters, limits: { maxBlobBytes, maxFlatBytes }, format }) {
    const flattened = await flattenImage(source, { ...parameters, maxBlobBytes, maxFlatBytes });
    if (!flattened.ok) return flattened;
    if (format === 'json') return json(toFlatLayout(flattened, compression));
    const { plan, broken } = flattened;
    return { ok: true, output: streamExtents(source, plan.extents), broken };
  },
};

const symbols: Subcommand<typeof SYMBOL_PARAMETERS> = {
  summary: 'Writes symbols by name, by address or in pages.',
  parameters: SYMBOL_PARAMETERS,
  conflict: findSymbolConflict,
  formats: ['json', 'ndjson', 'text'],
  terminalFormat: 'text',
  async run({ source, compression, parameters, format }) {
    const opened = await openSymbols(source);
    if (!opened.ok) return opened;
    let failure: Failure | null = null;
    async function* watch(pieces: AsyncGenerator<string, NotFound>): AsyncGenerator<string> {
      failure = describeMissing(yield* pieces);
    }
    if (format === 'json') {
      const query = toSymbolQuery(parameters, DEFAULT_PAGE_SYMBOLS);
      return { ok: true, output: watch(writeSymbols(opened, query, compression)), failure: () => failure };
    }
    const broken = reportRecorded(opened.elf.recorded);
    const write = format === 'text' ? writeSymbolText : writeSymbolLines;
    return { ok: true, output: watch(write(opened, toSymbolQuery(parameters, null))), broken, failure: () => failure };
  },
};

/** How many of those that were not found are named. */
const MAX_NAMED = 5;

/** Like `grep`, a search without a result ends with 1. */
function describeMissing(notFound: NotFound): Failure | null {
  const [what, missing] =
    'names' in notFound
      ? ['No symbol has the name', notFound.names.map((name) => printable(name.slice(0, MAX_NAMED_CHARS)))]
      : ['No symbol stands for', notFound.addresses.map(hex)];
  if (missing.length === 0) return null;
  const more = missing.length > MAX_NAMED ? ` and ${missing.length - MAX_NAMED} more` : '';
  return { code: null, detail: `${what} ${missing.slice(0, MAX_NAMED).join(', ')}${more}.` };
}
/** A name may have 1,024 characters. */
const MAX_NAMED_CHARS = 64;

const verify: Subcommand<typeof VERIFY_PARAMETERS> = {
  summary: 'Writes what guests make of a symbol blob, or of a dump of memory that begins with one.',
  parameters: VERIFY_PARAMETERS,
  unpack: false,
  formats: ['json', 'text'],
  terminalFormat: 'text',
  async run({ source, parameters, format }) {
    const rejection = await findBlobRejection(source);
    if (rejection !== null) throw new ImageError('not-a-blob', rejection);
    const report = toVerifyReport(await verifyBlob(source, parameters.address));
    return format === 'text' ? text(({ writeVerifyText }) => writeVerifyText(report)) : json(report);
  },
};

const check: Subcommand<typeof CHECK_PARAMETERS> = {
  summary: 'Holds a kernel against what is required of it, and ends with 1 when it does not meet that.',
  parameters: CHECK_PARAMETERS,
  formats: ['json', 'text', 'table'],
  terminalFormat: 'table',
  reports: ['junit'],
  async run({ source, compression, parameters, limits, format }) {
    const checked = await checkImage(source, { ...parameters, maxBlobBytes: limits.maxBlobBytes });
    if (!checked.ok) return checked;
    return {
      ok: true,
      output: [await writeCheck(checked, compression, format)],
      failure: () => (checked.met ? null : { code: 'check-failed', detail: summarizeCheck(checked) }),
      reports: { junit: () => writeJunit(checked) },
    };
  },
};

async function writeCheck(checked: CheckedImage, compression: Compression | null, format: Format): Promise<string> {
  if (format === 'text') return writeCheckText(checked);
  if (format !== 'table') return JSON.stringify((checked.met ? toCheckReport : toFailedCheck)(checked, compression));
  const { writeCheckTable } = await import('../report/text.ts');
  return writeCheckTable(toCheckReport(checked, compression));
}

export const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  blob,
  layout,
  kernel,
  image,
  symbols,
  verify,
  check,
};
