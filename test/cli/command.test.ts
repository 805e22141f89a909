/** The command line, and what becomes of files and streams that cannot be used. */
import { execFileSync } from 'node:child_process';
import { linkSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { optionsOf } from '../../src/cli/arguments.ts';
import { SUBCOMMANDS } from '../../src/cli/subcommands.ts';
import { SETTINGS } from '../../src/config.ts';
import { run } from '../support/command.ts';
import { buildImage, kernel } from '../support/elf-builder.ts';
import { hasProgram, TemporaryDirectory } from '../support/temporary.ts';
import { interceptReads, systemError } from '../support/uploads.ts';

const image = kernel({ symbols: 100 }).bytes;
const stripped = kernel({ symtab: { type: 1 } }).bytes;

let directory: TemporaryDirectory;
let file: string;

beforeEach(() => {
  directory = new TemporaryDirectory();
  file = directory.file('kernel');
  writeFileSync(file, image);
});

afterEach(() => {
  vi.restoreAllMocks();
  directory.remove();
});

/** That it ended with status 2 and these words on one line, and wrote nothing else. */
const fails = (words: string): unknown => ({
  status: 2,
  stdout: Buffer.alloc(0),
  stderr: expect.stringMatching(new RegExp(`^bsdsyms: [^\\n]*${words}[^\\n]*\\n$`)),
});

describe('a command line', () => {
  test.each([
    ['that is empty', [], 'No subcommand is given'],
    ['with another subcommand', ['blobs', 'x'], '"blobs"\\. Known names: blob, .*, serve, completion, help'],
    ['with the name of what objects inherit', ['constructor', 'x'], '"constructor"'],
    ['without a file', ['blob'], 'no-image: '],
    ['with an empty file name', ['blob', ''], 'ENOENT'],
    ['with two files', ['blob', 'a', 'b'], 'image-repeated: .*"a" and "b"'],
    ['with another option', ['blob', '--depth=1', 'a'], 'parameter-unknown: "--depth" .*--loadAddress, --loader'],
    ['with a short option that is none', ['blob', '-x', 'a'], 'parameter-unknown: "-x"'],
    ['with an option that objects inherit', ['blob', '--toString=1', 'a'], 'parameter-unknown: "--toString"'],
    ['with an option spelled otherwise', ['blob', '--load-address=1', 'a'], 'It is spelled --loadAddress'],
    ['with an option of another subcommand', ['layout', '--symbols=auto', 'a'], 'parameter-unknown: "--symbols"'],
    ['with an option that stands twice', ['blob', '--loader=xen-4.8', '--loader=xen-4.8', 'a'], 'parameter-conflict: '],
    ['with two outputs', ['blob', '-o', 'a', '--output=b', 'c'], 'parameter-conflict: '],
    ['without the value of an option', ['blob', 'a', '--loader'], '--loader needs a value'],
    ['without the value of a short option', ['blob', 'a', '-o'], '-o needs a value'],
    ['with the value of a switch', ['image', '--json=yes', 'a'], '--json takes no value'],
    ['with help on what there is none', ['help', 'blobs'], '"blobs"'],
    ['with arguments of the service', ['serve', '--port=1'], 'serve takes no arguments'],
    ['with two formats', ['symbols', '--json', '--text', 'a'], 'parameter-conflict: --json and --text exclude'],
    ['without a shell', ['completion'], 'one shell: bash or zsh'],
    ['with another shell', ['completion', 'fish'], 'one shell: bash or zsh'],
    ['with two shells', ['completion', 'bash', 'zsh'], 'one shell: bash or zsh'],
  ])('%s is refused: %j', async (_, args, words) => {
    expect(await run(args)).toEqual(fails(words));
  });

  test.each([
    ['apart', ['blob', '--loadAddress', '0x5000', 'kernel']],
    ['behind the file', ['blob', 'kernel', '--loadAddress=20480']],
  ])('may have its options %s', async (_, args) => {
    const given = args.map((arg) => (arg === 'kernel' ? file : arg));
    expect(await run(given)).toEqual(await run(['blob', '--loadAddress=0x5000', file]));
  });

  test('may have a file whose name begins like an option', async () => {
    expect(await run(['blob', '--', '--json'])).toEqual(fails('--json: no such file'));
  });

  test('of a hostile length is answered with a short line', async () => {
    const { stderr } = await run(['blob', `--${'x'.repeat(100_000)}=1`, 'y']);
    expect(stderr.length).toBeLessThan(300);
  });
});

describe('help', () => {
  test.each([[['--help']], [['-h']], [['help']], [['help', 'help']]])('%j lists the subcommands', async (args) => {
    const { status, stdout, stderr } = await run(args);
    expect([status, stderr]).toEqual([0, '']);
    for (const [name, { summary }] of Object.entries(SUBCOMMANDS)) {
      expect(stdout.toString()).toMatch(new RegExp(`^  ${name} +${summary.slice(0, 20)}`, 'm'));
    }
    for (const name of ['serve', 'completion', 'help', '--version, -V'])
      expect(stdout.toString()).toMatch(new RegExp(`^  ${name}`, 'm'));
  });

  test.each(Object.entries(SUBCOMMANDS))('of %s lists its options', async (name, subcommand) => {
    const { status, stdout, stderr } = await run(['help', name]);
    expect([status, stderr]).toEqual([0, '']);
    expect(await run([name, '--help'])).toEqual({ status, stdout, stderr });
    expect(await run([name, '-h', '--', 'x'])).toEqual({ status, stdout, stderr });
    const text = stdout.toString().replaceAll(/\s+/g, ' ');
    const parameters = Object.entries(subcommand.parameters).map(([option, { schema }]) => [option, schema] as const);
    for (const [option, { description }] of [...parameters, ...Object.entries(optionsOf(subcommand))]) {
      expect(text).toContain(`--${option}`);
      expect(text).toContain(description);
    }
    for (const value of parameters.flatMap(([, schema]) => schema.enum ?? [])) {
      expect(text).toContain(value);
    }
    const widths = stdout
      .toString()
      .split('\n')
      .map((line) => line.length);
    expect(Math.max(...widths)).toBeLessThanOrEqual(110);
  });

  test.each(['serve', 'completion'])('of %s is there in three ways', async (name) => {
    const asked = await run(['help', name]);
    expect(asked).toMatchObject({ status: 0, stderr: '' });
    for (const option of ['--help', '-h']) expect(await run([name, option])).toEqual(asked);
    expect(asked.stdout.toString()).toMatch(new RegExp(`^Usage: bsdsyms ${name}`));
  });

  test('of the service lists its settings', async () => {
    const text = (await run(['serve', '--help'])).stdout.toString();
    for (const { name, purpose } of Object.values(SETTINGS)) {
      expect(text).toMatch(new RegExp(`^  ${name}(?:=|$)`, 'm'));
      expect(text.replaceAll(/\s+/g, ' ')).toContain(purpose);
    }
  });

  test.each(['--version', '-V'])('is not needed to know the version: %s', async (option) => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(await run([option])).toEqual({ status: 0, stdout: Buffer.from(`${version}\n`), stderr: '' });
  });
});

