import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OutputError, type Piece, writeToFile, writeToStream } from '../../../src/cli/output.ts';
import { hasProgram, TemporaryDirectory } from '../../support/temporary.ts';
import { eventually, Gate, openFiles, systemError } from '../../support/uploads.ts';

let directory: TemporaryDirectory;
let filesAtStart: number | null;
let path: string;

beforeEach(() => {
  directory = new TemporaryDirectory();
  path = directory.file('output');
  filesAtStart = openFiles();
});

afterEach(async () => {
  try {
    await eventually('all files are closed', () => openFiles() === filesAtStart);
    assert.deepEqual(listeners(), listenersAtStart);
  } finally {
    directory.remove();
  }
});

const listeners = (): number[] => ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => process.listenerCount(signal));
const listenersAtStart = listeners();
const failure = new Error('the image is gone');

async function* failing(): AsyncGenerator<Piece> {
  yield 'half';
  await Promise.reject(failure);
}

describe('writeToFile', () => {
  test('writes bytes and text in their order', async () => {
    await writeToFile(path, ['é', Uint8Array.of(0, 255), '', new Uint8Array(), '.']);
    expect(readFileSync(path).toString('latin1')).toBe('Ã©\u0000ÿ.');
  });

  test('makes an empty file of nothing', async () => {
    await writeToFile(path, []);
    expect(readFileSync(path)).toHaveLength(0);
  });

  test('shows the file as it was until it is complete', async () => {
    writeFileSync(path, 'as it was');
    const gate = new Gate();
    async function* slowly(): AsyncGenerator<Piece> {
      yield 'new';
      await gate.pass();
    }
    const writing = writeToFile(path, slowly());
    await eventually('it is at it', () => gate.arrived === 1);
    expect(readFileSync(path, 'utf8')).toBe('as it was');
    gate.open();
    await writing;
    expect([readFileSync(path, 'utf8'), readdirSync(directory.path)]).toEqual(['new', ['output']]);
  });

  test('leaves the file as it was, and nothing else, when there is nothing more to write', async () => {
    writeFileSync(path, 'as it was');
    await expect(writeToFile(path, failing())).rejects.toBe(failure);
    expect([readFileSync(path, 'utf8'), readdirSync(directory.path)]).toEqual(['as it was', ['output']]);
    await expect(writeToFile(directory.file('new'), failing())).rejects.toBe(failure);
    expect(readdirSync(directory.path)).toEqual(['output']);
  });

  test('gives the file the rights that a shell would', async () => {
    const mask = process.umask();
    await writeToFile(path, ['x']);
    expect(statSync(path).mode & 0o777).toBe(0o666 & ~mask);
  });

  test.each([0o600, 0o640, 0o444, 0o755])('keeps the permissions of a file that is replaced: %o', async (mode) => {
    writeFileSync(path, 'as it was');
    chmodSync(path, mode);
    const writable = (mode & 0o200) !== 0 || process.getuid?.() === 0;
    // A shell would not write to a file that it may not write to, whoever owns the folder.
    const outcome = await writeToFile(path, ['new']).then(
      () => 'written',
      (error: unknown) => (error instanceof OutputError ? (error.cause as NodeJS.ErrnoException).code : error),
    );
    expect(outcome).toBe(writable ? 'written' : 'EACCES');
    expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual([writable ? 'new' : 'as it was', mode]);
  });

  test('keeps the bytes of a private file private while they are written', async () => {
    writeFileSync(path, 'as it was', { mode: 0o600 });
    const gate = new Gate();
    async function* slowly(): AsyncGenerator<Piece> {
      await gate.pass();
      yield 'new';
    }
    const writing = writeToFile(path, slowly());
    await eventually('it is at it', () => gate.arrived === 1);
    const modes = readdirSync(directory.path).map((name) => statSync(directory.file(name)).mode & 0o777);
    expect(modes).toEqual([0o600, 0o600]);
    gate.open();
    await writing;
  });

  test.skipIf(process.getuid?.() !== 0)('keeps the owner of a file that is replaced', async () => {
    writeFileSync(path, 'as it was');
    chownSync(path, 12, 34);
    await writeToFile(path, ['new']);
    expect([statSync(path).uid, statSync(path).gid]).toEqual([12, 34]);
  });

  test('makes the file that a link leads to', async () => {
    symlinkSync('elsewhere', directory.file('second'));
    symlinkSync('second', path);
    await writeToFile(path, ['new']);
    expect(readdirSync(directory.path).sort()).toEqual(['elsewhere', 'output', 'second']);
    expect([readlinkSync(path), readFileSync(directory.file('elsewhere'), 'utf8')]).toEqual(['second', 'new']);
  });

  test.skipIf(!existsSync('/proc/self/fd'))(
    'writes to an open file as it is, by a link to its descriptor',
    async () => {
      const opened = await open(directory.file('opened'), 'w');
      symlinkSync(`/proc/self/fd/${opened.fd}`, path);
      await writeToFile(path, ['new']);
      expect(readlinkSync(path)).toBe(`/proc/self/fd/${opened.fd}`);
      expect([(await opened.stat()).size, readFileSync(directory.file('opened'), 'utf8')]).toEqual([3, 'new']);
      await opened.close();
    },
  );

  test('follows links', async () => {
    const target = directory.write('as it was');
    symlinkSync(target, path);
    await writeToFile(path, ['new']);
    expect([readlinkSync(path), readFileSync(target, 'utf8')]).toEqual([target, 'new']);
  });

  test('does not put a file in the place of a device', async () => {
    await writeToFile('/dev/null', ['x']);
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test.skipIf(!hasProgram('mkfifo', '--version'))('writes to a pipe as it comes', async () => {
    execFileSync('mkfifo', [path]);
    const [text] = await Promise.all([readFile(path, 'utf8'), writeToFile(path, ['to be ', 'read'])]);
    expect([text, statSync(path).isFIFO()]).toEqual(['to be read', true]);
  });

  test.each([
    ['in no directory', 'nothing/output', 'ENOENT'],
    ['that is a directory', '.', 'EISDIR'],
    ['whose name is that of a directory', 'nothing/', 'EISDIR'],
    ['with a name that is too long', 'x'.repeat(1000), 'ENAMETOOLONG'],
  ])('reports a file %s', async (_, name, code) => {
    const error = await writeToFile(directory.file(name), ['x']).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OutputError);
    expect(error).toMatchObject({ target: directory.file(name), cause: { code } });
    expect(readdirSync(directory.path)).toEqual([]);
  });
});

test('refuses a link to itself', async () => {
  symlinkSync('output', path);
  const error = await writeToFile(path, ['x']).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'OutputError', cause: { code: 'ELOOP' } });
});

describe('writeToStream', () => {
  test('writes one piece after another, each when the one before was written', async () => {
    const taken: string[] = [];
    const stream = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        taken.push(`begin ${chunk.toString()}`);
        setImmediate(() => {
          taken.push(`end ${chunk.toString()}`);
          done();
        });
      },
    });
    await writeToStream(stream, ['a', Buffer.from('b')]);
    expect(taken).toEqual(['begin a', 'end a', 'begin b', 'end b']);
  });

  test('reports the error of the stream', async () => {
    const stream = new Writable({ write: (_chunk, _encoding, done) => done(systemError('EPIPE')) });
    stream.on('error', () => {});
    const error = await writeToStream(stream, ['a', 'b']).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'OutputError', target: 'standard output', cause: { code: 'EPIPE' } });
  });

  test('passes on what the pieces fail with', async () => {
    await expect(writeToStream(new Writable({ write: (_c, _e, done) => done() }), failing())).rejects.toBe(failure);
  });
});
