/** The recipes do what they promise: a good kernel passes, a broken one fails the build and shows why. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ASKING_NOTES, kernel, xenString } from '../support/elf-builder.ts';
import { post } from '../support/http.ts';
import { AUDIENCE, TestIssuer } from '../support/issuer.ts';
import { TestOrigin } from '../support/origin.ts';
import { type Service, startService } from '../support/service.ts';
import { hasProgram, TemporaryDirectory } from '../support/temporary.ts';
import { parseXml } from '../support/xml.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXAMPLES = join(ROOT, 'examples');
const TOKEN = 'a-token';
const hasCurl = hasProgram('curl', '--version');

const notes = [...ASKING_NOTES, xenString(6, 'NetBSD')];
const good = kernel({ notes }).bytes;
/** Long enough that curl asks whether it may send it. */
const large = kernel({ notes, symbols: 60_000 }).bytes;
/** What no build may pass with, what the output says of it, and how many tests a report has and failed. */
const BROKEN: readonly (readonly [string, Uint8Array | string, string, readonly string[] | null])[] = [
  ['a stripped kernel', kernel({ notes, symtab: { type: 1 } }).bytes, 'no-symbol-table: None of the', ['3', '2']],
  ['a user-space program or a kernel without Xen notes', kernel().bytes, 'no-xen-notes: ', ['2', '1']],
  [
    'a kernel that does not ask for its symbols',
    kernel({ notes: notes.slice(0, 2) }).bytes,
    'symbols-not-requested: ',
    ['2', '1'],
  ],
  [
    'a kernel that looks for its symbols elsewhere',
    kernel({ notes, symbols: [{ name: 'end', value: 0x10_1000n }] }).bytes,
    'end-symbol-elsewhere: ',
    ['3', '1'],
  ],
  ['what is no kernel', 'a path instead of a file', 'not-elf: ', null],
];

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Recipe {
  /** What the system runs. */
  readonly script: string;
  /** What it sets for that, beside the variables of the job. */
  readonly env: Readonly<Record<string, string>>;
  /** As the log of the service has it. */
  readonly requestId: string;
  readonly makesBlob: boolean;
  readonly writesJunit: boolean;
}

interface Step {
  readonly name?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly with?: Readonly<Record<string, string>>;
}
interface Inputs {
  readonly [name: string]: { readonly default?: string } | null;
}