describe('a file that cannot be read', () => {
  test.each([
    ['nothing', 'nothing: no such file or directory \\(ENOENT\\)'],
    ['kernel/x', 'not a directory \\(ENOTDIR\\)'],
    ['.', 'not-a-file: .*: It is a directory'],
  ])('%s is distinguished from a broken image', async (name, words) => {
    expect(await run(['layout', directory.file(name)])).toEqual(fails(words));
  });

  test.skipIf(process.getuid?.() === 0)('as it may not be', async () => {
    execFileSync('chmod', ['0', file]);
    expect(await run(['layout', file])).toEqual(fails('permission denied \\(EACCES\\)'));
  });

  test('is shown without its control characters', async () => {
    expect(await run(['layout', 'a\u001b[2Jb\nc'])).toEqual(fails('a\\\\x1b\\[2Jb\\\\x0ac: no such file'));
  });

  test('cut short while it is read, leaves no output', async () => {
    const output = directory.file('blob');
    const reads = await interceptReads();
    const push = reads.push.bind(reads);
    // Behind the first read, which is of its start.
    reads.push = (...read) => {
      truncateSync(file, 100);
      return push(...read);
    };
    expect(await run(['blob', '-o', output, file])).toEqual(fails('file-shortened: .*kernel: The file ended early'));
    expect(readdirSync(directory.path)).toEqual(['kernel']);
  });
});

