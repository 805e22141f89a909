/** The recipes do what they say: a good kernel leaves its blob, a broken one fails the build and shows the reason. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { kernel } from '../support/elf-builder.ts';
import { post } from '../support/http.ts';
import { type Service, startService } from '../support/service.ts';
import { hasProgram } from '../support/temporary.ts';

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
const TOKEN = 'a-token';
const hasCurl = hasProgram('curl', '--version');

const good = kernel().bytes;
/** Long enough that curl asks whether it may send it. */
const large = kernel({ symbols: 60_000 }).bytes;
const stripped = kernel({ symtab: { type: 1 } }).bytes;
const REASON = /no-symbol-table: None of the \d+ sections is a symbol table/;

const read = (name: string): string => readFileSync(join(EXAMPLES, name), 'utf8');

interface Workflow {
  readonly jobs: Readonly<
    Record<string, { readonly steps: readonly { readonly name?: string; readonly run?: string }[] }>
  >;
}
interface Pipeline {
  readonly symbols: { readonly script: readonly string[] };
}

/** The shell of each recipe, as its system would run it. */
const RECIPES: Readonly<Record<string, () => string>> = {
  'github-actions.yml': () => {
    const steps = Object.values((parse(read('github-actions.yml')) as Workflow).jobs).flatMap((job) => job.steps);
    return steps.find(({ name }) => name === 'Symbols')?.run ?? '';
  },
  'gitlab-ci.yml': () => (parse(read('gitlab-ci.yml')) as Pipeline).symbols.script.join('\n'),
  // In a string of Groovy a backslash is written twice.
  Jenkinsfile: () => (/sh '''([^]*?)'''/.exec(read('Jenkinsfile'))?.[1] ?? '').replaceAll('\\\\', '\\'),
  Makefile: () => `make -f '${EXAMPLES}/Makefile' KERNEL=vmlinux && mv vmlinux.bsdsyms bsdsyms.bin`,
  'check-kernel.sh': () => `'${EXAMPLES}/check-kernel.sh' vmlinux`,
};

interface Outcome {
  readonly status: number | null;
  readonly output: string;
  readonly blob: Buffer | null;
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'bsdsyms-examples-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function run(
  script: string,
  image: Uint8Array,
  url: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  writeFileSync(join(directory, 'vmlinux'), image);
  const child = spawn('sh', ['-e', '-c', script], {
    cwd: directory,
    env: { PATH: process.env['PATH'], BSDSYMS_URL: url, BSDSYMS_TOKEN: TOKEN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (piece: Buffer) => {
      output += piece.toString();
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  const blob = join(directory, 'bsdsyms.bin');
  return { status, output, blob: existsSync(blob) ? readFileSync(blob) : null };
}

test('every example is run here', () => {
  expect(readdirSync(EXAMPLES).sort()).toEqual(Object.keys(RECIPES).sort());
});

describe.skipIf(!hasCurl)('recipes', () => {
  let service: Service;
  const authorization = { authorization: `Bearer ${TOKEN}` };
  beforeAll(async () => {
    const tokens = join(mkdtempSync(join(tmpdir(), 'bsdsyms-tokens-')), 'tokens');
    writeFileSync(tokens, `${TOKEN}\n`);
    service = await startService({ BSDSYMS_TOKENS_FILE: tokens });
    rmSync(join(tokens, '..'), { recursive: true });
  });
  afterAll(() => service.close());

  describe.each(Object.keys(RECIPES))('%s', (name) => {
    const skip = name === 'Makefile' && !hasProgram('make', '--version');
    const script = RECIPES[name]?.() ?? '';

    test.skipIf(skip).each([
      ['small', good],
      ['large', large],
    ])('leaves the blob of a %s kernel', async (_, image) => {
      const { status, output, blob } = await run(script, image, service.url);
      expect([status, output.replace(/^bsdsyms-.*\n/gm, '')]).toEqual([0, '']);
      expect(blob?.equals((await post(service, '/bsdsyms', image, authorization)).body)).toBe(true);
    });

    test.skipIf(skip)('fails for a kernel without symbols, and shows the reason', async () => {
      const { status, output, blob } = await run(script, stripped, service.url);
      expect(status).not.toBe(0);
      expect(output).toMatch(REASON);
      expect(output).not.toContain(TOKEN);
      expect(blob).toBeNull();
    });

    test.skipIf(skip)('fails without a token, and shows the reason', async () => {
      const { status, output, blob } = await run(script, good, service.url, { BSDSYMS_TOKEN: '' });
      expect(status).not.toBe(0);
      expect(output).toContain('unauthorized: ');
      expect(blob).toBeNull();
    });

    test.skipIf(skip || name !== 'check-kernel.sh')('gives up with a status of its own', async () => {
      const { status, output, blob } = await run(script, good, 'http://127.0.0.1:9', { BSDSYMS_ATTEMPTS: '1' });
      expect([status, blob]).toEqual([75, null]);
      expect(output).toContain('vmlinux: no answer after 1 attempts; the last status was 000');
    });

    test.skipIf(skip)('waits for a service that is busy', async () => {
      const answers = [503, 200];
      const busy = createServer((request, response) => {
        request.resume().once('end', () => {
          const status = answers.shift() ?? 500;
          response
            .writeHead(status, status === 503 ? { 'Retry-After': '1' } : {})
            .end(status === 200 ? 'blob' : 'too-busy: …');
        });
      });
      await once(busy.listen(0, '127.0.0.1'), 'listening');
      const address = busy.address();
      try {
        const port = typeof address === 'object' ? address?.port : undefined;
        const { status, blob } = await run(script, good, `http://127.0.0.1:${port}`);
        expect([status, blob?.toString(), answers]).toEqual([0, 'blob', []]);
      } finally {
        busy.close();
      }
    });
  });
});
