/** The slots for uploads are limited: an upload that finds none is refused at once, and everything else continues. */
import { zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { post, postForm, problem, send, verdict } from '../support/http.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { eventually, noise, SlowSender } from '../support/uploads.ts';

const image = kernel({ symbols: 20 }).bytes;
const busy = problem(503, 'too-busy');

let service: Service;
let senders: SlowSender[] = [];

afterEach(async () => {
  for (const sender of senders) sender.stop();
  senders = [];
  await service.close();
});

const start = async (env: Readonly<Record<string, string>>): Promise<void> => {
  service = await startService({ BSDSYMS_MAX_UPLOADS: '2', ...env });
};

const admission = () => service.app.upload.admission;

/** Takes slots, and keeps them. */
async function occupy(count: number): Promise<SlowSender[]> {
  const started = await Promise.all(Array.from({ length: count }, () => SlowSender.start(service.port, image)));
  senders.push(...started);
  return started;
}

async function takeAllPlaces(): Promise<SlowSender[]> {
  const started = await occupy(2);
  await eventually('all slots are taken', () => admission().running === 2);
  return started;
}

/** Asks for a place that there is only later. */
async function waitForPlace(): Promise<SlowSender> {
  const before = admission().queued;
  const [sender] = await occupy(1);
  if (sender === undefined) throw new Error('there is no sender');
  await eventually('it waits', () => admission().queued === before + 1);
  return sender;
}

describe('when slow senders hold all slots', () => {
  test('others get 503 with Retry-After, raw and in forms, and the connection can be used again', async () => {
    await start({ BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    await takeAllPlaces();
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all([
        post(service, '/bsdsyms', image),
        post(service, '/layout', noise(2_000_000)),
        postForm(service, '/bsdsyms', imageForm(image)),
        post(service, '/bsdsyms', zstdCompressSync(image), { 'content-encoding': 'zstd' }),
        post(service, '/kernel', image),
        post(service, '/image', image),
      ]);
      expect(answers.map((answer) => verdict(answer, '2 slots'))).toEqual(answers.map(() => busy));
      expect(answers.map(({ headers }) => headers['retry-after'])).toEqual(answers.map(() => '1'));
    }
    expect([admission().running, admission().queued]).toEqual([2, 0]);
  });

  test('others are refused before they have sent anything', async () => {
    await start({ BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    await takeAllPlaces();
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }));
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['retry-after']]).toEqual([busy, '1']);
    // Whoever sends the body all the same can go on.
    await connection.send(image, head('GET', '/healthz'));
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });

  test('the service itself still answers', async () => {
    await start({ BSDSYMS_MAX_QUEUED_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    await takeAllPlaces();
    await waitForPlace();
    for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json', '/problems', '/problems/too-busy']) {
      expect([path, (await send(service, path)).status]).toEqual([path, 200]);
    }
    expect((await send(service, '/nowhere')).status).toBe(404);
    expect((await send(service, '/bsdsyms')).status).toBe(400);
  });

  test('a request that is refused anyway does not wait for a slot', async () => {
    await start({ BSDSYMS_MAX_QUEUED_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    await takeAllPlaces();
    await waitForPlace();
    const refused = [
      await post(service, '/bsdsyms', image, { 'content-type': 'application/json' }),
      await post(service, '/bsdsyms', image, { 'content-encoding': 'xz' }),
      await post(service, '/bsdsyms?loader=none', image),
      await post(service, '/bsdsyms', image, { accept: 'image/png' }),
    ];
    expect(refused.map(({ status }) => status)).toEqual([415, 415, 400, 406]);
  });
});

describe('the queue', () => {
  const patient = { BSDSYMS_MAX_QUEUED_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' };

  test('lets as many wait as it has room for', async () => {
    await start(patient);
    await takeAllPlaces();
    await waitForPlace();
    expect(verdict(await post(service, '/bsdsyms', image))).toEqual(busy);
  });

  test('admits a waiting upload when another is finished', async () => {
    await start(patient);
    const [first] = await takeAllPlaces();
    const waiting = await waitForPlace();
    await waiting.finish();
    await first?.finish();
    expect((await first?.connection.answer())?.status).toBe(200);
    expect((await waiting.connection.answer()).status).toBe(200);
  });

  test('admits a waiting upload when another is broken off', async () => {
    await start(patient);
    const [first] = await takeAllPlaces();
    const waiting = await waitForPlace();
    await waiting.finish();
    first?.stop();
    expect((await waiting.connection.answer()).status).toBe(200);
    await eventually('one is left', () => admission().running === 1);
  });

  test('forgets a client that goes away', async () => {
    await start(patient);
    const [first] = await takeAllPlaces();
    (await waitForPlace()).stop();
    await eventually('nobody waits', () => admission().queued === 0);
    const waiting = await waitForPlace();
    await waiting.finish();
    first?.stop();
    expect((await waiting.connection.answer()).status).toBe(200);
  });

  test('ends with 503 when no slot becomes free', async () => {
    await start({ ...patient, BSDSYMS_QUEUE_TIMEOUT_MS: '100' });
    await takeAllPlaces();
    const answer = await post(service, '/bsdsyms', image);
    expect([verdict(answer), answer.headers['retry-after']]).toEqual([busy, '1']);
    expect([admission().running, admission().queued]).toEqual([2, 0]);
  });
});

async function breakOff(): Promise<'broken off'> {
  const [sender] = await occupy(1);
  await eventually('it has a place', () => admission().running === 1);
  sender?.stop();
  return 'broken off';
}

describe('a slot comes back', () => {
  test.each<[string, number | 'broken off', () => Promise<unknown>]>([
    ['success', 200, () => post(service, '/bsdsyms', image)],
    ['a broken image', 422, () => post(service, '/bsdsyms', noise(100))],
    ['an image that is too large', 413, () => post(service, '/bsdsyms', noise(200_000))],
    [
      'a chunked image that is too large',
      413,
      () => post(service, '/bsdsyms', noise(200_000), { 'transfer-encoding': 'chunked' }),
    ],
    ['damaged data', 400, () => post(service, '/bsdsyms', image, { 'content-encoding': 'gzip' })],
    ['a form without an image', 400, () => postForm(service, '/bsdsyms', imageForm(image, { x: '1' }))],
    ['being broken off', 'broken off', breakOff],
  ])('after %s', async (_name, expected, use) => {
    await start({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0', BSDSYMS_MAX_IMAGE_BYTES: '100000' });
    for (let round = 0; round < 10; round++) {
      const used = await use();
      expect(typeof used === 'object' && used !== null && 'status' in used ? used.status : used).toBe(expected);
      expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    }
    expect((await post(service, '/bsdsyms', image)).status).toBe(200);
  });
});

describe('with Expect: 100-continue', () => {
  test('the body is invited when there is a slot, not before', async () => {
    await start({ BSDSYMS_MAX_QUEUED_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    const [first] = await takeAllPlaces();
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' }));
    await eventually('it waits', () => admission().queued === 1);
    let answered = false;
    const asked = connection.answer().finally(() => {
      answered = true;
    });
    // Time in which the service does all kinds of things, but has no place.
    for (let turn = 0; turn < 10; turn++) await send(service, '/readyz');
    expect(answered).toBe(false);
    first?.stop();
    expect((await asked).status).toBe(100);
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });
});