describe('standard input', () => {
  test('that is a terminal is not waited for', async () => {
    expect(await run(['layout', '-'], { terminal: ['stdin'] })).toEqual(
      fails('no-image: Standard input is a terminal'),
    );
  });

  test('that fails is reported', async () => {
    const stdin = new Readable({ read: () => stdin.destroy(Object.assign(systemError('EIO'), { errno: -5 })) });
    expect(await run(['layout', '-'], { stdin })).toEqual(fails('standard input: i/o error \\(EIO\\)'));
  });

  test('that is empty holds no image', async () => {
    expect(await run(['blob', '-'])).toMatchObject({ status: 1, stderr: expect.stringMatching(/^bsdsyms: not-elf: /) });
  });
});

describe('a terminal', () => {
  const terminal = ['stdout'] as const;

  test.each(['blob', 'image'])('gets no bytes of %s', async (name) => {
    expect(await run([name, file], { terminal })).toEqual(fails('-o FILE'));
  });

  test.each([
    [['layout', '--json', 'FILE'], '\n'],
    [['image', '--json', 'FILE'], '\n'],
    [['layout', '--json', 'package.json'], '\n'],
    // It has one of its own.
    [['symbols', '--json', 'FILE'], ''],
    [['symbols', '--ndjson', 'FILE'], ''],
    [['symbols', '--text', '--name=none', 'FILE'], ''],
  ])('gets documents that end with a line feed: %j', async (args, feed) => {
    const given = args.map((arg) => (arg === 'FILE' ? file : arg));
    const [shown, piped] = [await run(given, { terminal }), await run(given)];
    expect(shown).toEqual({ ...piped, stdout: Buffer.concat([piped.stdout, Buffer.from(feed)]) });
    expect(shown.stdout.toString()).toMatch(/[^\n]\n$|^$/);
  });

  test.each([
    [['layout'], 'text', /^image: +ELF64 little-endian EXEC x86-64\n[\s\S]*^GUEST +SYMBOLS/m],
    [['kernel'], 'text', /^SEGMENT +FLAGS[\s\S]*^builder, PV +does not start/m],
    [['symbols', '--limit=2'], 'text', /^0{10}100000 0{16} FUNC +GLOBAL +1 sym_0\n.* sym_1x\n$/],
    [['check', '--require=symbols'], 'table', /^RESULT +REQUIREMENT +WHAT WAS FOUND\nok +symbols +/m],
    [['check'], 'table', /^FAILED +symbols-requested +no-xen-notes: /m],
  ])('gets text for people: %j', async (args, format, pattern) => {
    const shown = await run([...args, file], { terminal });
    expect(shown.stdout.toString()).toMatch(pattern);
    expect(shown.stdout.toString()).toMatch(/[^\n]\n$/);
    // The same where it is asked for, and JSON otherwise.
    expect(await run([...args, `--${format}`, file])).toEqual(shown);
    expect(JSON.parse((await run([...args, file])).stdout.toString())).toBeTypeOf('object');
  });

  test('gets the text of a blob', async () => {
    const { stdout: blob } = await run(['blob', file]);
    const shown = await run(['verify', '--address=0x102000', '-'], { stdin: blob, terminal });
    expect(shown).toMatchObject({ status: 0, stderr: '' });
    expect(shown.stdout.toString()).toMatch(/^TABLE +OFFSET +SIZE +ADDRESS\nsymtab +264 +2424 +0x102108$/m);
  });

  test('gets a refusal once, on standard error', async () => {
    const { status, stdout, stderr } = await run(['layout', 'package.json'], { terminal });
    expect([status, stdout.toString()]).toEqual([1, '']);
    expect(stderr).toMatch(/^bsdsyms: not-elf: [^\n]+\n$/);
  });

  test('cannot be written to by an image', async () => {
    const desc = Buffer.from('\u001b[2J\u202e\u0000', 'utf8');
    const hostile = kernel({
      notes: [{ name: 'Xen', type: 6, desc }],
      strtab: { data: Buffer.from('\0\u001b[31m\n\u009b\u0000', 'utf8') },
      symbols: 1,
    });
    writeFileSync(file, hostile.bytes);
    for (const name of ['layout', 'kernel', 'symbols', 'check']) {
      const { stdout, stderr } = await run([name, file], { terminal });
      expect(stdout.toString() + stderr).not.toMatch(/[^\P{C}\n]/u);
    }
    expect((await run(['kernel', file], { terminal })).stdout.toString()).toContain('GUEST_OS  \\x1b[2J');
  });

  test('does not matter for a file', async () => {
    const [blob, layout] = [directory.file('blob'), directory.file('layout')];
    expect(await run(['blob', '-o', blob, file], { terminal })).toMatchObject({ status: 0 });
    expect(await run(['layout', '-o', layout, file], { terminal })).toMatchObject({ status: 0 });
    expect(readFileSync(blob).equals((await run(['blob', file])).stdout)).toBe(true);
    expect(readFileSync(layout).equals((await run(['layout', file])).stdout)).toBe(true);
  });
});

