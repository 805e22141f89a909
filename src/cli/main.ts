/** Runs the command, from its arguments to its exit status. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMessage } from 'node:util';
import { ConfigError, readSettings } from '../config.ts';
import { FileError } from '../image/file.ts';
import type { GatheredImage } from '../image/gather.ts';
import { openImageFile, openImageStream, openImageUrl } from '../image/open.ts';
import { isSourceUrl } from '../image/remote/is-source-url.ts';
import { ImageError } from '../inspect/image-error.ts';
import type { ImageSource } from '../inspect/image-source.ts';
import { describeProblem, IMAGE_PROBLEM_KINDS, type ImageProblemCode, type ProblemSubject } from '../report/problem.ts';
import { printable } from '../report/table.ts';
import type { BuilderVerdict } from '../xen/builder.ts';
import { type ImageInvocation, parseCommandLine, type Shell, UsageError } from './arguments.ts';
import { type FileIdentity, identify, isSame, OutputError, type Piece, writeToFile, writeToStream } from './output.ts';
import { LIMITS, type Limits, type ReportName, type Result } from './subcommands.ts';

/** Done; the image is refused; anything else; nobody reads the output any more, as a shell tells it (128 + SIGPIPE). */
export type ExitStatus = 0 | 1 | 2 | 141;
const PIPE_CLOSED = 141;

/** Standard streams and environment of the command. */
interface Stdio {
  readonly stdin: Readable & { readonly isTTY?: boolean; readonly fd?: number };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly fd?: number };
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The FILE that means standard input. */
const STANDARD_INPUT = '-';

/**
 * Runs the command. Every error is one line on standard error.
 *
 * @param args the arguments after the name of the program
 */
export async function runCommand(args: readonly string[], stdio: Stdio): Promise<ExitStatus> {
  const { stdout } = stdio;
  // The writer gets the error too; without a listener it would end the process.
  stdout.on('error', () => {});
  const say = (line: string): void => {
    const { stderr } = stdio;
    if (stderr.listenerCount('error') === 0) stderr.on('error', () => {});
    stderr.write(`bsdsyms: ${line}\n`);
  };
  try {
    const invocation = parseCommandLine(args);
    switch (invocation.kind) {
      case 'version':
        await writeToStream(stdout, [`${await readVersion()}\n`]);
        return 0;
      case 'help':
        await writeToStream(stdout, [await help(invocation.about)]);
        return 0;
      case 'completion':
        await writeToStream(stdout, [await completion(invocation.shell)]);
        return 0;
      case 'image':
        return await runSubcommand(invocation, stdio, say);
    }
  } catch (error) {
    // As `head` does it: the reader has what it wanted.
    if (error instanceof OutputError && error.closed) return PIPE_CLOSED;
    say(explainFailure(error));
    return 2;
  }
}

async function runSubcommand(
  { name, subcommand, file, parameters, format: asked, outputPath, reportPaths }: ImageInvocation,
  stdio: Stdio,
  say: (line: string) => void,
): Promise<ExitStatus> {
  const { stdin, stdout, env } = stdio;
  const output = await identify(outputPath ?? stdout);
  await refuseOverwriting(await identify(file === STANDARD_INPUT ? stdin : pathOf(file)), [
    outputPath ?? stdout,
    ...Object.values(reportPaths),
  ]);
  // Such as /dev/stdout, which must not be replaced by a file.
  const toStandardOutput = outputPath === null || isSame(output, await identify(stdout));
  const forPerson = outputPath === null && stdout.isTTY === true;
  const format = asked ?? (forPerson ? subcommand.terminalFormat : undefined) ?? subcommand.formats[0];
  if (format === 'bytes' && forPerson) {
    throw new UsageError(`${name} writes bytes, and standard output is a terminal. Add -o FILE, > FILE or a pipe.`);
  }
  const limits = readSettings(env, LIMITS);
  const write = (pieces: AsyncIterable<Piece> | Iterable<Piece>): Promise<void> => {
    if (!toStandardOutput) return writeToFile(outputPath, pieces);
    return writeToStream(stdout, forPerson ? endLine(pieces) : pieces);
  };
  const refuse = async (
    code: ImageProblemCode,
    detail: string,
    subject: ProblemSubject | null,
    builder?: BuilderVerdict | null,
  ): Promise<ExitStatus> => {
    // A reader of JSON gets the problem in JSON, as from the service; a file appears only when it is complete.
    if ((format === 'json' || format === 'ndjson') && outputPath === null) {
      await write([JSON.stringify(describeProblem(code, IMAGE_PROBLEM_KINDS[code], detail, subject, builder))]);
    }
    say(`${code}: ${detail}`);
    return 1;
  };

  let source: ImageSource | null = null;
  try {
    const opened = await openInput(file, stdio, limits, subcommand.unpack ?? true);
    source = opened.source;
    const result = await subcommand.run({ ...opened, parameters, limits, format });
    if (!result.ok) return await refuse(result.broken.code, result.broken.detail, result);
    for (const line of remarks(result)) say(line);
    for (const [report, path] of Object.entries(reportPaths) as [ReportName, string][]) {
      const text = result.reports?.[report]?.();
      if (text !== undefined) await writeToFile(path, [text]);
    }
    await write(result.output);
    const failure = result.failure?.() ?? null;
    if (failure === null) return 0;
    say(failure.code === null ? failure.detail : `${failure.code}: ${failure.detail}`);
    return 1;
  } catch (error) {
    if (error instanceof ImageError && isFaultOfImage(error)) {
      return await refuse(error.code, error.message, null, error.builder);
    }
    if (error instanceof FileError || isSystemError(error)) throw new InputError(file, error);
    throw error;
  } finally {
    await source?.close();
  }
}

