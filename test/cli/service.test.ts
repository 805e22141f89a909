/** The command answers as the service does: the same bytes, the same codes, the same words. */
import { readFileSync } from 'node:fs';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SUBCOMMANDS } from '../../src/cli/subcommands.ts';
import { type Ran, run } from '../support/command.ts';
import { kernel } from '../support/elf-builder.ts';
import { type Answer, json, post } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { type Service, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const yes = { name: 'Xen', type: 11, desc: Buffer.from('yes\0') };
const good = kernel({ symbols: 500, notes: [yes] }).bytes;
const lying = kernel({ header: { e_shstrndx: 4 }, after: [{ name: 'x', header: { sh_offset: 2 ** 40 } }] });

const IMAGES: Readonly<Record<string, Uint8Array>> = {
  'a kernel': good,
  'a kernel without notes': kernel().bytes,
  'a kernel of 32 bits and the other byte order': kernel({ class: 'ELF32', byteOrder: 'big' }).bytes,
  'a kernel whose symbol table is cut': kernel({ symtab: { header: { sh_size: 2 ** 20 } } }).bytes,
  'a kernel whose section header is cut': lying.bytes.subarray(0, -1),
  'a kernel whose names are outside': kernel({ strtab: { data: Uint8Array.of(0, 0x61) } }).bytes,
  'a stripped kernel': kernel({ symtab: { type: 1 } }).bytes,
  'a kernel with gzip': gzipSync(good),
  'a kernel with zstd': zstdCompressSync(good),
  'half a kernel with gzip': gzipSync(good).subarray(0, 2000),
  'half a kernel with zstd': zstdCompressSync(good).subarray(0, 2000),
  'a kernel with xz': Buffer.from('fd377a585a000000ff12d941', 'hex'),
  'half a kernel': good.subarray(0, good.length / 2),
  'a symbol blob': (await mustLoad(good)).blob,
  text: Buffer.from('a path instead of a file\n'),
  nothing: new Uint8Array(1),
};

interface Asked {
  readonly args: readonly string[];
  readonly path: string;
  readonly accept: string;
}

const OCTETS = 'application/octet-stream';
const JSON_TYPE = 'application/json';
const NDJSON_TYPE = 'application/x-ndjson';
const SVG_TYPE = 'image/svg+xml';
const PARAMETERS = ['', 'onBroken=load', 'loader=libxc-4.6', 'loadAddress=0x5001', 'loadAddress=0'];

/** What of the command is what of the service. */
const ASKED: Readonly<Record<string, readonly Asked[]>> = {
  blob: PARAMETERS.map((query) => ({ args: [], path: `/bsdsyms?${query}`, accept: OCTETS })),
  layout: [
    ...PARAMETERS.map((query) => ({ args: [], path: `/layout?${query}`, accept: JSON_TYPE })),
    ...[...PARAMETERS, 'compareWith=xen-4.6'].map((query) => ({
      args: ['--svg'],
      path: `/layout?${query}`,
      accept: SVG_TYPE,
    })),
  ],
  kernel: [{ args: [], path: '/kernel?', accept: JSON_TYPE }],
  image: ['', 'symbols=always', 'symbols=always&onBroken=load', 'symbols=never&loader=xen-4.6'].flatMap((query) => [
    { args: [], path: `/image?${query}`, accept: OCTETS },
    { args: ['--json'], path: `/image?${query}`, accept: JSON_TYPE },
  ]),
  symbols: [
    '',
    'limit=3&after=7',
    'name=sym_1x&name=none',
    'address=0x100010&address=0',
    'type=FUNC&prefix=sym_a',
  ].flatMap((query) => [
    { args: [], path: `/symbols?${query}`, accept: JSON_TYPE },
    { args: ['--ndjson'], path: `/symbols?${query}`, accept: NDJSON_TYPE },
  ]),
  verify: ['', 'address=0x400001'].map((query) => ({ args: [], path: `/verify?${query}`, accept: JSON_TYPE })),
  check: [...PARAMETERS, 'require=pv&require=symbols&onBroken=load', 'require=freebsd&require=no-warnings'].map(
    (query) => ({
      args: [],
      path: `/check?${query}`,
      accept: JSON_TYPE,
    }),
  ),
};

let service: Service;
let directory: TemporaryDirectory;
const paths = new Map<string, string>();

beforeAll(async () => {
  service = await startService({ LOG_LEVEL: 'silent' });
  directory = new TemporaryDirectory();
  for (const [name, bytes] of Object.entries(IMAGES)) paths.set(name, directory.write(bytes));
});

afterAll(async () => {
  await service.close();
  directory.remove();
});

test('all of the command is asked for here', () => {
  expect(Object.keys(ASKED)).toEqual(Object.keys(SUBCOMMANDS));
});

const asked = Object.entries(ASKED).flatMap(([name, list]) => list.map((one) => ({ name, ...one })));

/** `a=1&b=2` as options. */
const toOptions = (path: string): string[] =>
  (path.split('?')[1] ?? '')
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => `--${pair}`);

