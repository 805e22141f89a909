/** The routes, as `openapi.yaml` lists them. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { ASKING_NOTES, kernel } from './elf-builder.ts';
import { mustLoad } from './load.ts';

export interface Operation {
  readonly operationId: string;
  readonly requestBody?: { readonly content: Readonly<Record<string, unknown>> };
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly responses: Readonly<
    Record<
      string,
      { readonly content: Readonly<Record<string, unknown>>; readonly headers?: Readonly<Record<string, unknown>> }
    >
  >;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: { readonly Problem: { readonly properties: { readonly code: { readonly enum: string[] } } } };
  };
}

export const documentText = readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8');
export const document = parse(documentText) as Document;

export const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
);

export const isUpload = ({ operation }: { readonly operation: Operation }): boolean =>
  operation.requestBody !== undefined;

/** A path that the route serves: with a code in place of `{code}`. */
const served = ({ path }: { readonly path: string }): string => path.replace('{code}', 'not-elf');

/** What takes a file. */
export const UPLOAD_PATHS = operations.filter(isUpload).map(served);
/** What tells of the service. */
export const SERVICE_PATHS = operations.map(served).filter((path) => !UPLOAD_PATHS.includes(path));

/** The methods that a path takes. Uploads take PUT as they take POST; the other paths take HEAD as they take GET. */
export function methodsOf(path: string): string[] {
  const methods = operations.filter((one) => served(one) === path).map(({ method }) => method);
  return UPLOAD_PATHS.includes(path) ? [...methods, 'PUT'].toSorted() : ['GET', 'HEAD'];
}

/** A kernel that asks for its symbols, so that it passes a check. */
const image = kernel({ symbols: 9, notes: ASKING_NOTES }).bytes;
const { blob } = await mustLoad(image);

/** A file that the route takes. */
export const goodFor = (path: string): Uint8Array => (path === '/verify' ? blob : image);
