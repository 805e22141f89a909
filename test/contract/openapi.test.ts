/** The document and the service, held against each other in both directions. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { PROBLEM_KINDS } from '../../src/http/problem.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { RemoteSource } from '../../src/image/remote/remote-source.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { document, goodFor, isUpload, type Operation, operations, documentText as text } from '../support/document.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { imageForm, multipart } from '../support/forms.ts';
import { type Answer, post, postForm, send } from '../support/http.ts';
import { TestIssuer } from '../support/issuer.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { type Service, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const uploads = operations.filter(isUpload);
/** The routes that take an image by reference with GET. */
const isByUrl = ({ operation }: { readonly operation: Operation }): boolean => operation.operationId.endsWith('ByUrl');

const image = kernel({ symbols: 9, notes: ASKING_NOTES }).bytes;
/** Has warnings, and a reason against it that does not stop Xen. */
const oddImage = kernel({
  class: 'ELF32',
  byteOrder: 'big',
  header: { e_shstrndx: 5 },
  symtab: { header: { sh_size: 0x8000 } },
}).bytes;
/** Has a reason against it that leaves its tables to be read. */
const oddlyReadable = kernel({ header: { e_phoff: 2n ** 64n - 56n } }).bytes;
/** Meets what is required, with a warning. */
const warnedImage = kernel({ memsz: 0x2001, notes: ASKING_NOTES }).bytes;
/** Something odd that a route takes. */
const oddFor = (path: string): Uint8Array =>
  ({ '/verify': Buffer.from('no blob'), '/symbols': oddlyReadable, '/check': warnedImage })[path] ?? oddImage;
/** A file of the wrong kind. */
const badFor = (path: string): Uint8Array | string => (path === '/verify' ? image : 'no image');
const TOKEN = 'a-token-of-these-tests';
const MAX_IMAGE_BYTES = 64 * 1024;

/** What the service has to be like for some of its answers. */
const ENVIRONMENTS = {
  plain: {},
  limited: { BSDSYMS_MAX_IMAGE_BYTES: String(MAX_IMAGE_BYTES) },
  impatient: { BSDSYMS_STALL_TIMEOUT_MS: '100' },
  hurried: { BSDSYMS_UPLOAD_TIMEOUT_MS: '100' },
  rationed: { BSDSYMS_RATE_LIMIT_PER_MINUTE: '1' },
  full: { BSDSYMS_MEMORY_BUDGET_BYTES: '0', BSDSYMS_SPOOL_BUDGET_BYTES: '16' },
  waiting: { BSDSYMS_SOURCE_STALL_TIMEOUT_MS: '100' },
  draining: {},
  guarded: {},
};
type Environment = keyof typeof ENVIRONMENTS;

const services = new Map<string, Service>();
let directory: string;
let origin: TestOrigin;
let issuer: TestIssuer;
/** A good token of somebody who is not let in. */
let stranger: string;
const oidcFiles = new TemporaryDirectory();

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bsdsyms-contract-'));
  origin = await TestOrigin.start();
  serveImages();
  const tokens = join(directory, 'tokens');
  await writeFile(tokens, `${TOKEN}\n`);
  issuer = await TestIssuer.start();
  stranger = await issuer.sign({ claims: { repository_owner: 'somebody-else' } });
  for (const [name, env] of Object.entries(ENVIRONMENTS)) {
    const oidc = issuer.configure(oidcFiles);
    const guards = { BSDSYMS_TOKENS_FILE: tokens, BSDSYMS_METRICS_TOKENS_FILE: tokens, BSDSYMS_OIDC_FILE: oidc };
    const sources = { BSDSYMS_IMAGE_SOURCES: `${origin.url}/` };
    services.set(name, await startService({ ...sources, ...(name === 'guarded' ? guards : env) }));
  }
  service('draining').app.lifecycle.drain();
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await Promise.all([...services.values()].map((one) => one.close()));
  origin.close();
  await issuer.close();
  oidcFiles.remove();
  await rm(directory, { recursive: true });
});

function service(name: Environment): Service {
  const one = services.get(name);
  if (one === undefined) throw new Error(`the service ${name} was not started`);
  return one;
}