/** What the command is to do where the service answers like this; of what it remarks there are only the codes. */
function expected({ status, headers, body, text }: Answer, { path, accept }: Asked): unknown {
  if (status === 200) {
    const missing = describeMissing(path, text);
    const broken = codes(headers['bsdsyms-broken']).map((code) => `bsdsyms: broken: ${code}\n`);
    const warnings = codes(headers['bsdsyms-warnings']).map((code) => `bsdsyms: warning: ${code}\n`);
    const stderr = [...broken, ...warnings, missing].join('');
    return { status: missing === '' ? 0 : 1, stdout: body.toString('latin1'), stderr };
  }
  const { instance: _instance, ...problem } = json({ text });
  return { status: 1, stdout: accept === OCTETS || accept === SVG_TYPE ? '' : problem, stderr: line(problem) };
}

/** A search without a result is an answer of the service, and status 1 of the command. */
function describeMissing(path: string, text: string): string {
  const query = new URLSearchParams(path.split('?')[1]);
  const names = query.getAll('name').filter((name) => !text.includes(`"name":"${name}"`));
  if (names.length > 0) return `bsdsyms: No symbol has the name ${names.join(', ')}.\n`;
  const addresses = [...text.matchAll(/"address":"(0x[0-9a-f]+)","symbol":null/g)].map(([, address]) => address);
  return addresses.length > 0 ? `bsdsyms: No symbol stands for ${addresses.join(', ')}.\n` : '';
}

function got({ status, stdout, stderr }: Ran): unknown {
  if (status === 0 || /^bsdsyms: No symbol/m.test(stderr)) {
    const remarks = stderr.replaceAll(/^(bsdsyms: \w+: [a-z0-9-]+): .+$/gm, '$1');
    return { status, stdout: stdout.toString('latin1'), stderr: remarks };
  }
  return { status, stdout: stdout.length === 0 ? '' : (JSON.parse(stdout.toString()) as unknown), stderr };
}

const codes = (header: string | string[] | undefined): string[] =>
  header === undefined ? [] : String(header).split(', ');

const line = (problem: Readonly<Record<string, unknown>>): string =>
  `bsdsyms: ${String(problem['code'])}: ${String(problem['detail'])}\n`;

describe.each(Object.entries(IMAGES))('%s', (image, bytes) => {
  test.each(asked)('$name $args as $path', async ({ name, args, path, accept }) => {
    const command = [name, ...args, ...toOptions(path)];
    const fromFile = await run([...command, paths.get(image) ?? '']);
    expect(got(fromFile)).toEqual(expected(await post(service, path, bytes, { accept }), { args, path, accept }));
    expect(await run([...command, '-'], { stdin: bytes })).toEqual(fromFile);
  });
});

describe.each(['a kernel', 'a kernel without notes', 'a stripped kernel'])('check of %s', (image) => {
  const bytes = IMAGES[image] ?? '';

  test('writes the lines of the service', async () => {
    const answer = await post(service, '/check', bytes, { accept: 'text/plain' });
    const ran = await run(['check', '--text', paths.get(image) ?? '']);
    // The service ends with what the command says on standard error.
    const lines = answer.text.replace(/^check-failed: .*\n$/m, '');
    expect([ran.status, ran.stdout.toString()]).toEqual([answer.status === 200 ? 0 : 1, lines]);
    const said = ran.stderr.replace(/^bsdsyms: /, '').trimEnd();
    expect(answer.text.slice(lines.length).replace(/ X-Request-Id: .*\n$/, '')).toBe(said);
  });

  test('writes the JUnit XML of the service, also when it fails', async () => {
    const answer = await post(service, '/check', bytes, { accept: 'application/xml' });
    const report = directory.file('junit.xml');
    const output = directory.file('check.json');
    const ran = await run(['check', '--junit', report, '-o', output, paths.get(image) ?? '']);
    expect([ran.status, ran.stdout.length]).toEqual([answer.status === 200 ? 0 : 1, 0]);
    expect(readFileSync(report, 'utf8')).toBe(answer.text);
    expect(JSON.parse(readFileSync(output, 'utf8'))).toHaveProperty('requirements');
  });

  test('never writes over the kernel', async () => {
    const file = paths.get(image) ?? '';
    const ran = await run(['check', '--junit', file, file]);
    expect([ran.status, ran.stderr]).toEqual([2, expect.stringContaining('The output is the file that is read')]);
    expect(readFileSync(file).equals(Buffer.from(bytes))).toBe(true);
  });
});

