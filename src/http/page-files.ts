/** The files of the page: compiled ones from `dist/page`; from source, they are bundled when they are first asked for. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';

export type PageCoding = 'br' | 'gzip' | 'identity';

/** One file in the codings that it was asked for in. */
export class PageFile {
  readonly type: string;
  readonly hash: string;
  readonly #bytes: Buffer;
  readonly #coded = new Map<PageCoding, Promise<Buffer>>();

  constructor(name: string, bytes: Buffer) {
    this.type = TYPES[name.slice(name.lastIndexOf('.'))] ?? 'application/octet-stream';
    this.hash = createHash('sha256').update(bytes).digest('hex').slice(0, 32);
    this.#bytes = bytes;
  }

  /** Its bytes; compressed once, in another thread. */
  coded(coding: PageCoding): Promise<Buffer> {
    let coded = this.#coded.get(coding);
    if (coded === undefined) {
      coded = ENCODERS[coding](this.#bytes);
      this.#coded.set(coding, coded);
    }
    return coded;
  }
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const [compressBrotli, compressGzip] = [promisify(brotliCompress), promisify(gzip)];
const ENCODERS: Readonly<Record<PageCoding, (bytes: Buffer) => Promise<Buffer>>> = {
  br: (bytes) =>
    compressBrotli(bytes, {
      params: {
        [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
        [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
      },
    }),
  gzip: (bytes) => compressGzip(bytes, { level: 9 }),
  identity: (bytes) => Promise.resolve(bytes),
};

export type PageFiles = ReadonlyMap<string, PageFile>;

const isCompiled = import.meta.url.endsWith('.js');
const FOLDER = new URL('../page/', import.meta.url);
/** A development dependency bundles it, so that it is no part of the compiled service. */
const BUNDLER = new URL('../../scripts/bundle-page.ts', import.meta.url).href;

async function readCompiled(): Promise<(readonly [string, Buffer])[]> {
  const names = await readdir(FOLDER);
  return Promise.all(names.map(async (name) => [name, await readFile(new URL(name, FOLDER))] as const));
}

async function bundleSource(): Promise<(readonly [string, Buffer])[]> {
  const { bundlePage } = (await import(BUNDLER)) as {
    readonly bundlePage: () => Promise<ReadonlyMap<string, string>>;
  };
  return Array.from(await bundlePage(), ([name, text]) => [name, Buffer.from(text)] as const);
}

/** Loads once for all callers, when it is first asked for; after a failure again for the next one. @throws what `load` throws */
export function loadOnce<Loaded>(load: () => Promise<Loaded>): () => Promise<Loaded> {
  let loading: Promise<Loaded> | null = null;
  return async () => {
    loading ??= load();
    try {
      return await loading;
    } catch (error) {
      loading = null;
      throw error;
    }
  };
}

export const loadPage = loadOnce(async (): Promise<PageFiles> => {
  const files = await (isCompiled ? readCompiled() : bundleSource());
  return new Map(files.map(([name, bytes]) => [name, new PageFile(name, bytes)]));
});