/** `${{ a.b }}` as GitHub replaces it. */
const evaluate = (text: string, values: Readonly<Record<string, string>>): string =>
  text.replaceAll(/\$\{\{ ([\w.]+) \}\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${name} is not known`);
    return value;
  });

/** The composite action, as the workflow beside it uses it. */
function readAction(url: string): Recipe {
  const workflow = parse(read('examples/github-actions.yml')) as {
    readonly jobs: Readonly<Record<string, { readonly steps: readonly Step[] }>>;
  };
  const use = workflow.jobs['kernel']?.steps.find(({ uses }) => uses?.includes('/bsdsyms@') === true);
  const action = parse(read('action.yml')) as { readonly inputs: Inputs; readonly runs: { readonly steps: Step[] } };
  const [step] = action.runs.steps;
  const given = use?.with ?? {};
  expect(Object.keys(given).filter((name) => action.inputs[name] === undefined)).toEqual([]);
  const job = { 'vars.BSDSYMS_URL': url, 'secrets.BSDSYMS_TOKEN': '' };
  const values: Record<string, string> = { 'github.run_id': '17', 'github.run_attempt': '2', 'github.job': 'kernel' };
  for (const [name, input] of Object.entries(action.inputs)) {
    values[`inputs.${name}`] = evaluate(given[name] ?? input?.default ?? '', job);
  }
  const env = Object.entries(step?.env ?? {}).map(([name, value]) => [name, evaluate(value, values)] as const);
  return {
    script: step?.run ?? '',
    env: { ...Object.fromEntries(env), GITHUB_ACTION_PATH: ROOT },
    requestId: '17.2.kernel',
    makesBlob: true,
    writesJunit: true,
  };
}

/** The component, as the pipeline beside it includes it. */
function readComponent(url: string): Recipe {
  const pipeline = parse(read('examples/gitlab-ci.yml')) as {
    readonly include: readonly { readonly component: string; readonly inputs: Readonly<Record<string, string>> }[];
  };
  const given = pipeline.include[0]?.inputs ?? {};
  const [header, body = ''] = read('examples/gitlab/templates/check.yml').split(/^---$/m);
  const { inputs } = (parse(header ?? '') as { readonly spec: { readonly inputs: Inputs } }).spec;
  expect(Object.keys(given).filter((name) => !(name in inputs))).toEqual([]);
  const filled = body.replaceAll(/\$\[\[ inputs\.(\w+) \]\]/g, (_, name: string) => {
    const value = given[name] ?? inputs[name]?.default;
    if (value === undefined) throw new Error(`the input ${name} is missing`);
    return JSON.stringify(value);
  });
  const jobs = parse(filled) as Readonly<
    Record<string, { readonly variables: Readonly<Record<string, string>>; readonly script: readonly string[] }>
  >;
  const job = jobs['bsdsyms-check'];
  const known: Readonly<Record<string, string>> = { CI_JOB_ID: '4711', BSDSYMS_URL: url };
  const env = Object.entries(job?.variables ?? {}).map(
    ([name, value]) => [name, value.replaceAll(/\$(\w+)/g, (_, variable: string) => known[variable] ?? '')] as const,
  );
  return {
    script: job?.script.join('\n') ?? '',
    env: Object.fromEntries(env),
    requestId: 'gitlab-4711',
    makesBlob: false,
    writesJunit: true,
  };
}

/** The step of the shared library. In a string of Groovy a backslash is written twice. */
function readJenkinsStep(url: string): Recipe {
  const groovy = read('examples/jenkins/vars/bsdsymsCheck.groovy');
  expect(read('examples/Jenkinsfile')).toContain('bsdsymsCheck kernel:');
  return {
    script: (/script: '''([^]*?)'''/.exec(groovy)?.[1] ?? '').replaceAll('\\\\', '\\'),
    env: { KERNEL: 'vmlinux', SERVICE_URL: url, BSDSYMS_REQUIRE: '', BUILD_TAG: 'jenkins-a folder/kernel-7' },
    requestId: 'jenkins-a-folder-kernel-7',
    makesBlob: false,
    writesJunit: true,
  };
}

const RECIPES: Readonly<Record<string, (url: string) => Recipe>> = {
  'action.yml': readAction,
  'gitlab component': readComponent,
  'jenkins step': readJenkinsStep,
  Makefile: (url) => ({
    script: `make -s -f '${EXAMPLES}/Makefile' KERNEL=vmlinux || exit $?; mv vmlinux.bsdsyms bsdsyms.bin`,
    env: { BSDSYMS_URL: url, BSDSYMS_REQUEST_ID: 'make-1' },
    requestId: 'make-1',
    makesBlob: true,
    writesJunit: false,
  }),
  'check-kernel.sh': (url) => ({
    script: `'${EXAMPLES}/check-kernel.sh' vmlinux bsdsyms.bin`,
    env: { BSDSYMS_URL: url, BSDSYMS_REQUEST_ID: 'a job/1' },
    requestId: 'a-job-1',
    makesBlob: true,
    writesJunit: false,
  }),
};
const EXAMPLE_FILES = [
  'Jenkinsfile',
  'Makefile',
  'check-kernel.sh',
  'github-actions.yml',
  'github-release.yml',
  'gitlab',
  'gitlab-ci.yml',
  'gitlab/templates',
  'gitlab/templates/check.yml',
  'jenkins',
  'jenkins/vars',
  'jenkins/vars/bsdsymsCheck.groovy',
  'reference.sh',
];

interface Outcome {
  readonly status: number | null;
  readonly output: string;
  readonly blob: Buffer | null;
  readonly junit: string | null;
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'bsdsyms-examples-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function run(
  { script, env: recipe }: Recipe,
  image: Uint8Array | string,
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  writeFileSync(join(directory, 'vmlinux'), image);
  const child = spawn('sh', ['-e', '-c', script], {
    cwd: directory,
    env: { PATH: process.env['PATH'], ...recipe, BSDSYMS_TOKEN: TOKEN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (piece: Buffer) => {
      output += piece.toString();
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  const file = (name: string): Buffer | null =>
    existsSync(join(directory, name)) ? readFileSync(join(directory, name)) : null;
  return { status, output, blob: file('bsdsyms.bin'), junit: file('bsdsyms.xml')?.toString() ?? null };
}

/** How many tests a report has, and how many of them failed. */
function countTests(junit: string | null): (string | undefined)[] | null {
  if (junit === null) return null;
  const { tests, failures } = parseXml(junit).attributes;
  return [tests, failures];
}

/** Starts a server for the time of one test. */
async function withServer(server: Server, use: (url: string) => Promise<void>): Promise<void> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  try {
    await use(`http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('every example is known here', () => {
  expect(readdirSync(EXAMPLES, { recursive: true }).map(String).sort()).toEqual([...EXAMPLE_FILES].sort());
});

test('every workflow uses the same version of an action', () => {
  const used = EXAMPLE_FILES.filter((name) => /\.ya?ml$/.test(name)).flatMap((name) =>
    Array.from(read(`examples/${name}`).matchAll(/uses: (actions\/[\w-]+)@(\S+)/g), ([, action, version]) => [
      action,
      version,
    ]),
  );
  expect(used.length).toBeGreaterThan(3);
  expect(new Set(used.map(String)).size).toBe(new Set(used.map(([action]) => action)).size);
});

const linesOf = (script: string): string[] =>
  script
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);

test('GitLab and Jenkins run the same script', () => {
  const component = linesOf(readComponent('').script);
  expect(linesOf(readJenkinsStep('').script)).toEqual(
    component.map((line) => line.replace('$REQUEST_ID', '$BUILD_TAG')),
  );
});

describe.skipIf(!hasCurl)('recipes', () => {
  let service: Service;
  beforeAll(async () => {
    const tokens = join(mkdtempSync(join(tmpdir(), 'bsdsyms-tokens-')), 'tokens');
    writeFileSync(tokens, `${TOKEN}\n`);
    service = await startService({ BSDSYMS_TOKENS_FILE: tokens });
    rmSync(join(tokens, '..'), { recursive: true });
  });
  beforeEach(() => service.clearLogs());
  afterAll(() => service.close());

  describe('action.yml with an audience', () => {
    let issuer: TestIssuer;
    let signed: Service;
    const files = new TemporaryDirectory();
    beforeAll(async () => {
      issuer = await TestIssuer.start();
      signed = await startService({ BSDSYMS_OIDC_FILE: issuer.configure(files) });
    });
    afterAll(async () => {
      await signed.close();
      await issuer.close();
      files.remove();
    });

    test('sends the token that GitHub gives to the job', async () => {
      const token = await issuer.sign();
      issuer.misbehaviour = ({ url, headers }, response) => {
        const { pathname, searchParams } = new URL(url ?? '', issuer.url);
        if (pathname !== '/token') return false;
        expect([searchParams.get('api-version'), searchParams.get('audience')]).toEqual(['2.0', AUDIENCE]);
        response.writeHead(headers.authorization === 'Bearer of-the-job' ? 200 : 401);
        response.end(JSON.stringify({ count: 2, value: token }));
        return true;
      };
      const env = {
        AUDIENCE,
        BSDSYMS_TOKEN: '',
        ACTIONS_ID_TOKEN_REQUEST_URL: `${issuer.url}/token?api-version=2.0`,
        ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'of-the-job',
      };
      const { status, output } = await run(readAction(signed.url), good, env);
      // The mask is how GitHub learns what not to show.
      expect([status, output.replace(`::add-mask::${token}`, '').includes(token)]).toEqual([0, false]);
      const line = await signed.logged({ msg: 'request', route: '/check' });
      expect(line).toMatchObject({ status: 200, client: 'kernels', reqId: '17.2.kernel' });
    });

    test('says what the job lacks when GitHub gives none', async () => {
      const env = { AUDIENCE, BSDSYMS_TOKEN: '', ACTIONS_ID_TOKEN_REQUEST_URL: `${issuer.url}/none` };
      const { status, output } = await run(readAction(signed.url), good, env);
      expect([status, output]).toEqual([2, expect.stringContaining('id-token: write')]);
    });
  });

  test('check-kernel.sh writes no result over the kernel', async () => {
    for (const script of [`vmlinux ./vmlinux`, `vmlinux`]) {
      const recipe = {
        ...RECIPES['check-kernel.sh']?.(service.url),
        script: `'${EXAMPLES}/check-kernel.sh' ${script}`,
      };
      const { status, output } = await run(recipe as Recipe, good, { BSDSYMS_JUNIT: 'vmlinux' });
      expect([status, output]).toEqual([2, expect.stringContaining('vmlinux: is the kernel')]);
      expect(readFileSync(join(directory, 'vmlinux')).equals(good)).toBe(true);
    }
  });

  describe.each(Object.entries(RECIPES))('%s', (name, recipeFor) => {
    const skip = name === 'Makefile' && !hasProgram('make', '--version');
    /** make ends with 2 whatever the status of a command. */
    const statusOf = (status: number): number => (name === 'Makefile' ? 2 : status);

    test.skipIf(skip).each([
      ['small', good],
      ['large', large],
    ])('passes a %s kernel', async (_, image) => {
      const recipe = recipeFor(service.url);
      const { status, output, blob, junit } = await run(recipe, image);
      expect([status, output.includes(TOKEN), /FAILED|error/.test(output)]).toEqual([0, false, false]);
      await service.logged({ msg: 'request', route: '/check', reqId: recipe.requestId });
      const headers = { authorization: `Bearer ${TOKEN}` };
      const expected = recipe.makesBlob ? (await post(service, '/bsdsyms', image, headers)).body : null;
      expect(blob?.toString('hex')).toBe(expected?.toString('hex'));
      expect(countTests(junit)).toEqual(recipe.writesJunit ? ['3', '0'] : null);
    });

    test.skipIf(skip).each(BROKEN)('fails for %s, and shows why', async (_, image, reason, counts) => {
      const recipe = recipeFor(service.url);
      const { status, output, blob, junit } = await run(recipe, image);
      expect([status, output]).toEqual([statusOf(1), expect.stringContaining(reason)]);
      expect([output.includes(TOKEN), blob]).toEqual([false, null]);
      expect(countTests(junit)).toEqual(recipe.writesJunit ? counts : null);
    });

    test.skipIf(skip)('without a token it could not ask, and shows why', async () => {
      const recipe = recipeFor(service.url);
      const { status, output, blob } = await run(recipe, good, { BSDSYMS_TOKEN: '' });
      expect([status, blob]).toEqual([2, null]);
      expect(output).toContain('could not be asked (status 401)');
      expect(output).toMatch(new RegExp(`unauthorized: .* X-Request-Id: ${recipe.requestId}\n`));
    });

    test.skipIf(skip)('where nobody listens it could not ask', async () => {
      const { status, output } = await run(recipeFor('http://127.0.0.1:9'), good, { BSDSYMS_RETRIES: '0' });
      expect([status, output]).toEqual([2, expect.stringContaining('could not be asked (status 000)')]);
    });

    test.skipIf(skip)('leaves no result of an earlier build when it could not ask', async () => {
      for (const left of ['bsdsyms.xml', 'bsdsyms.bin', 'vmlinux.bsdsyms']) {
        writeFileSync(join(directory, left), '<testsuites tests="3" failures="0"/>');
        // make compares times.
        utimesSync(join(directory, left), 1, 1);
      }
      const recipe = recipeFor('http://127.0.0.1:9');
      const { status } = await run(recipe, good, { BSDSYMS_RETRIES: '0' });
      const results = [
        ...(recipe.writesJunit ? ['bsdsyms.xml'] : []),
        ...(recipe.makesBlob ? [name === 'Makefile' ? 'vmlinux.bsdsyms' : 'bsdsyms.bin'] : []),
      ];
      expect(results.length).toBeGreaterThan(0);
      expect([status, results.filter((left) => existsSync(join(directory, left)))]).toEqual([2, []]);
    });

    test.skipIf(skip)('waits for a service that is not there yet, and then busy', async () => {
      let asked = 0;
      const server = createServer((request, response) => {
        asked += 1;
        if (asked === 1) {
          request.socket.destroy();
          return;
        }
        request.resume().once('end', () => {
          const [status, body] = asked === 2 ? [503, 'too-busy: …'] : [200, '<testsuites/>'];
          response.writeHead(status, { 'Retry-After': '1' }).end(body);
        });
      });
      await withServer(server, async (url) => {
        const recipe = recipeFor(url);
        const { status } = await run(recipe, good, { BSDSYMS_RETRIES: '3' });
        expect([status, asked]).toEqual([0, recipe.makesBlob ? 4 : 3]);
      });
    });

    test.skipIf(skip)('tries again when the connection is refused', async () => {
      // Nobody listens at first; if curl comes later than that, it is simply answered.
      const late = createServer((request, response) => {
        request.resume().once('end', () => response.end('<testsuites/>'));
      });
      await once(late.listen(0, '127.0.0.1'), 'listening');
      const address = late.address();
      const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
      late.close();
      await once(late, 'close');
      const ran = run(recipeFor(`http://127.0.0.1:${port}`), good, { BSDSYMS_RETRIES: '6' });
      const timer = setTimeout(() => late.listen(port, '127.0.0.1'), 300);
      try {
        expect((await ran).status).toBe(0);
      } finally {
        clearTimeout(timer);
        late.closeAllConnections();
        late.close();
      }
    });
  });
});

/** What the workflow runs, with what GitHub puts in place of its expressions. */
function readRelease(url: string, repository: string): Recipe {
  const workflow = parse(read('examples/github-release.yml')) as {
    readonly jobs: Readonly<Record<string, { readonly steps: readonly Step[] }>>;
  };
  const step = workflow.jobs['symbols']?.steps.find(({ run: script }) => script !== undefined);
  const values = {
    'vars.BSDSYMS_URL': url,
    'secrets.BSDSYMS_TOKEN': TOKEN,
    'github.repository': repository,
    'github.event.release.tag_name': 'v1.0',
    'github.run_id': '17',
  };
  const env = Object.entries(step?.env ?? {}).map(([name, value]) => [name, evaluate(value, values)] as const);
  return {
    script: (step?.run ?? '').replace('examples/', `'${EXAMPLES}'/`),
    env: Object.fromEntries(env),
    requestId: 'release-17',
    makesBlob: true,
    writesJunit: false,
  };
}

describe.skipIf(!hasCurl)('recipes that upload nothing', () => {
  let origin: TestOrigin;
  let elsewhere: TestOrigin;
  let service: Service;
  const shared = new TemporaryDirectory();
  beforeAll(async () => {
    origin = await TestOrigin.start();
    elsewhere = await TestOrigin.start();
    const tokens = shared.write(`${TOKEN}\n`);
    service = await startService({
      BSDSYMS_TOKENS_FILE: tokens,
      BSDSYMS_IMAGE_SOURCES: `${origin.url}/,${elsewhere.url}/assets/,file://${shared.path}/kernels/`,
      BSDSYMS_SOURCE_MAX_REQUESTS: '8',
    });
  });
  beforeEach(() => {
    origin.reset();
    elsewhere.reset();
    service.clearLogs();
  });
  afterAll(async () => {
    await service.close();
    origin.close();
    elsewhere.close();
    shared.remove();
  });

  const refer = (imageUrl: string, env: Readonly<Record<string, string>> = {}, url = service.url): Promise<Outcome> =>
    run(
      {
        script: `'${EXAMPLES}/reference.sh' "$IMAGE_URL"`,
        env: { BSDSYMS_URL: url, IMAGE_URL: imageUrl, BSDSYMS_REQUEST_ID: 'a job/2' },
        requestId: 'a-job-2',
        makesBlob: true,
        writesJunit: false,
      },
      '',
      { BSDSYMS_RETRIES: '0', ...env },
    );
  const blobOf = async (image: Uint8Array): Promise<Buffer> =>
    (await post(service, '/bsdsyms', image, { authorization: `Bearer ${TOKEN}` })).body;
  /** A presigned URL, of which every character counts. */
  const SIGNATURE =
    'X-Amz-Credential=a%2Fb%2Faws4_request&X-Amz-Date=2024&X-Amz-Signature=0a+1b/2c==*!$(x)[y];&x-id=GetObject';

  test('S3: a presigned URL arrives as it was signed, once, as a GET', async () => {
    origin.serve('/bucket/vmlinux', large);
    origin.misbehaviour = (request, response) => {
      if (request.method === 'GET' && request.url === `/bucket/vmlinux?${SIGNATURE}`) return false;
      response.writeHead(403).end('SignatureDoesNotMatch');
      return true;
    };
    const { status, output, blob } = await refer(`${origin.url}/bucket/vmlinux?${SIGNATURE}`);
    expect([status, output]).toEqual([0, '']);
    expect(blob?.equals(await blobOf(large))).toBe(true);
    expect(service.logText()).not.toContain('Signature=');
    await service.logged({ msg: 'request', route: '/bsdsyms', method: 'GET', reqId: 'a-job-2' });
  });

  test('nginx and NFS: an URL of the farm, and a file', async () => {
    mkdirSync(join(shared.path, 'kernels', '42'), { recursive: true });
    writeFileSync(join(shared.path, 'kernels', '42', 'vmlinux'), good);
    for (const url of [origin.serve('/42/vmlinux', good), `file://${shared.path}/kernels/42/vmlinux`]) {
      const { status, output, blob } = await refer(url);
      expect([status, output]).toEqual([0, '']);
      expect(blob?.equals(await blobOf(good))).toBe(true);
    }
  });

  test('a GitHub release: the asset is elsewhere, where the redirect leads', async () => {
    const asset = elsewhere.serve('/assets/1', good);
    origin.misbehaviour = (request, response) => {
      if (request.url !== '/owner/repository/releases/download/v1.0/vmlinux') return false;
      response.writeHead(302, { Location: `${asset}?${SIGNATURE}` }).end();
      return true;
    };
    const recipe = readRelease(service.url, 'owner/repository');
    // The origin of this test stands for GitHub.
    const imageUrl = recipe.env['IMAGE_URL']?.replace('https://github.com', origin.url) ?? '';
    const { status, output, blob } = await run(recipe, '', { IMAGE_URL: imageUrl });
    expect([status, output]).toEqual([0, '']);
    expect(blob?.equals(await blobOf(good))).toBe(true);
    await service.logged({ msg: 'request', route: '/bsdsyms', reqId: recipe.requestId });
  });

  test('a broken kernel ends with 1; what could not be read, and a service that does not answer, with 2', async () => {
    const broken = origin.serve('/stripped', kernel({ notes, symtab: { type: 1 } }).bytes);
    const header = { e_phnum: 100, e_phentsize: 65_000 };
    const scattered = Buffer.concat([kernel({ symbols: 1, header }).bytes, Buffer.alloc(8_000_000)]);
    const cases: readonly (readonly [string, number, string, string?])[] = [
      [broken, 1, 'no-symbol-table: '],
      [origin.serve('/scattered', scattered), 2, 'source-scattered: '],
      [`${origin.url}/none`, 2, 'source-refused: '],
      ['https://elsewhere.example/vmlinux', 2, 'source-not-allowed: '],
      [broken, 2, 'status 000', 'http://127.0.0.1:9'],
    ];
    for (const [imageUrl, expected, words, url] of cases) {
      writeFileSync(join(directory, 'bsdsyms.bin'), 'of an earlier build');
      const { status, output, blob } = await refer(imageUrl, {}, url);
      expect([imageUrl, status, output]).toEqual([imageUrl, expected, expect.stringContaining(words)]);
      expect([output.includes(TOKEN), blob]).toEqual([false, null]);
    }
  });

  test('a URL cannot give options to curl', async () => {
    for (const url of [`${origin.url}/x"\nurl = "${elsewhere.url}/`, `${origin.url}/x\\`, `${origin.url}/a b`]) {
      const { status, output } = await refer(url);
      expect([status, output]).toEqual([2, expect.stringContaining('characters that no URL has')]);
    }
    expect([origin.requests, elsewhere.requests, service.logs('request')]).toEqual([[], [], []]);
  });
});

test.skipIf(!hasCurl)('the script takes requirements', async () => {
  const service = await startService();
  try {
    const recipe = RECIPES['check-kernel.sh']?.(service.url);
    if (recipe === undefined) throw new Error('there is no script');
    const { status, output } = await run(recipe, good, { BSDSYMS_REQUIRE: 'symbols no-warnings pvh' });
    expect([status, output]).toEqual([1, expect.stringContaining('FAILED: pvh: no-pvh-entry: ')]);
    const wrong = await run(recipe, good, { BSDSYMS_REQUIRE: 'everything' });
    expect([wrong.status, wrong.output]).toEqual([2, expect.stringContaining('parameter-invalid: require is')]);
  } finally {
    await service.close();
  }
});
