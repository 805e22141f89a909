/** What the worker does: one file through the stages, and questions about it. Node-free, and free of the DOM. */
import { ELF_MAGIC, hasElfMagic } from '../elf/format.ts';
import { hex } from '../elf/hex.ts';
import { KeptSource } from '../image/kept.ts';
import { checkImage } from '../inspect/check.ts';
import { ImageError } from '../inspect/image-error.ts';
import type { Compression, ImageSource } from '../inspect/image-source.ts';
import {
  inspectKernel,
  type LoadedImage,
  type LoadRequest,
  loadImage,
  type OpenedSymbols,
  openSymbols,
  type RefusedImage,
} from '../inspect/load.ts';
import { PlannedBytes } from '../inspect/planned-bytes.ts';
import { findBlobRejection } from '../inspect/recognise-elf.ts';
import { streamExtents } from '../inspect/stream-extents.ts';
import { findSymbols, listSymbols, resolveAddresses, type TableSymbol } from '../inspect/symbol-table.ts';
import { verifyBlob } from '../inspect/verify.ts';
import { LAYOUT_PARAMETERS, ParameterReader, type ParameterValues, VERIFY_PARAMETERS } from '../parameters.ts';
import { toCheckReport } from '../report/check.ts';
import { toKernelReport } from '../report/kernel.ts';
import { toLayout } from '../report/layout.ts';
import { toJsonNumber } from '../report/numbers.ts';
import { toPicture } from '../report/picture/picture.ts';
import { describeProblem, IMAGE_PROBLEM_KINDS, toProblemDocument } from '../report/problem.ts';
import { describeSymbol } from '../report/symbols.ts';
import { toVerifyReport } from '../report/verify.ts';
import type { Broken } from '../xen/broken.ts';
import { SIZE_WORD_BYTES } from '../xen/loaders/bsdsyms.ts';
import { WARNING_KINDS } from '../xen/warnings.ts';
import { BlobSource, interruptible } from './blob-source.ts';
import { explainHere } from './explanations.ts';
import type { Answer, BytesOf, Finding, ParameterTexts, Place, RefusedFinding, SymbolAnswer } from './messages.ts';
import { unpackFile, type Watch } from './unpack-file.ts';

/** Symbols of one answer. */
const MAX_SYMBOLS = 200;
/** How many bytes of the place that a reason is about are shown. */
const PLACE_BYTES = 64;

/** A sentence for the user: what was asked cannot be answered. */
export class Unanswerable extends Error {
  override readonly name = 'Unanswerable';
}

/** A kernel that was opened. */
interface OpenKernel {
  readonly source: ImageSource;
  readonly compression: Compression | null;
  loaded: LoadedImage | null;
  symbols: OpenedSymbols | null;
}

export class Session {
  #kernel: OpenKernel | null = null;

  /** Opens a file, and finds out what there is to know about it. @throws what `watch.interrupt` throws */
  async *open(file: Blob, parameters: ParameterTexts, watch: Watch): AsyncGenerator<Finding, void> {
    this.#kernel = null;
    const start = new Uint8Array(await file.slice(0, SIZE_WORD_BYTES + ELF_MAGIC.length).arrayBuffer());
    if (!hasElfMagic(start) && hasElfMagic(start.subarray(SIZE_WORD_BYTES))) {
      yield* this.verify(file, '', watch);
      return;
    }
    try {
      const { image, compression, facts } = await unpackFile(file, watch);
      const source = Object.assign(new KeptSource(new BlobSource(image)), facts);
      this.#kernel = { source, compression, loaded: null, symbols: null };
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      yield refuse(error);
      return;
    }
    const { compression, source } = this.#kernel;
    yield { kind: 'opened', compression, size: source.size };
    yield* this.load(parameters, watch);
  }

