/** bsdsyms_uploads_refused_total: every upload whose image is not looked at is counted once, whatever refuses it. */
import { strict as assert } from 'node:assert';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { PROBLEM_KINDS, type ProblemCode } from '../../src/http/problem.ts';
import { ImageError } from '../../src/inspect/image-error.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm, imagePart, multipart } from '../support/forms.ts';
import { post, postForm } from '../support/http.ts';
import { TestIssuer } from '../support/issuer.ts';
import { bzImage } from '../support/packed.ts';
import { SOON } from '../support/patience.ts';
import { scrape } from '../support/prometheus.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService, uploading } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { eventually, KIB, kernelOfSize, MIB } from '../support/uploads.ts';
import { zerosFrame } from '../support/zstd.ts';

const image = kernel({ symbols: 12 }).bytes;

let service: Service;
const directory = new TemporaryDirectory();
const issuer = await TestIssuer.start();
afterAll(() => issuer.close());
afterEach(async () => {
  vi.restoreAllMocks();
  const left = await settled(service);
  await service.close();
  assert.deepEqual(left, NOTHING_OCCUPIED);
});
afterAll(() => {
  directory.remove();
});

interface Refusal {
  readonly env?: Readonly<Record<string, string>>;
  /** @returns the status that the client sees; that of client-gone when it sees none */
  readonly ask: () => Promise<number>;
}

const GONE = PROBLEM_KINDS['client-gone'].status;
const statusOf = async (answer: Promise<{ readonly status: number }>): Promise<number> => (await answer).status;
const chunked = { 'Transfer-Encoding': 'chunked' };

/** Sends these pieces, and waits for an answer. */
async function sendRaw(...sent: readonly (string | Uint8Array)[]): Promise<number> {
  const connection = await RawConnection.open(service.port);
  try {
    await connection.send(...sent);
    return (await connection.answer()).status;
  } finally {
    connection.destroy();
  }
}

/** Sends these pieces and goes away once that has come about. */
async function leave(when: () => Promise<void>, ...sent: readonly (string | Uint8Array)[]): Promise<number> {
  const connection = await RawConnection.open(service.port);
  await connection.send(...sent);
  await when();
  connection.destroy();
  return GONE;
}

/** Does something while an upload has the only slot, which is then broken off. */
async function whileBusy(ask: () => Promise<number>): Promise<number> {
  const connection = await RawConnection.open(service.port);
  await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image.subarray(0, -1));
  await uploading(service);
  const status = await ask();
  // To its end, so that it is no refusal itself.
  await connection.send(image.subarray(-1));
  expect((await connection.answer()).status).toBe(200);
  connection.destroy();
  return status;
}

const layout = (body: Uint8Array | string, headers = {}, query = ''): Promise<number> =>
  statusOf(post(service, `/layout${query}`, body, headers));
const form = (...parts: Parameters<typeof multipart>[0]): Promise<number> =>
  statusOf(postForm(service, '/layout', multipart(parts)));