/** The path of an image that a URL of this machine names. */
function pathOf(file: string): string {
  if (!isSourceUrl(file)) return file;
  try {
    return fileURLToPath(file);
  } catch {
    // Elsewhere, or no URL at all.
    return file;
  }
}

/** @throws UsageError when an output is what is read, or another output */
async function refuseOverwriting(
  input: FileIdentity | null,
  outputs: readonly (string | { readonly fd?: number })[],
): Promise<void> {
  const before: (FileIdentity | null)[] = [];
  const names = new Set<string>();
  for (const output of outputs) {
    const target = await identify(output);
    const isFile = target?.isFile() === true;
    if (isFile && isSame(target, input)) {
      throw new UsageError('The output is the file that is read. Give it another name.');
    }
    const name = typeof output === 'string' ? resolve(output) : null;
    if ((isFile && before.some((other) => isSame(target, other))) || (name !== null && names.has(name))) {
      throw new UsageError('Two outputs go to the same file. Give them different names.');
    }
    before.push(target);
    if (name !== null && (target === null || isFile)) names.add(name);
  }
}

/** Adds a line feed to text that lacks one. Otherwise documents have the same bytes as the service's. */
async function* endLine(pieces: AsyncIterable<Piece> | Iterable<Piece>): AsyncGenerator<Piece> {
  let last: Piece = '';
  for await (const piece of pieces) {
    yield piece;
    last = piece;
  }
  if (typeof last === 'string' && last !== '' && !last.endsWith('\n')) yield '\n';
}

/** @throws UsageError, ImageError, FileError, and the system's errors */
async function openInput(file: string, stdio: Stdio, limits: Limits, unpack: boolean): Promise<GatheredImage> {
  if (isSourceUrl(file)) return openImageUrl(file, limits, unpack);
  if (file !== STANDARD_INPUT) return openImageFile(file, limits, unpack);
  const { stdin } = stdio;
  if (stdin.isTTY === true) throw new UsageError('no-image: Standard input is a terminal. Give a FILE or a pipe.');
  return openImageStream(stdin, limits, unpack);
}

/** Remarks on bytes that were loaded anyway. */
function remarks({ broken = null, warnings = [] }: Result): string[] {
  const lines = warnings.map(({ code, detail }) => `warning: ${code}: ${detail}`);
  return broken === null ? lines : [`broken: ${broken.code}: ${broken.detail}`, ...lines];
}

/** The file cannot be read, for a reason that is not in the image. */
class InputError extends Error {
  override readonly name = 'InputError';
  readonly file: string;

  constructor(file: string, cause: unknown) {
    super(`${file} cannot be read`, { cause });
    this.file = file;
  }
}

/** Other errors are faults of the place where images are kept, or of the origin. */
const isFaultOfImage = ({ code }: ImageError): boolean =>
  IMAGE_PROBLEM_KINDS[code].status < 500 && (!code.startsWith('source-') || code === 'source-scattered');

const isSystemError = (error: unknown): error is NodeJS.ErrnoException & { readonly errno: number } =>
  error instanceof Error && 'errno' in error && typeof error.errno === 'number';

/** One line; for a defect of the command, its stack. */
function explainFailure(error: unknown): string {
  if (error instanceof UsageError || error instanceof ConfigError) return error.message;
  if (error instanceof OutputError) return `${printable(error.target)}: ${explainCause(error.cause)}`;
  if (error instanceof InputError) return explainInput(error);
  if (error instanceof ImageError) {
    const cause = isSystemError(error.cause) ? ` (${explainCause(error.cause)})` : '';
    return `${error.code}: ${error.message}${cause}`;
  }
  return `internal-error: ${error instanceof Error ? error.stack : String(error)}`;
}

function explainInput({ file, cause }: InputError): string {
  const name = file === STANDARD_INPUT ? 'standard input' : printable(file);
  if (!(cause instanceof FileError)) return `${name}: ${explainCause(cause)}`;
  return `${cause.code}: ${name}: ${cause.message}`;
}

const explainCause = (cause: unknown): string =>
  isSystemError(cause) ? `${getSystemErrorMessage(cause.errno)} (${cause.code})` : String(cause);

async function readVersion(): Promise<string> {
  const manifest = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { readonly version: string }).version;
}

async function help(about: string | null): Promise<string> {
  const { describeCommand, describeTopic } = await import('./help.ts');
  return about === null ? describeCommand() : describeTopic(about);
}

async function completion(shell: Shell): Promise<string> {
  const { writeCompletion } = await import('./completion.ts');
  return writeCompletion(shell);
}