/** Header fields that any answer may have, by HTTP or by the frame of this service. */
const GENERAL_HEADERS = new Set(
  (
    'date connection keep-alive content-type content-length content-disposition cache-control allow retry-after ' +
    'www-authenticate accept-encoding transfer-encoding x-request-id x-content-type-options ' +
    'ratelimit-limit ratelimit-remaining ratelimit-reset vary'
  ).split(' '),
);

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addFormat('binary', true);
ajv.addSchema(closeObjects(document) as object, 'openapi');

/** The same schemas, taking no member that they do not name. */
function closeObjects(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closeObjects);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([name, member]) => [name, closeObjects(member)]));
  const isOpen = copy['type'] === 'object' && 'properties' in copy && !('additionalProperties' in copy);
  return isOpen ? { ...copy, additionalProperties: false } : copy;
}

/** What answers have that the document does not say of them; each once. */
const complaints = (method: string, path: string, answers: readonly Answer[]): string[] => [
  ...new Set(answers.flatMap((answer) => complaintsOf(method, path, answer))),
];

function complaintsOf(method: string, path: string, answer: Answer): string[] {
  const operation = document.paths[path]?.[method.toLowerCase()];
  const response = operation?.responses[answer.status];
  if (response === undefined) return [`${method} ${path}: status ${answer.status} is not documented`];
  const type = mediaType(answer);
  const where = `${method} ${path} ${answer.status} ${type}`;
  if (answer.status === 304) return type === '' && answer.text === '' ? [] : [`${where}: it has a body`];
  if (!(type in response.content)) return [`${where}: the type is not documented`];
  const documented = new Set(Object.keys(response.headers ?? {}).map((name) => name.toLowerCase()));
  const unnamed = Object.keys(answer.headers).filter((name) => !documented.has(name) && !GENERAL_HEADERS.has(name));
  const pointer = ['paths', path, method.toLowerCase(), 'responses', String(answer.status), 'content', type, 'schema']
    .map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1')))
    .join('/');
  const validate = ajv.compile({ $ref: `openapi#/${pointer}` });
  validate(type.endsWith('/json') || type.endsWith('+json') ? JSON.parse(answer.text) : answer.text);
  return [
    ...unnamed.map((name) => `${where}: the header ${name} is not documented`),
    ...(validate.errors ?? []).map(({ instancePath, message }) => `${where}: ${instancePath} ${message}`),
  ];
}