describe('parameters', () => {
  test.each([
    ['blob', '/bsdsyms', 'loadAddress', '-1'],
    ['blob', '/bsdsyms', 'loadAddress', '18446744073709551616'],
    ['blob', '/bsdsyms', 'loader', 'xen-9'],
    ['layout', '/layout', 'onBroken', ''],
    ['image', '/image', 'symbols', 'x'.repeat(1000)],
    ['symbols', '/symbols', 'limit', '0'],
    ['symbols', '/symbols', 'name', ''],
  ])('%s %s?%s=%s is refused in the same words', async (name, path, parameter, value) => {
    const answer = json(await post(service, `${path}?${parameter}=${value}`, good));
    const ran = await run([name, `--${parameter}=${value}`, paths.get('a kernel') ?? '']);
    expect(ran.status).toBe(2);
    expect(ran.stderr).toBe(line(answer));
  });

  test.each([
    ['too often', 'type=FUNC&'.repeat(101)],
    ['against each other', 'name=a&limit=1'],
  ])('that are given %s are refused in the same words', async (_, query) => {
    const answer = json(await post(service, `/symbols?${query}`, good));
    const ran = await run(['symbols', ...toOptions(`?${query}`), paths.get('a kernel') ?? '']);
    expect([ran.status, ran.stderr]).toEqual([2, line(answer)]);
  });
});

test('an empty file is not a blob', async () => {
  const ran = await run(['verify', directory.write(new Uint8Array())]);
  expect([ran.status, ran.stderr]).toEqual([1, expect.stringMatching(/^bsdsyms: not-a-blob: .*empty.*\n$/)]);
});

describe('limits', () => {
  test.each([
    ['BSDSYMS_MAX_BLOB_BYTES', 'layout', 'a kernel', '1000'],
    ['BSDSYMS_MAX_FLAT_BYTES', 'image', 'a kernel', '1000'],
    // More than it has on the way, less than it has unpacked.
    ['BSDSYMS_MAX_IMAGE_BYTES', 'kernel', 'a kernel with gzip', '8000'],
  ])('are those of the service: %s', async (setting, name, image, limit) => {
    const limited = await startService({ LOG_LEVEL: 'silent', [setting]: limit });
    const answer = json(await post(limited, `/${name}`, IMAGES[image] ?? ''));
    await limited.close();
    const ran = await run([name, '--output=/dev/null', paths.get(image) ?? ''], { env: { [setting]: limit } });
    expect([ran.status, ran.stderr]).toEqual([1, line(answer)]);
  });

  test('that cannot be used are named, and those of the service alone are not looked at', async () => {
    const file = paths.get('a kernel') ?? '';
    const bad = await run(['layout', file], { env: { BSDSYMS_MAX_BLOB_BYTES: '1k' } });
    expect([bad.status, bad.stderr]).toEqual([
      2,
      expect.stringMatching(/^bsdsyms: BSDSYMS_MAX_BLOB_BYTES: must be .*\n$/),
    ]);
    const env = { BSDSYMS_URL: 'http://localhost', BSDSYMS_WORKERS: 'many', PORT: 'x' };
    expect((await run(['layout', file], { env })).status).toBe(0);
  });

  test('do not hold for a file that is read where it lies', async () => {
    const ran = await run(['layout', paths.get('a kernel') ?? ''], {
      env: { BSDSYMS_MAX_IMAGE_BYTES: '1', BSDSYMS_MEMORY_BUDGET_BYTES: '0', BSDSYMS_SPOOL_BUDGET_BYTES: '0' },
    });
    expect(ran.status).toBe(0);
  });

  test('on memory send an image to the spool, and on the spool are not a fault of the image', async () => {
    const command = ['blob', '-'];
    const env = { BSDSYMS_MEMORY_BUDGET_BYTES: '0' };
    const spooled = await run(command, { stdin: good, env });
    expect(Buffer.compare(spooled.stdout, (await run(command, { stdin: good })).stdout)).toBe(0);
    const full = await run(command, { stdin: good, env: { ...env, BSDSYMS_SPOOL_BUDGET_BYTES: '10' } });
    expect([full.status, full.stderr]).toEqual([2, expect.stringMatching(/^bsdsyms: spool-full: .*\n$/)]);
    const nowhere = await run(command, { stdin: good, env: { BSDSYMS_SPOOL_DIR: directory.file('nowhere') } });
    expect([nowhere.status, nowhere.stderr]).toEqual([
      2,
      expect.stringMatching(/^bsdsyms: spool-unavailable: .*ENOENT.*\n$/),
    ]);
  });
});