  /** Loads the kernel that is open. @throws Unanswerable when there is none, or when a parameter is wrong */
  async *load(parameters: ParameterTexts, watch: Watch): AsyncGenerator<Finding, void> {
    const kernel = this.#opened();
    const { compression } = kernel;
    const source = interruptible(kernel.source, watch.interrupt);
    const request = readParameters(LAYOUT_PARAMETERS, parameters);
    kernel.loaded = null;
    const loaded = await loadImage(source, { ...request, askGuests: true });
    if (loaded.ok) {
      kernel.loaded = loaded;
      yield await describeLoaded(loaded, compression);
    } else {
      yield await describeRefused(loaded, source, request);
    }
    watch.interrupt();
    const inspected = await inspectKernel(source);
    if (!inspected.ok) return;
    yield { kind: 'kernel', report: toKernelReport(inspected, compression) };
    watch.interrupt();
    const { compareWith: _, ...checked } = request;
    const check = await checkImage(source, checked);
    if (check.ok) yield { kind: 'check', requirements: toCheckReport(check, compression).requirements };
  }

  /** What guests make of a blob or a dump. @throws Unanswerable when the address is wrong */
  async *verify(file: Blob, address: string, { interrupt }: Watch): AsyncGenerator<Finding, void> {
    this.#kernel = null;
    const { address: taken } = readParameters(VERIFY_PARAMETERS, address === '' ? {} : { address });
    const source = interruptible(new BlobSource(file), interrupt);
    const rejection = await findBlobRejection(source);
    if (rejection !== null) yield refuse(new ImageError('not-a-blob', rejection));
    else yield { kind: 'verified', report: toVerifyReport(await verifyBlob(source, taken)) };
  }

  /** The blob as a file. */
  async blob(): Promise<Answer> {
    const { source, loaded } = this.#loaded();
    const pieces: BlobPart[] = [];
    // A browser keeps what a Blob is made of where it likes; the pieces may be views of what is read again.
    for await (const piece of streamExtents(source, loaded.plan.extents))
      pieces.push(new Blob([Uint8Array.from(piece)]));
    return { kind: 'file', file: new Blob(pieces, { type: 'application/octet-stream' }) };
  }

  async picture(): Promise<Answer> {
    const { loaded } = this.#loaded();
    return { kind: 'file', file: new Blob([await toPicture(loaded)], { type: 'image/svg+xml' }) };
  }

  /** Bytes, as many of the range as there are. */
  async bytes(of: BytesOf, offset: number, length: number): Promise<Answer> {
    const { source, loaded } = of === 'image' ? { source: this.#opened().source, loaded: null } : this.#loaded();
    const plan = of === 'own' ? loaded?.plan : loaded?.comparison?.plan;
    const bytes = plan === undefined || plan === null ? source : new PlannedBytes(source, plan);
    if (of === 'other' && bytes === source) throw new Unanswerable('No other loader is compared.');
    const from = Math.min(offset, bytes.size);
    return { kind: 'bytes', bytes: Uint8Array.from(await bytes.read(from, Math.min(length, bytes.size - from))) };
  }

  /** @param text a name, the beginning of one, or an address @throws Unanswerable */
  async symbols(text: string): Promise<Answer> {
    const kernel = this.#opened();
    kernel.symbols ??= await openTable(kernel.source);
    return { kind: 'symbols', answer: await search(kernel.symbols, text.trim()) };
  }

  #opened(): OpenKernel {
    if (this.#kernel === null) throw new Unanswerable('No kernel is open. Choose one first.');
    return this.#kernel;
  }

  #loaded(): { readonly source: ImageSource; readonly loaded: LoadedImage } {
    const { source, loaded } = this.#opened();
    if (loaded === null) throw new Unanswerable('The symbols of this kernel are not loaded.');
    return { source, loaded };
  }
}

type BlobPart = ConstructorParameters<typeof Blob>[0] extends (infer Part)[] | undefined ? Part : never;

/** @throws Unanswerable for a value that is not accepted */
function readParameters<P extends typeof LAYOUT_PARAMETERS | typeof VERIFY_PARAMETERS>(
  parameters: P,
  texts: ParameterTexts,
): ParameterValues<P> {
  const reader = new ParameterReader(parameters);
  for (const [name, text] of Object.entries(texts)) {
    if (!reader.has(name)) continue;
    const fault = reader.read(name, text.trim());
    if (fault !== null) throw new Unanswerable(fault.detail);
  }
  return reader.values;
}