/** Every code that an upload can be refused with, and the ways to it. */
const REFUSALS: Partial<Record<ProblemCode, Readonly<Record<string, Refusal>>>> = {
  'digest-mismatch': {
    'another body': {
      ask: () =>
        statusOf(
          post(service, '/layout', image, { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` }),
        ),
    },
  },
  'bad-request': {
    'a chunk that is none': { ask: () => sendRaw(head('POST', '/layout', chunked), chunk(image), 'zz\r\n') },
  },
  'not-a-blob': { 'an image to be verified': { ask: () => statusOf(post(service, '/verify', image)) } },
  'no-image': { 'an empty body': { ask: () => layout('') }, 'a form without': { ask: () => form() } },
  'image-repeated': { 'a form of two': { ask: () => form(imagePart(image), imagePart(image)) } },
  'field-unknown': { 'a field': { ask: () => form(imagePart(image), { name: 'x', value: '' }) } },
  'multipart-malformed': {
    'no boundary': { ask: () => layout(image, { 'content-type': 'multipart/form-data' }) },
  },
  'multipart-in-body': { 'a form as the image': { ask: () => layout(imageForm(image).body) } },
  'parameter-invalid': {
    'in the query': { ask: () => layout(image, {}, '?loadAddress=x') },
    'in a form': { ask: () => form({ name: 'loadAddress', value: 'x' }, imagePart(image)) },
  },
  'parameter-unknown': { 'in the query': { ask: () => layout(image, {}, '?x=1') } },
  'parameter-conflict': {
    'after the image': {
      ask: () => form(imagePart(image), { name: 'loader', value: 'xen-4.8' }, { name: 'loader', value: 'xen-4.6' }),
    },
  },
  unauthorized: {
    'no token': { env: { BSDSYMS_TOKENS_FILE: directory.write('a-token-of-the-tests\n') }, ask: () => layout(image) },
  },
  forbidden: {
    'a token of somebody else': {
      env: { BSDSYMS_OIDC_FILE: issuer.configure(directory) },
      ask: async () =>
        layout(image, { authorization: `Bearer ${await issuer.sign({ claims: { repository_owner: 'x' } })}` }),
    },
  },
  'issuer-unavailable': {
    'an issuer that does not answer': {
      env: { BSDSYMS_OIDC_FILE: issuer.configure(directory, { jwksUrl: `${issuer.url}/none` }) },
      ask: async () => layout(image, { authorization: `Bearer ${await issuer.sign()}` }),
    },
  },
  'not-acceptable': {
    'another type': { ask: () => statusOf(post(service, '/bsdsyms', image, { accept: 'image/png' })) },
  },
  'request-timeout': {
    'a body that pauses': {
      env: { BSDSYMS_STALL_TIMEOUT_MS: '150' },
      ask: () => sendRaw(head('POST', '/layout', { 'Content-Length': 100 }), image.subarray(0, 10)),
    },
    'a request that is slow': {
      env: { BSDSYMS_UPLOAD_TIMEOUT_MS: '150' },
      ask: () => sendRaw(head('POST', '/layout', { 'Content-Length': 100 }), image.subarray(0, 10)),
    },
  },
  'media-type-unsupported': {
    JSON: { ask: () => layout(image, { 'content-type': 'application/json' }) },
    'no media type': { ask: () => layout(image, { 'content-type': 'nonsense' }) },
  },
  'coding-unsupported': {
    'an unknown one': { ask: () => layout(image, { 'content-encoding': 'xz' }) },
    'a large window': { ask: () => layout(zerosFrame(27, 1000), { 'content-encoding': 'zstd' }) },
  },
  'client-gone': {
    'while it is sent': {
      ask: () =>
        leave(() => uploading(service), head('POST', '/layout', { 'Content-Length': 1000 }), image.subarray(0, 9)),
    },
    'while it waits': {
      env: { BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' },
      ask: () =>
        whileBusy(async () => {
          const { admission } = service.app.upload;
          const waits = (): Promise<void> => eventually('it waits', () => admission.queued === 1);
          const status = await leave(waits, head('POST', '/layout', { 'Content-Length': image.length }), image);
          await eventually('it waits no more', () => admission.queued === 0);
          return status;
        }),
    },
  },
  'rate-limited': {
    'a second one': {
      env: { BSDSYMS_RATE_LIMIT_PER_MINUTE: '1' },
      ask: async () => {
        expect(await layout(image)).toBe(200);
        return layout(image);
      },
    },
  },
  'header-fields-too-large': {
    'in the trailer': {
      ask: () => sendRaw(head('POST', '/layout', chunked), chunk(image), `0\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`),
    },
  },
  'internal-error': {
    'a defect': {
      env: { BSDSYMS_MEMORY_BUDGET_BYTES: '0' },
      ask: () => {
        vi.spyOn(service.app.upload.store.spool, 'createWriter').mockRejectedValue(new TypeError('a defect'));
        return layout(image);
      },
    },
  },
  'too-busy': {
    'no slot': {
      env: { BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' },
      ask: () => whileBusy(() => layout(image)),
    },
    'no slot in time': {
      env: { BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '100' },
      ask: () => whileBusy(() => layout(image)),
    },
  },
  'shutting-down': {
    'it is': {
      ask: () => {
        service.app.lifecycle.drain();
        return layout(image);
      },
    },
  },
  'compressed-data-corrupt': { 'gzip cut short': { ask: () => layout(gzipSync(image).subarray(0, -9)) } },
  'image-too-large': {
    'as announced': { env: { BSDSYMS_MAX_IMAGE_BYTES: '100' }, ask: () => layout(image) },
    'as it comes': {
      env: { BSDSYMS_MAX_IMAGE_BYTES: '100' },
      ask: () => layout(image, { 'transfer-encoding': 'chunked' }),
    },
  },
  'compression-unsupported': {
    'an old bzImage': { ask: () => layout(bzImage(new Uint8Array(), { protocol: 0x0200 })) },
  },
  'memory-full': {
    'a large window': {
      env: { BSDSYMS_MEMORY_BUDGET_BYTES: String(MIB) },
      ask: () => layout(zerosFrame(27, 1000)),
    },
  },
  'spool-full': {
    'a large image': {
      env: { BSDSYMS_MEMORY_BUDGET_BYTES: '0', BSDSYMS_SPOOL_BUDGET_BYTES: '1000' },
      ask: () => layout(kernelOfSize(32 * KIB)),
    },
  },
  'spool-unavailable': {
    'no directory': {
      env: { BSDSYMS_MEMORY_BUDGET_BYTES: '0' },
      ask: () => {
        const { spool } = service.app.upload.store;
        vi.spyOn(spool, 'createWriter').mockRejectedValue(new ImageError('spool-unavailable', 'It is gone.'));
        return layout(image);
      },
    },
  },
};

const rows = Object.entries(REFUSALS).flatMap(([code, ways]) =>
  Object.entries(ways).map(([name, refusal]) => [code as ProblemCode, name, refusal] as const),
);

describe('an upload that is refused is counted once', () => {
  test.each(rows)('%s: %s', async (code, _name, { env, ask }) => {
    service = await startService({ BSDSYMS_SPOOL_DIR: directory.path, ...env });
    expect(await ask()).toBe(PROBLEM_KINDS[code].status);
    await expect.poll(() => service.app.lifecycle.idle, SOON).toBe(true);
    expect((await scrape(service)).counts('bsdsyms_uploads_refused_total')).toEqual({ [code]: 1 });
  });

  test('whatever the code', async () => {
    service = await startService();
    // A check that failed is no refusal: the image was looked at.
    const others = new Set(['body-truncated', 'not-found', 'method-not-allowed', 'check-failed']);
    // Refused before it is known what the request is.
    for (const code of ['http-version-unsupported', 'transfer-coding-unsupported']) others.add(code);
    // Images by reference have tests of their own.
    const isOther = (code: string): boolean => others.has(code) || code.startsWith('source-');
    const expected = Object.keys(PROBLEM_KINDS).filter((code) => !(code in BROKEN_KINDS) && !isOther(code));
    expect(Object.keys(REFUSALS).sort()).toEqual(expected.sort());
  });
});

test('an upload whose image was looked at, or that is none, is not counted', async () => {
  service = await startService();
  expect(await layout('no ELF')).toBe(422);
  expect(await layout(image)).toBe(200);
  expect(await statusOf(post(service, '/nowhere', image))).toBe(404);
  expect(await statusOf(post(service, '/metrics', image))).toBe(405);
  const connection = await RawConnection.open(service.port);
  connection.pause();
  const { bytes } = kernel({ memsz: 96 * MIB });
  await connection.send(head('POST', '/image', { 'Content-Length': bytes.length }), bytes);
  await uploading(service);
  connection.destroy();
  expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  expect((await scrape(service)).counts('bsdsyms_uploads_refused_total')).toEqual({});
});
