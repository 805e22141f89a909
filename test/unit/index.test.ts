/** The library: what it exports is for ever, so all of it is named here. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as library from '../../src/index.ts';

const SOURCES = new URL('../../src/', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, SOURCES), 'utf8');

interface Exported {
  readonly name: string;
  readonly isType: boolean;
  /** In the file it comes from. */
  readonly declaredAs: string;
  readonly file: string;
}

const exported: readonly Exported[] = [...read('index.ts').matchAll(/^export (type )?\{([^}]+)\} from '([^']+)';$/gm)]
  .flatMap(([, onlyTypes, names = '', file = '']) =>
    names
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '')
      .map((name) => ({ isType: onlyTypes !== undefined || name.startsWith('type '), text: name, file })),
  )
  .map(({ isType, text, file }) => {
    const [declaredAs = '', name = declaredAs] = text.replace(/^type /, '').split(' as ');
    return { name, isType, declaredAs, file };
  });

describe('the library', () => {
  test('exports these values', () => {
    expect(Object.keys(library).sort()).toEqual([
      'BROKEN_KINDS',
      'BUILDER_REFUSALS',
      'DEFAULT_LOADER',
      'FileError',
      'FileSource',
      'GUESTS',
      'GUEST_FINDINGS',
      'IMAGE_PROBLEM_KINDS',
      'ImageError',
      'LOADERS',
      'MemorySource',
      'PICTURE_CSS',
      'REQUIREMENTS',
      'SymbolTable',
      'WARNING_KINDS',
      'checkImage',
      'findKernelRange',
      'findSymbols',
      'flattenImage',
      'initImage',
      'inspectKernel',
      'listSegments',
      'listSymbols',
      'loadImage',
      'loadSymbols',
      'openImage',
      'openImageFile',
      'openImageStream',
      'openImageUrl',
      'openSymbols',
      'planFlatImage',
      'planWarnings',
      'readHeaders',
      'resolveAddresses',
      'streamExtents',
      'toCheckReport',
      'toFlatLayout',
      'toKernelReport',
      'toLayout',
      'toPicture',
      'toProblemDocument',
      'toVerifyReport',
      'verifyBlob',
      'writeCheckText',
      'writeJunit',
    ]);
    const values = exported.filter(({ isType }) => !isType).map(({ name }) => name);
    expect(values.sort()).toEqual(Object.keys(library).sort());
  });

  test('names the types of what it takes and gives', () => {
    const types = exported.filter(({ isType }) => isType).map(({ name }) => name);
    for (const name of [
      'ImageSource',
      'LoadRequest',
      'LoadedImage',
      'RefusedImage',
      'RefusedKernel',
      'SymbolPlan',
      'Extent',
      'Layout',
    ]) {
      expect(types).toContain(name);
    }
  });

  test.each(exported)('says what $name is', ({ declaredAs, isType, file }) => {
    const kinds = isType ? 'type|interface' : 'const|class|function|async function\\*?';
    const lines = read(file).split('\n');
    const declared = lines.findIndex((line) => new RegExp(`^export (?:${kinds})\\*? ${declaredAs}\\b`).test(line));
    expect(lines[declared - 1]).toMatch(/\*\/$/);
  });

  test('brings no package along, and nothing of HTTP', () => {
    const script =
      'import { registerHooks } from "node:module"; const urls = []; registerHooks({ load(url, context, next) { ' +
      'urls.push(url); return next(url, context); } }); await import(process.argv[1]); console.log(urls.join("\\n"));';
    const index = new URL('index.ts', SOURCES).href;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script, index], { encoding: 'utf8' });
    const urls = stdout.trim().split('\n');
    const own = urls.filter((url) => url.startsWith(SOURCES.href)).map((url) => url.slice(SOURCES.href.length));
    expect(own).toContain('inspect/load.ts');
    expect(own.filter((path) => path.startsWith('http/'))).toEqual([]);
    expect(urls.length - own.length).toBe(urls.filter((url) => url.startsWith('node:')).length);
  });
});