describe('a search without a result ends with 1', () => {
  /** With code at 0x1000. */
  const searched = kernel({
    before: [{ name: '.code', flags: 2, addr: 0x1000, data: new Uint8Array(0x100) }],
    symbols: [{ name: 'sym_1x', value: 0x1020, size: 8, info: 0x12, shndx: 2 }],
  });
  beforeEach(() => writeFileSync(file, searched.bytes));

  test('of addresses is written as text', async () => {
    const { status, stdout } = await run(['symbols', '--text', '--address=0x1024', '--address=4', file]);
    expect([status, stdout.toString()]).toEqual([
      1,
      '0000000000001024 0000000000000008 FUNC    GLOBAL      2 sym_1x+0x4\n0000000000000004 no symbol\n',
    ]);
  });
  test.each([
    [['--name=sym_1x', '--name=none', '--name=no\u001b[2Jne'], 'No symbol has the name none, no\\\\x1b\\[2Jne\\.'],
    [['--address=0', '--address=0x1020'], 'No symbol stands for 0x0\\.'],
    [
      Array.from({ length: 7 }, (_, index) => `--name=none${index}`),
      'No symbol has the name none0, none1, none2, none3, none4 and 2 more\\.',
    ],
  ])('%j', async (args, words) => {
    for (const format of ['--json', '--ndjson', '--text']) {
      const { status, stdout, stderr } = await run(['symbols', format, ...args, file]);
      // What there is, is there.
      expect(stdout.toString().includes('sym_1x')).toBe(args.length < 4);
      expect([format, status, stderr]).toEqual([format, 1, expect.stringMatching(`^bsdsyms: ${words}\n$`)]);
    }
  });

  test('but not a page that is empty', async () => {
    expect(await run(['symbols', '--text', '--prefix=none', file])).toEqual({
      status: 0,
      stdout: Buffer.alloc(0),
      stderr: '',
    });
  });
});