const mediaType = ({ headers }: Answer): string => (headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';

const withAccepts = async (ask: (accept: string) => Promise<Answer>): Promise<Answer[]> => [
  await ask('*/*'),
  await ask('application/json'),
  await ask('text/plain'),
];

/** Sends the head of an upload and some of its body, and waits for what is said of that. */
async function stall(name: Environment, path: string, accept: string): Promise<Answer> {
  const connection = await RawConnection.open(service(name).port);
  await connection.send(head('POST', path, { 'Content-Length': image.length, Accept: accept }), image.subarray(0, 100));
  const answer = await connection.answer();
  connection.destroy();
  return { ...answer, body: Buffer.from(answer.text) };
}

/** A source that fails when the headers are read; larger reads give zeros. */
function breakSources(): void {
  vi.spyOn(MemorySource.prototype, 'read').mockImplementation((_offset, length) =>
    length <= 68 ? Promise.reject(new Error('a cause that nobody may see')) : Promise.resolve(new Uint8Array(length)),
  );
}

type Producer = (path: string, operation: Operation) => Promise<Answer[]>;

/** How an upload route comes to each of its answers. */
const UPLOAD_PRODUCERS: Readonly<Record<string, Producer>> = {
  200: async (path, operation) => {
    const answers: Answer[] = [];
    const known = new Set(operation.parameters?.map(({ name }) => name));
    const lenient = Object.fromEntries(
      Object.entries({ onBroken: 'load', symbols: 'always' }).filter(([name]) => known.has(name)),
    );
    const query = new URLSearchParams(lenient).toString();
    for (const accept of [...Object.keys(operation.responses[200]?.content ?? {}), '*/*']) {
      const headers = { accept, 'want-repr-digest': 'sha-256=1' };
      answers.push(
        await post(service('plain'), path, goodFor(path), headers),
        await post(service('plain'), `${path}?${query}`, oddFor(path), headers),
        await postForm(service('plain'), path, imageForm(goodFor(path)), headers),
        await postForm(service('plain'), path, imageForm(oddFor(path), lenient), headers),
        await post(service('guarded'), path, goodFor(path), { ...headers, authorization: `Bearer ${TOKEN}` }),
      );
    }
    return answers;
  },
  400: async (path) => [
    ...(await withAccepts((accept) => post(service('plain'), path, '', jsonOr(accept)))),
    await post(service('plain'), `${path}?nonsense=1`, image),
    await postForm(service('plain'), path, multipart([])),
    await postForm(service('plain'), path, imageForm(image, { nonsense: '1' })),
    // A dump of memory may begin like a form.
    ...(path !== '/verify' ? [await post(service('plain'), path, imageForm(image).body)] : []),
  ],
  401: (path) =>
    withAccepts((accept) => post(service('guarded'), path, image, { ...jsonOr(accept), authorization: 'Bearer x' })),
  406: async (path) => [
    await post(service('plain'), path, image, { accept: 'image/png' }),
    await post(service('plain'), path, image, { accept: path === '/check' ? 'text/html' : 'text/plain' }),
  ],
  408: async (path) => [
    await stall('impatient', path, '*/*'),
    await stall('impatient', path, jsonOr('text/plain').accept),
    await stall('hurried', path, '*/*'),
  ],
  413: (path) =>
    withAccepts((accept) => post(service('limited'), path, new Uint8Array(MAX_IMAGE_BYTES + 1), jsonOr(accept))),
  415: (path) =>
    withAccepts((accept) => post(service('plain'), path, image, { ...jsonOr(accept), 'content-type': 'text/html' })),
  422: async (path, operation) => [
    ...(path === '/check'
      ? await Promise.all(
          Object.keys(operation.responses[422]?.content ?? {}).map((accept) =>
            post(service('plain'), path, oddImage, { accept: accept.replace('problem+', '') }),
          ),
        )
      : []),
    ...(await withAccepts((accept) => post(service('plain'), path, badFor(path), jsonOr(accept)))),
    await postForm(service('plain'), path, imageForm(image.subarray(0, -100))),
  ],
  429: async (path) => {
    // The first one may still pass.
    await post(service('rationed'), path, image);
    return withAccepts((accept) => post(service('rationed'), path, image, jsonOr(accept)));
  },
  500: (path) => {
    breakSources();
    return withAccepts((accept) => post(service('plain'), path, image, jsonOr(accept)));
  },
  503: async (path) => [
    ...(await withAccepts((accept) => post(service('draining'), path, image, jsonOr(accept)))),
    await post(service('full'), path, image),
  ],
};

/** Text is asked for where it is taken only as a second choice, so that no route refuses for that. */
const jsonOr = (accept: string): { readonly accept: string } => ({
  accept: accept === 'text/plain' ? 'text/plain, application/octet-stream;q=0.1, application/json;q=0.1' : accept,
});

const get = (name: Environment, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer[]> =>
  withAccepts((accept) => send(service(name), path, { headers: { accept, ...headers } }));

/** Images, and origins that misbehave, by path. */
function serveImages(): void {
  const far = kernel({ symbols: 9, text: { data: new Uint8Array(200_000) }, memsz: 0x100000 }).bytes;
  const files = {
    image,
    odd: oddImage,
    warned: warnedImage,
    oddlyReadable,
    far,
    bad: Buffer.from('no image'),
    empty: new Uint8Array(),
  };
  for (const [name, bytes] of Object.entries(files)) origin.serve(`/${name}`, bytes);
  origin.serve('/large', new Uint8Array(MAX_IMAGE_BYTES + 1));
  // A bzImage of boot protocol 2.00, which has no payload.
  const old = Buffer.alloc(4096);
  old.write('HdrS\0\u0002', 0x202, 'latin1');
  origin.serve('/old-bzimage', old);
  origin.misbehaviour = (request, response) => {
    if (request.url === '/hanging') return true;
    if (request.url === '/unusable') response.writeHead(206).end('x');
    else if (request.url === '/far' && request.headers['if-range'] !== undefined) response.writeHead(200).end('x');
    else return false;
    return true;
  };
}

/** Asks for an image of the origin's. */
const askFor = (
  environment: Environment,
  method: string,
  path: string,
  name: string,
  headers: Readonly<Record<string, string>> = {},
  query: Readonly<Record<string, string>> = {},
): Promise<Answer> => send(service(environment), named(path, `${origin.url}/${name}`, query), { method, headers });

/** How a route that takes an image by reference comes to the answers that are due to its origin. */
const REFERENCE_PRODUCERS: Readonly<Record<string, (method: string, path: string) => Promise<Answer[]>>> = {
  403: async (method, path) => [
    ...(await withAccepts((accept) =>
      send(service('guarded'), path, { method, headers: { ...jsonOr(accept), authorization: `Bearer ${stranger}` } }),
    )),
    // A blob is not taken by reference.
    ...(path === '/verify'
      ? []
      : await withAccepts((accept) =>
          send(service('plain'), named(path, 'https://elsewhere.example/x'), { method, headers: jsonOr(accept) }),
        )),
  ],
  409: (method, path) => withAccepts((accept) => askFor('plain', method, path, 'far', jsonOr(accept))),
  424: (method, path) => withAccepts((accept) => askFor('plain', method, path, 'none', jsonOr(accept))),
  502: (method, path) => withAccepts((accept) => askFor('plain', method, path, 'unusable', jsonOr(accept))),
  504: (method, path) => withAccepts((accept) => askFor('waiting', method, path, 'hanging', jsonOr(accept))),
};

/** How GET of an image by reference comes to its other answers. */
const BY_URL_PRODUCERS: Readonly<Record<string, Producer>> = {
  200: async (path, operation) => {
    const known = new Set(operation.parameters?.map(({ name }) => name));
    const lenient = Object.fromEntries(
      Object.entries({ onBroken: 'load', symbols: 'always' }).filter(([name]) => known.has(name)),
    );
    const odd = { '/symbols': 'oddlyReadable', '/check': 'warned' }[path] ?? 'odd';
    const answers: Answer[] = [];
    for (const accept of [...Object.keys(operation.responses[200]?.content ?? {}), '*/*']) {
      const headers = { accept, 'want-repr-digest': 'sha-256=1' };
      answers.push(
        await askFor('plain', 'GET', path, 'image', headers),
        await askFor('plain', 'GET', path, odd, headers, lenient),
        await askFor('guarded', 'GET', path, 'image', { ...headers, authorization: `Bearer ${TOKEN}` }),
      );
    }
    return answers;
  },
  304: async (path) => {
    const { headers } = await askFor('plain', 'GET', path, 'image');
    return [await askFor('plain', 'GET', path, 'image', { 'if-none-match': headers.etag ?? '' })];
  },
  400: async (path) => [
    ...(await withAccepts((accept) => send(service('plain'), path, { headers: jsonOr(accept) }))),
    await askFor('plain', 'GET', path, 'empty'),
    await askFor('plain', 'GET', path, 'image#x'),
  ],
  401: (path) => withAccepts((accept) => askFor('guarded', 'GET', path, 'image', jsonOr(accept))),
  406: async (path) => [
    await askFor('plain', 'GET', path, 'image', { accept: 'image/png' }),
    await askFor('plain', 'GET', path, 'image', { accept: path === '/check' ? 'text/html' : 'text/plain' }),
  ],
  413: (path) => withAccepts((accept) => askFor('limited', 'GET', path, 'large', jsonOr(accept))),
  415: (path) => withAccepts((accept) => askFor('plain', 'GET', path, 'old-bzimage', jsonOr(accept))),
  422: async (path, operation) => [
    ...(path === '/check'
      ? await Promise.all(
          Object.keys(operation.responses[422]?.content ?? {}).map((accept) =>
            askFor('plain', 'GET', path, 'odd', { accept: accept.replace('problem+', '') }),
          ),
        )
      : []),
    ...(await withAccepts((accept) => askFor('plain', 'GET', path, 'bad', jsonOr(accept)))),
  ],
  429: async (path) => {
    await askFor('rationed', 'GET', path, 'image');
    return withAccepts((accept) => askFor('rationed', 'GET', path, 'image', jsonOr(accept)));
  },
  500: (path) => {
    vi.spyOn(RemoteSource.prototype, 'read').mockImplementation((_offset, length) =>
      length <= 68 ? Promise.reject(new Error('a cause that nobody may see')) : Promise.resolve(new Uint8Array(length)),
    );
    return withAccepts((accept) => askFor('plain', 'GET', path, 'image', jsonOr(accept)));
  },
  503: (path) => withAccepts((accept) => askFor('draining', 'GET', path, 'image', jsonOr(accept))),
};

/** The same for the routes without a body. */
const GET_PRODUCERS: Readonly<Record<string, Readonly<Record<string, () => Promise<Answer[]>>>>> = {
  '/problems': { 200: () => get('plain', '/problems') },
  '/problems/{code}': {
    200: async () => [...(await get('plain', '/problems/not-elf')), ...(await get('plain', '/problems/no-image'))],
    404: () => get('plain', '/problems/no-such-code'),
  },
  '/healthz': { 200: async () => [...(await get('plain', '/healthz')), ...(await get('draining', '/healthz'))] },
  '/readyz': { 200: () => get('plain', '/readyz'), 503: () => get('draining', '/readyz') },
  '/version': { 200: () => get('plain', '/version') },
  '/': {
    200: async () => [
      ...(await get('plain', '/')),
      await send(service('plain'), '/', { headers: { accept: 'text/html' } }),
    ],
  },
  '/openapi.yaml': { 200: () => get('plain', '/openapi.yaml') },
  '/openapi.json': { 200: () => get('plain', '/openapi.json') },
  '/metrics': {
    200: async () => [
      ...(await get('plain', '/metrics')),
      ...(await get('guarded', '/metrics', { authorization: `Bearer ${TOKEN}` })),
    ],
    401: () => get('guarded', '/metrics'),
  },
};

function produce(one: (typeof operations)[number], status: string): Promise<Answer[]> {
  const { method, path, operation } = one;
  if (isUpload(one) || isByUrl(one)) {
    const produced = REFERENCE_PRODUCERS[status]?.(method, path);
    if (produced !== undefined) return produced;
  }
  if (isByUrl(one)) return BY_URL_PRODUCERS[status]?.(path, operation) ?? unknown(path, status);
  if (isUpload({ operation })) return UPLOAD_PRODUCERS[status]?.(path, operation) ?? unknown(path, status);
  return GET_PRODUCERS[path]?.[status]?.() ?? unknown(path, status);
}

const unknown = (path: string, status: string): never => {
  throw new Error(`nothing is known to produce ${status} at ${path}: add it to the producers of this test`);
};

describe('every documented answer', () => {
  const cases = operations.flatMap((one) =>
    Object.keys(one.operation.responses).map((status) => ({ one, status, name: `${one.method} ${one.path}` })),
  );

  test.each(cases)('$name: $status is given, and is as documented', async ({ one, status }) => {
    const answers = await produce(one, status);
    expect(answers.map((answer) => String(answer.status))).toEqual(answers.map(() => status));
    expect(complaints(one.method, one.path, answers)).toEqual([]);

    const response = one.operation.responses[status];
    const types = new Set(answers.map(mediaType).filter((type) => type !== ''));
    expect([...types].sort()).toEqual(Object.keys(response?.content ?? {}).sort());
    const seen = new Set(answers.flatMap(({ headers }) => Object.keys(headers)));
    const missing = Object.keys(response?.headers ?? {}).filter((name) => !seen.has(name.toLowerCase()));
    expect(missing).toEqual([]);
  });
});

describe('every answer', () => {
  test.each(uploads)('of $path is documented, whatever is sent', async ({ path }) => {
    const answers = [];
    for (const name of ['plain', 'limited', 'full', 'draining', 'guarded', 'rationed'] as const) {
      for (const body of [image, oddImage, Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(MAX_IMAGE_BYTES + 1)]) {
        for (const headers of [
          {},
          { accept: 'image/png' },
          { accept: 'text/plain' },
          { accept: 'nonsense' },
          { 'content-type': 'multipart/form-data' },
          { 'content-type': 'multipart/form-data; boundary=x' },
          { 'content-type': 'application/json' },
          { 'content-type': '/' },
          { 'content-type': ';' },
          { 'content-encoding': 'gzip' },
          { 'content-encoding': 'nonsense' },
          { 'transfer-encoding': 'chunked' },
          { authorization: 'Basic eDp5' },
        ]) {
          answers.push(await post(service(name), path, body, headers));
        }
      }
    }
    expect(complaints('POST', path, answers)).toEqual([]);
  });

  test.each(operations.filter((one) => !isUpload(one)))(
    'of GET $path is documented, whatever is asked',
    async ({ path }) => {
      const answers = [];
      const target = path.replace('{code}', 'not-elf');
      for (const name of ['plain', 'draining', 'guarded'] as const) {
        for (const suffix of ['', '?x=1', '?x=%zz', '#x']) {
          for (const headers of [
            {},
            { accept: 'image/png' },
            { authorization: 'x' },
            { 'content-type': 'x', 'content-length': 0 },
          ]) {
            answers.push(await send(service(name), `${target}${suffix}`, { headers }));
          }
        }
      }
      expect(complaints('GET', path, answers)).toEqual([]);
    },
  );

  test('of an upload route that refuses no type comes whatever the Accept', async () => {
    const single = uploads.filter(({ operation }) => !('406' in operation.responses));
    const answers = await Promise.all(
      single.map(({ path }) => post(service('plain'), path, goodFor(path), { accept: 'a/b' })),
    );
    expect(answers.map(({ status }) => status)).toEqual(single.map(() => 200));
    expect(single.map(({ path }) => path)).toContain('/layout');
  });
});

const checkOf = (schema: string) => ajv.compile({ $ref: `openapi#/components/schemas/${schema}` });

describe('/symbols', () => {
  const [isSymbol, isAddress] = [checkOf('Symbol'), checkOf('ResolvedAddress')];

  test.each([
    ['', isSymbol],
    ['?name=sym_1x', isSymbol],
    ['?address=0x100000&address=0', isAddress],
  ])('answers %s in lines of the documented schema', async (query, isValid) => {
    const headers = { accept: 'application/x-ndjson' };
    for (const bytes of [image, oddlyReadable]) {
      const answer = await post(service('plain'), `/symbols${query}`, bytes, headers);
      expect(complaints('POST', '/symbols', [answer])).toEqual([]);
      const lines = answer.text.split('\n').slice(0, -1);
      expect(lines).not.toEqual([]);
      expect(lines.filter((line) => !isValid(JSON.parse(line)))).toEqual([]);
    }
  });

  test.each(['?name=sym_1x&name=none', '?address=0x100000&address=0', '?limit=1', '?type=TLS'])(
    'answers %s as documented',
    async (query) => {
      expect(complaints('POST', '/symbols', [await post(service('plain'), `/symbols${query}`, image)])).toEqual([]);
    },
  );
});

describe('the document', () => {
  test('is what the service serves, as YAML and as JSON', async () => {
    const [yaml, json] = [await send(service('plain'), '/openapi.yaml'), await send(service('plain'), '/openapi.json')];
    expect(yaml.text).toBe(text);
    expect(JSON.parse(json.text)).toEqual(document);
  });

  test('has every route that the service has', () => {
    // One line for each branch of the tree of routes, indented by its depth.
    const printed = service('plain').app.server.printRoutes({ commonPrefix: false });
    const served: string[] = [];
    const parents: string[] = [];
    for (const [, indent = '', segment = '', methods] of printed.matchAll(/^([│├└─\s]*)(\S+)(?: \((.+)\))?$/gm)) {
      const depth = indent.length / 4;
      parents[depth] = segment;
      if (methods !== undefined) served.push(parents.slice(1, depth + 1).join(''));
    }
    const documented = new Set(operations.map(({ path }) => path.replace(/\{(\w+)\}/g, ':$1')));
    // The page names its files; they are no part of the API.
    documented.add('/page/:file');
    expect([...new Set(served)].sort()).toEqual([...documented].sort());
  });

  test('names every code, and no other', () => {
    const { enum: codes } = document.components.schemas.Problem.properties.code;
    expect(codes.toSorted()).toEqual(Object.keys(PROBLEM_KINDS).sort());
  });

  test('says of every upload that a token may be needed', () => {
    for (const { path, operation } of uploads) {
      expect([path, operation.security]).toEqual([path, [{}, { token: [] }]]);
    }
  });
});

describe('/version', () => {
  test('says what runs, and within which limits', async () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    const about = JSON.parse((await send(service('limited'), '/version')).text) as Record<string, unknown>;
    expect(about).toMatchObject({
      name: 'bsdsyms',
      version: manifest.version,
      node: process.versions.node,
      loaders: ['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'],
      limits: { maxImageBytes: MAX_IMAGE_BYTES },
      compressions: ['gzip', 'zstd', 'xz', 'lzma', 'bzip2', 'lz4', 'lzo'],
      contentCodings: ['gzip', 'deflate', 'br', 'zstd'],
    });
  });
});

describe('/problems', () => {
  test('is the same as JSON', async () => {
    const headers = { accept: 'application/json' };
    const { problems } = JSON.parse((await send(service('plain'), '/problems', { headers })).text) as {
      readonly problems: readonly { readonly code: string; readonly status: number; readonly title: string }[];
    };
    expect(Object.fromEntries(problems.map(({ code, status, title }) => [code, [status, title]]))).toEqual(
      Object.fromEntries(Object.entries(PROBLEM_KINDS).map(([code, { status, title }]) => [code, [status, title]])),
    );
    for (const [code, kind] of Object.entries(PROBLEM_KINDS)) {
      const page = await send(service('plain'), `/problems/${code}`, { headers });
      expect(JSON.parse(page.text)).toMatchObject({ code, ...kind });
    }
  });

  test('says what every parameter means', async () => {
    const page = await send(service('plain'), '/problems/parameter-invalid', {
      headers: { accept: 'application/json' },
    });
    const { parameters } = JSON.parse(page.text) as {
      readonly parameters: readonly { readonly route: string; readonly name: string; readonly meaning: string }[];
    };
    const explained = new Set(parameters.map(({ route, name }) => `${route} ${name}`));
    const documented = uploads
      .filter(({ method }) => method === 'POST')
      .flatMap(({ path, operation }) => (operation.parameters ?? []).map(({ name }) => `${path} ${name}`));
    expect([...explained].toSorted()).toEqual(documented.toSorted());
    const plain = await send(service('plain'), '/problems/parameter-invalid');
    for (const { meaning } of parameters) expect(plain.text).toContain(meaning);
  });

  test('lists every code with its status and title', async () => {
    const { text: list } = await send(service('plain'), '/problems');
    for (const [code, { status, title }] of Object.entries(PROBLEM_KINDS)) {
      expect(list).toContain(`${status}  ${code}: ${title}\n`);
    }
    const listed = [...list.matchAll(/^\d{3} {2}([a-z0-9-]+): /gm)].map(([, code]) => code ?? '');
    expect(listed.filter((code) => !Object.hasOwn(PROBLEM_KINDS, code))).toEqual([]);
    expect(listed).toHaveLength(Object.keys(PROBLEM_KINDS).length);
  });

  test.each(Object.entries(PROBLEM_KINDS))('has a page on %s', async (code, { status, title, explanation }) => {
    const page = await send(service('plain'), `/problems/${code}`);
    expect([page.status, page.headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
    for (const part of [code, String(status), title, explanation]) expect(page.text).toContain(part);
  });

  test.each(Object.entries(BROKEN_KINDS).filter(([, { reason }]) => reason !== null))(
    "has Xen's words on the page of %s",
    async (code, { reason }) => {
      const page = await send(service('plain'), `/problems/${code}`);
      expect(page.text).toContain(`In Xen's words: ${reason}\n`);
    },
  );
});