async function describeLoaded(loaded: LoadedImage, compression: Compression | null): Promise<Finding> {
  const meanings = Object.fromEntries(loaded.warnings.map(({ code }) => [code, WARNING_KINDS[code]]));
  const picture = await toPicture(loaded, { inline: true });
  return { kind: 'layout', report: toLayout(loaded, compression), picture, meanings };
}

async function describeRefused(
  refused: RefusedImage,
  source: ImageSource,
  request: LoadRequest,
): Promise<RefusedFinding> {
  const { broken } = refused;
  return {
    kind: 'refused',
    problem: toProblemDocument(refused),
    explanation: explainHere(broken.code),
    place: await describePlace(broken, source),
    canLoad: request.onBroken !== 'load' && (await loadsAnyway(source, request, broken)),
  };
}

/** Whether Xen goes on despite the reason. */
async function loadsAnyway(source: ImageSource, request: LoadRequest, { code }: Broken): Promise<boolean> {
  const loaded = await loadImage(source, { ...request, compareWith: null, onBroken: 'load' });
  return loaded.ok && loaded.broken?.code === code;
}

async function describePlace({ what, offset, length }: Broken, source: ImageSource): Promise<Place> {
  const isInside = offset !== null && offset < BigInt(source.size);
  const from = isInside ? Number(offset) : 0;
  const wanted = length === null || length > BigInt(PLACE_BYTES) ? PLACE_BYTES : Number(length);
  const available = Math.min(wanted, source.size - from);
  return {
    what,
    offset: offset === null ? null : hex(offset),
    length: length === null ? null : hex(length),
    bytes: isInside && available > 0 ? Uint8Array.from(await source.read(from, available)) : null,
  };
}

function refuse(error: ImageError): RefusedFinding {
  const kind = IMAGE_PROBLEM_KINDS[error.code];
  const problem = describeProblem(error.code, kind, error.message, null);
  return { kind: 'refused', problem, explanation: explainHere(error.code), place: null, canLoad: false };
}

async function openTable(source: ImageSource): Promise<OpenedSymbols> {
  const opened = await openSymbols(source);
  if (!opened.ok) throw new Unanswerable(opened.broken.detail);
  return opened;
}

async function search({ table }: OpenedSymbols, text: string): Promise<SymbolAnswer> {
  if (text === '' || text.includes('\0')) throw new Unanswerable('Write a name, the beginning of one, or an address.');
  if (/^(0x[0-9a-f]{1,16}|[1-9][0-9]{0,19}|0)$/i.test(text)) {
    const address = BigInt(text);
    const [resolved] = await resolveAddresses(table, [address]);
    const symbol = resolved?.symbol ?? null;
    const offset = symbol === null ? null : toJsonNumber(address - symbol.value);
    const found = symbol === null ? null : describeSymbol(symbol);
    return { by: 'address', address: { address: hex(address), symbol: found, offset } };
  }
  const exact = await take(findSymbols(table, [text]));
  if (exact.symbols.length > 0) return { by: 'name', ...exact };
  const page = { after: 0, limit: MAX_SYMBOLS + 1, types: [], binds: [], prefix: text };
  return { by: 'prefix', ...(await take(listSymbols(table, page))) };
}

async function take(
  batches: AsyncGenerator<TableSymbol[], unknown>,
): Promise<Pick<Extract<SymbolAnswer, { by: 'name' | 'prefix' }>, 'symbols' | 'more'>> {
  const symbols: TableSymbol[] = [];
  for await (const batch of batches) {
    symbols.push(...batch);
    if (symbols.length > MAX_SYMBOLS) break;
  }
  return { symbols: symbols.slice(0, MAX_SYMBOLS).map(describeSymbol), more: symbols.length > MAX_SYMBOLS };
}