describe('an output file', () => {
  test('is not made for an image that is refused, and one that is there stays', async () => {
    const [bad, output] = [directory.file('bad'), directory.file('output')];
    writeFileSync(bad, stripped);
    for (const name of ['blob', 'layout']) {
      expect(await run([name, '-o', output, bad])).toMatchObject({ status: 1, stdout: Buffer.alloc(0) });
    }
    expect(readdirSync(directory.path).sort()).toEqual(['bad', 'kernel']);
    writeFileSync(output, 'as it was');
    expect(await run(['blob', '-o', output, bad])).toMatchObject({ status: 1 });
    expect(readFileSync(output, 'utf8')).toBe('as it was');
  });

  test('that is the image, by whatever name, is refused before anything is written', async () => {
    const [hard, soft, packed] = [directory.file('hard'), directory.file('soft'), directory.file('packed')];
    linkSync(file, hard);
    symlinkSync('kernel', soft);
    writeFileSync(packed, gzipSync(image));
    const names = readdirSync(directory.path);
    for (const [output, input] of [file, hard, soft].flatMap((name) => [
      [name, file],
      [file, name],
    ])) {
      for (const name of Object.keys(SUBCOMMANDS)) {
        expect(await run([name, '-o', output ?? '', input ?? ''])).toEqual(
          fails('The output is the file that is read'),
        );
      }
    }
    expect(await run(['blob', '-o', packed, packed])).toEqual(fails('The output is the file that is read'));
    expect(await run(['blob', '-o', file, pathToFileURL(hard).href])).toEqual(
      fails('The output is the file that is read'),
    );
    expect(await run(['check', `--junit=${soft}`, file])).toEqual(fails('The output is the file that is read'));
    expect(readFileSync(file).equals(image)).toBe(true);
    expect(readdirSync(directory.path)).toEqual(names);
  });

  test('that is another output is refused', async () => {
    const output = directory.file('output');
    expect(await run(['check', `--junit=${output}`, '-o', output, file])).toEqual(
      fails('Two outputs go to the same file'),
    );
    symlinkSync('kernel', directory.file('soft'));
    writeFileSync(output, 'as it was');
    linkSync(output, directory.file('hard'));
    const args = ['check', `--junit=${output}`, '-o', directory.file('hard'), file];
    expect(await run(args)).toEqual(fails('Two outputs go to the same file'));
    expect(readFileSync(output, 'utf8')).toBe('as it was');
    expect(await run(['check', '--junit=/dev/null', '-o', '/dev/null', file])).toMatchObject({ status: 1 });
  });

  test.each([
    ['nothing/blob', 'blob: no such file or directory \\(ENOENT\\)'],
    ['.', 'illegal operation on a directory \\(EISDIR\\)'],
    ['kernel/blob', 'not a directory \\(ENOTDIR\\)'],
  ])('that cannot be is named: %s', async (name, words) => {
    expect(await run(['layout', '-o', directory.file(name), file])).toEqual(fails(words));
    expect(readdirSync(directory.path)).toEqual(['kernel']);
  });

  test.skipIf(!hasProgram('test', '-c', '/dev/full'))('on a full disk is named', async () => {
    expect(await run(['layout', '-o', '/dev/full', file])).toEqual(fails('/dev/full: no space left .*\\(ENOSPC\\)'));
    expect(statSync('/dev/full').isCharacterDevice()).toBe(true);
  });
});

/** As large as the kernel of a distribution with its debug information; all but its headers and symbols is a hole. */
async function writeVmlinux(path: string): Promise<{ readonly size: number; readonly symbolBytes: number }> {
  const [symtabSize, strtabSize, size] = [2_856_504, 2_466_359, 589_914_456];
  const strtabAt = size - strtabSize;
  const { bytes } = buildImage({
    segments: Array.from({ length: 5 }, (_, index) => ({ paddr: (index + 1) * 0x100_0000, memsz: 0x80_0000 })),
    sections: [
      ...Array.from({ length: 78 }, (_, index) => ({ name: `.section.${index}` })),
      {
        name: '.symtab',
        type: 2,
        link: '.strtab',
        entsize: 24,
        header: { sh_offset: strtabAt - symtabSize, sh_size: symtabSize },
      },
      { name: '.strtab', type: 3, header: { sh_offset: strtabAt, sh_size: strtabSize } },
    ],
  });
  const handle = await open(path, 'w');
  await handle.write(bytes);
  await handle.truncate(size);
  await handle.close();
  return { size, symbolBytes: symtabSize + strtabSize };
}

test('of a large kernel no byte of the symbols is read twice, and hardly any other', async () => {
  const { size, symbolBytes } = await writeVmlinux(directory.file('vmlinux'));
  const reads = await interceptReads();
  const { status, stdout } = await run(['blob', directory.file('vmlinux')]);
  expect([status, stdout.length > symbolBytes]).toEqual([0, true]);
  const bytesRead = reads.reduce((sum, { length }) => sum + length, 0);
  expect(bytesRead).toBeGreaterThanOrEqual(symbolBytes);
  expect(bytesRead).toBeLessThan(symbolBytes + 64 * 1024);
  // What is asked of it.
  expect(bytesRead).toBeLessThan(8_000_000);
  expect(Math.max(...reads.map(({ offset, length }) => offset + length))).toBe(size);
});
