/** The service as its callers meet it: through curl. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { mustLoad } from '../support/load.ts';
import { type Service, startService } from '../support/service.ts';

const version = /^curl (\d+)\.(\d+)/.exec(spawnSync('curl', ['--version'], { encoding: 'utf8' }).stdout ?? '');
const [major, minor] = [Number(version?.[1] ?? 0), Number(version?.[2] ?? 0)];
/** --fail-with-body came with 7.76. */
const hasCurl = major > 7 || (major === 7 && minor >= 76);

const MAX_IMAGE_BYTES = 4 * 1024 * 1024;
const EXIT_HTTP_ERROR = 22;
/** curl ends by itself; this is for a service that does not answer. */
const LIMITS = ['-sS', '--max-time', '20'];

const image = kernel({ symbols: 50 }).bytes;

describe.skipIf(!hasCurl)('curl', () => {
  let service: Service;
  let directory: string;
  let blob: Uint8Array;
  const path = (name: string): string => join(directory, name);

  beforeAll(async () => {
    service = await startService({ BSDSYMS_MAX_IMAGE_BYTES: String(MAX_IMAGE_BYTES) });
    directory = await mkdtemp(join(tmpdir(), 'bsdsyms-curl-'));
    ({ blob } = await mustLoad(image));
    // Large enough for curl to wait for `100 Continue`.
    const padded = new Uint8Array(MAX_IMAGE_BYTES);
    padded.set(image);
    await Promise.all([
      writeFile(path('kernel'), image),
      writeFile(path('large'), padded),
      writeFile(path('too-large'), new Uint8Array(MAX_IMAGE_BYTES + 1)),
      writeFile(path('empty'), ''),
    ]);
  });
  afterAll(async () => {
    await service.close();
    await rm(directory, { recursive: true });
  });

  interface Run {
    readonly exit: number;
    readonly stdout: string;
  }

  /** In a process of its own, as the service is in this one. */
  function curl(route: string, args: readonly string[], stdin: Uint8Array | string = ''): Promise<Run> {
    return new Promise((resolve) => {
      const child = execFile('curl', [...LIMITS, ...args, `${service.url}${route}`], (error, stdout) => {
        resolve({ exit: typeof error?.code === 'number' ? error.code : Number(error !== null), stdout });
      });
      // curl may end without having read all of it.
      child.stdin?.on('error', () => {});
      child.stdin?.end(stdin);
    });
  }

  test.each<[string, (kernelPath: string) => string[]]>([
    ['-X POST -T', (file) => ['-X', 'POST', '-T', file]],
    ['--data-binary', (file) => ['--data-binary', `@${file}`]],
    [
      '--data-binary as octet-stream',
      (file) => ['-H', 'Content-Type: application/octet-stream', '--data-binary', `@${file}`],
    ],
    ['-F', (file) => ['-F', `image=@${file}`]],
    ['-F with a type', (file) => ['-F', `image=@${file};type=application/x-elf`]],
    ['-F with fields around it', (file) => ['-F', 'onBroken=load', '-F', `image=@${file}`, '-F', 'loader=xen-4.8']],
    ['-F over HTTP/1.0', (file) => ['--http1.0', '-F', `image=@${file}`]],
    ['--data-binary with Expect', (file) => ['-H', 'Expect: 100-continue', '--data-binary', `@${file}`]],
    ['-F with Expect', (file) => ['-H', 'Expect: 100-continue', '-F', `image=@${file}`]],
  ])('%s', async (_name, args) => {
    const run = await curl('/bsdsyms', ['--fail-with-body', '-o', path('blob'), ...args(path('kernel'))]);
    expect(run.exit).toBe(0);
    expect(new Uint8Array(await readFile(path('blob')))).toEqual(blob);
  });

  test.each([
    ['-T -', ['-X', 'POST', '-T', '-']],
    ['-T .', ['-X', 'POST', '-T', '.']],
    ['-F from standard input', ['-F', 'image=@-']],
    ['--data-binary from standard input', ['--data-binary', '@-']],
  ])('%s takes what a pipe yields', async (_name, args) => {
    const run = await curl('/bsdsyms', ['--fail-with-body', '-o', path('blob'), ...args], image);
    expect(run.exit).toBe(0);
    expect(new Uint8Array(await readFile(path('blob')))).toEqual(blob);
  });

  test('-OJ finds a file name', async () => {
    const run = await curl('/bsdsyms', [
      '--fail-with-body',
      '--output-dir',
      directory,
      '-OJ',
      '-F',
      `image=@${path('kernel')}`,
    ]);
    expect(run.exit).toBe(0);
    expect(new Uint8Array(await readFile(path('bsdsyms.bin')))).toEqual(blob);
  });

  test('shows the layout', async () => {
    const run = await curl('/layout', ['--fail-with-body', '-F', `image=@${path('kernel')}`]);
    expect(run.exit).toBe(0);
    expect(JSON.parse(run.stdout)).toMatchObject({ bsdsyms: { size: blob.length } });
  });

  test('takes a file as -T sends it', async () => {
    const run = await curl('/layout', ['--fail-with-body', '-T', path('kernel')]);
    expect([run.exit, JSON.parse(run.stdout)]).toEqual([0, expect.objectContaining({ broken: null })]);
  });

  test.each<[string, string, () => string[], string]>([
    ['an empty body', '/bsdsyms', () => ['--data-binary', `@${path('empty')}`], 'no-image'],
    ['a form without an image', '/bsdsyms', () => ['-F', 'onBroken=load'], 'no-image'],
    ['the image as text', '/bsdsyms', () => ['-F', `image=${path('kernel')}`], 'no-image'],
    ['a path instead of a file', '/bsdsyms', () => ['--data-binary', '/boot/kernel/kernel'], 'not-elf'],
    ['a bad parameter', '/bsdsyms?loadAddress=-1', () => ['-F', `image=@${path('kernel')}`], 'parameter-invalid'],
    ['JSON', '/bsdsyms', () => ['-H', 'Content-Type: application/json', '-d', '{}'], 'media-type-unsupported'],
    ['a wrong path', '/symbol', () => ['-F', `image=@${path('kernel')}`], 'not-found'],
  ])('fails with an exit status and a reason: %s', async (_name, route, args, code) => {
    const run = await curl(route, ['--fail-with-body', ...args()]);
    expect([run.exit, (JSON.parse(run.stdout) as { code: string }).code]).toEqual([EXIT_HTTP_ERROR, code]);
  });

  test('fails with a line of text for a caller that wants text', async () => {
    const run = await curl('/layout', ['--fail-with-body', '-H', 'Accept: text/plain', '--data-binary', 'x']);
    expect(run.exit).toBe(EXIT_HTTP_ERROR);
    expect(run.stdout).toMatch(/^not-elf: [^\n]+\n$/);
  });

  const WRITE_OUT = ['-o', '/dev/null', '-w', '%{http_code} %{size_upload}'];

  test.each<[string, (file: string) => string[]]>([
    ['-T', (file) => ['-X', 'POST', '-T', file]],
    ['--data-binary', (file) => ['-H', 'Expect: 100-continue', '--data-binary', `@${file}`]],
  ])('is spared the upload of what is too large: %s', async (_name, args) => {
    const run = await curl('/bsdsyms', ['-H', 'Expect: 100-continue', ...WRITE_OUT, ...args(path('too-large'))]);
    expect(run).toEqual({ exit: 0, stdout: '413 0' });
  });

  test.each<[string, (file: string) => string[], Uint8Array]>([
    ['without Expect', (file) => ['-H', 'Expect:', '--data-binary', `@${file}`], new Uint8Array()],
    ['as a form', (file) => ['-F', `image=@${file}`], new Uint8Array()],
    ['chunked', () => ['-X', 'POST', '-T', '-'], new Uint8Array(2 * MAX_IMAGE_BYTES)],
  ])('sees the 413 of what is too large: %s', async (_name, args, stdin) => {
    const run = await curl('/bsdsyms', ['--fail-with-body', ...args(path('too-large'))], stdin);
    expect([run.exit, (JSON.parse(run.stdout) as { code: string }).code]).toEqual([EXIT_HTTP_ERROR, 'image-too-large']);
  });

  test('is invited to send what is not', async () => {
    const run = await curl('/bsdsyms', [
      '-H',
      'Expect: 100-continue',
      ...WRITE_OUT,
      '--data-binary',
      `@${path('large')}`,
    ]);
    expect(run).toEqual({ exit: 0, stdout: `200 ${MAX_IMAGE_BYTES}` });
  });

  test('--compressed and --head do no harm', async () => {
    const compressed = await curl('/layout', ['--compressed', '--fail-with-body', '-F', `image=@${path('kernel')}`]);
    expect(compressed.exit).toBe(0);
    expect(JSON.parse(compressed.stdout)).toMatchObject({ bsdsyms: { size: blob.length } });
    const head = await curl('/healthz', ['--head', '--fail']);
    expect(head.stdout).toMatch(/^HTTP\/1.1 200 OK\r\n/);
  });
});
