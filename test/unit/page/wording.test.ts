/**
 * The page sends nothing, so no sentence on it is about uploads, requests or settings of a service. The command and the library
 * share the sentences of the core with it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { explainHere } from '../../../src/page/explanations.ts';
import type { Finding } from '../../../src/page/messages.ts';
import { Session } from '../../../src/page/session.ts';
import { describeGuest, judgeBlob, judgeKernel, type Known } from '../../../src/page/verdict.ts';
import { BROKEN_KINDS } from '../../../src/xen/broken.ts';
import { GUESTS } from '../../../src/xen/guests/verdict.ts';
import { kernel } from '../../support/elf-builder.ts';
import {
  blobOf,
  readBsdsymsVectors,
  readCompressedVectors,
  readContainerVectors,
  readGuestsVectors,
  readHistoricalVectors,
  readNotesVectors,
} from '../../support/vectors.ts';

/** Words that are right in an answer of the service only. */
const OF_A_SERVICE =
  /\bthis service\b|\bupload|\bsend\b|\bsent\b|\bBSDSYMS_|\boperator\b|\bRetry-After\b|\bContent-Encoding\b/i;

const SOURCE = new URL('../../../src/', import.meta.url);
const readSources = (folder: string): [string, string][] =>
  readdirSync(new URL(folder, SOURCE), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [`${folder}${name}`, readFileSync(new URL(`${folder}${name}`, SOURCE), 'utf8')]);
const withoutComments = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(?<!:)\/\/.*$/gm, '');

describe('the sentences of the core', () => {
  test.each(['elf/', 'xen/', 'inspect/', 'image/unpack/'].flatMap(readSources))(
    'are right everywhere: src/%s',
    (_, text) => {
      const lines = withoutComments(text).split('\n');
      expect(lines.filter((line) => OF_A_SERVICE.test(line))).toEqual([]);
    },
  );
});

describe('what a code means on the page', () => {
  const raised = ['inspect/', 'page/']
    .flatMap(readSources)
    .flatMap(([, text]) => Array.from(text.matchAll(/new ImageError\(\s*'([\w-]+)'/g), ([, code = '']) => code));
  const codes = [...new Set([...raised, ...Object.keys(BROKEN_KINDS)])] as Parameters<typeof explainHere>[0][];

  test('is known of all that the page can meet', () => {
    expect(codes).toEqual(expect.arrayContaining(['not-elf', 'compression-unsupported', 'not-a-blob']));
    expect(codes.length).toBeGreaterThan(Object.keys(BROKEN_KINDS).length);
  });

  test.each(codes)('is not about a service: %s', (code) => {
    expect(explainHere(code)).not.toMatch(OF_A_SERVICE);
  });
});

/** All text in what the worker says, the picture included. */
function listTexts(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return [];
  return Object.values(value).flatMap(listTexts);
}

async function listShown(
  file: Uint8Array,
  parameters: Readonly<Record<string, string>>,
  isBlob = false,
): Promise<string[]> {
  const session = new Session();
  const watch = { interrupt: () => {}, progress: () => {} };
  const blob = new Blob([Uint8Array.from(file)]);
  const findings: Finding[] = [];
  for await (const finding of isBlob ? session.verify(blob, '', watch) : session.open(blob, parameters, watch)) {
    findings.push(finding);
  }
  const known: { -readonly [Key in keyof Known]: Known[Key] } = {
    layout: null,
    meanings: {},
    refused: null,
    kernel: null,
    requirements: null,
  };
  const texts = listTexts(findings);
  for (const finding of findings) {
    switch (finding.kind) {
      case 'opened':
        break;
      case 'layout':
        known.layout = finding.report;
        known.meanings = finding.meanings;
        break;
      case 'refused':
        known.refused = finding;
        break;
      case 'kernel':
        known.kernel = finding.report;
        break;
      case 'check':
        known.requirements = finding.requirements;
        break;
      case 'verified': {
        const { report } = finding;
        texts.push(...listTexts(judgeBlob(report)), ...GUESTS.map((name) => describeGuest(report.guests[name])));
      }
    }
    texts.push(...listTexts(judgeKernel(known)));
  }
  return texts;
}

const decode = (base64: string): Uint8Array => Buffer.from(base64, 'base64');
const plain = (image: string): [Uint8Array, Record<string, string>] => [decode(image), {}];

describe('what the page shows', () => {
  test.each<[string, () => readonly (readonly [Uint8Array, Record<string, string>, boolean?])[]]>([
    [
      'images',
      () =>
        readBsdsymsVectors().map(({ image, loadAddress }, index) => [
          decode(image),
          {
            ...(loadAddress === null ? {} : { loadAddress }),
            ...(index % 2 === 0 ? {} : { onBroken: 'load', compareWith: 'xen-4.6' }),
          },
        ]),
    ],
    [
      'older loaders',
      () =>
        readHistoricalVectors().map(({ image, loader }, index) => [
          decode(image),
          index % 2 === 0 ? { loader } : { loader, compareWith: 'xen-4.8' },
        ]),
    ],
    ['notes', () => readNotesVectors().map(({ image }) => plain(image))],
    ['compressed files', () => readCompressedVectors().map(({ file }) => plain(file))],
    ['bzImages', () => readContainerVectors().map(({ file }) => plain(file))],
    ['blobs', () => readGuestsVectors().map((vector) => [blobOf(vector), {}, true])],
    [
      'files that are no kernel',
      () =>
        [
          '',
          'image=',
          '<html>',
          'a text',
          '\0\0\0',
          'MZ',
          '!<arch>\n',
          'KDUMP   ',
          '7z\u00bc\u00af\u0027\u001c',
          '\u007fELF\u0002',
          '\u0001\u0002',
        ]
          .map((text) => Buffer.from(text, 'latin1'))
          .concat(
            Buffer.from(Buffer.from(kernel({ symbols: 3 }).bytes).toString('utf8')),
            Buffer.from(kernel({ symbols: 3 }).bytes.filter((byte) => byte !== 0)),
            gzipSync(gzipSync('twice')),
            gzipSync('cut').subarray(0, 12),
            zstdCompressSync('zstd'),
          )
          .flatMap((bytes) => [
            [bytes, {}],
            [bytes, {}, true],
          ]),
    ],
  ])('is not about a service: %s', async (_, list) => {
    const cases = list();
    expect(cases.length).toBeGreaterThan(20);
    for (const [file, parameters, isBlob] of cases) {
      const texts = await listShown(file, parameters, isBlob);
      expect(texts.length).toBeGreaterThan(0);
      expect(texts.filter((text) => OF_A_SERVICE.test(text))).toEqual([]);
    }
  });
});
