/** TLS by certificate and key files, with certificates that are made here. */

import { once } from 'node:events';
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request as sendTlsRequest } from 'node:https';
import tls, { connect as connectTls, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { buildApp } from '../../src/http/app.ts';
import { kernel } from '../support/elf-builder.ts';
import { PATIENCE_MS, SOON } from '../support/patience.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { type Service, startService } from '../support/service.ts';
import { type Certificate, hasProgram, makeCertificate, TemporaryDirectory } from '../support/temporary.ts';

const image = kernel().bytes;

const directory = new TemporaryDirectory();
afterAll(() => directory.remove());

interface TlsAnswer {
  readonly status: number;
  /** Whom the certificate names. */
  readonly subject: string;
  readonly body: Buffer;
}

/** Sends a request over a connection of its own, to a service whose certificate has to be one of these. */
async function sendTls(
  { port }: Pick<Service, 'port'>,
  trusted: readonly Certificate[],
  path: string,
  body?: Uint8Array,
): Promise<TlsAnswer> {
  const request = sendTlsRequest({
    agent: false,
    host: '127.0.0.1',
    port,
    path,
    method: body === undefined ? 'GET' : 'POST',
    ca: trusted.map(({ cert }) => readFileSync(cert)),
  });
  request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`no answer to ${path}`)));
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const subject = String((response.socket as TLSSocket).getPeerCertificate().subject.CN);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, subject, body: Buffer.concat(chunks) };
}

/** What building the service fails with. */
async function refusal(env: Readonly<Record<string, string>>): Promise<unknown> {
  try {
    await buildApp(loadConfig(env), pino({ level: 'silent' }));
    return 'it was built';
  } catch (error) {
    return error;
  }
}

/** Which versions of TLS the service speaks with a client that takes them all. */
async function protocols({ port }: Pick<Service, 'port'>): Promise<Record<string, boolean>> {
  const spoken: Record<string, boolean> = {};
  for (const version of ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const) {
    spoken[version] = await new Promise((resolve) => {
      const socket = connectTls({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        minVersion: version,
        maxVersion: version,
        ciphers: 'DEFAULT@SECLEVEL=0',
      });
      socket.once('secureConnect', () => {
        resolve(true);
        socket.destroy();
      });
      socket.once('error', () => resolve(false));
    });
  }
  return spoken;
}

describe.skipIf(!hasProgram('openssl', 'version'))('with certificates', () => {
  let first: Certificate;
  let second: Certificate;
  let service: Service | undefined;
  beforeAll(() => {
    // As by --tls-min-v1.0 and --tls-cipher-list: what the service asks for itself must hold.
    Object.assign(tls, { DEFAULT_MIN_VERSION: 'TLSv1', DEFAULT_CIPHERS: 'DEFAULT@SECLEVEL=0' });
    first = makeCertificate(directory, 'first');
    second = makeCertificate(directory, 'second');
  });
  afterEach(async () => {
    await service?.close();
    service = undefined;
  });

  async function start({ cert, key }: Certificate, env: Readonly<Record<string, string>> = {}): Promise<Service> {
    service = await startService({ BSDSYMS_TLS_CERT_FILE: cert, BSDSYMS_TLS_KEY_FILE: key, ...env });
    return service;
  }

  test('uploads go over https', async () => {
    const secure = await start(first);
    expect(await sendTls(secure, [first], '/healthz')).toEqual({
      status: 200,
      subject: 'first',
      body: Buffer.from('ok\n'),
    });
    const uploaded = await sendTls(secure, [first], '/bsdsyms', image);
    expect(uploaded.status).toBe(200);
    const plain = await startService();
    const expected = await fetch(`${plain.url}/bsdsyms`, { method: 'POST', body: Buffer.from(image) });
    expect(uploaded.body).toEqual(Buffer.from(await expected.arrayBuffer()));
    await plain.close();
    expect((await sendTls(secure, [first], '/bsdsyms', Buffer.from('no ELF'))).status).toBe(422);
    await secure.logged({ msg: 'request', status: 422 });
  });

  test('a client that does not trust the certificate does not get through', async () => {
    const secure = await start(first);
    await expect(sendTls(secure, [second], '/healthz')).rejects.toThrow(/self-signed certificate/);
  });

  test('plain HTTP is not answered, and does no harm', async () => {
    const secure = await start(first);
    const connection = await RawConnection.open(secure.port);
    await connection.send(head('GET', '/healthz'));
    expect(await connection.ended()).not.toContain('ok');
    expect((await sendTls(secure, [first], '/healthz')).status).toBe(200);
  });

  test.each<[string, Buffer]>([
    ['that never begins', Buffer.alloc(0)],
    // A record of type handshake that holds a ClientHello of 512 bytes.
    ['that never ends', Buffer.from('16030102000100', 'hex')],
  ])('a handshake %s is ended', async (_what, hello) => {
    const secure = await start(first, { BSDSYMS_UPLOAD_TIMEOUT_MS: '200' });
    const connection = await RawConnection.open(secure.port);
    await connection.send(hello);
    expect(await connection.ended()).toBe('');
    const { server } = secure.app.server;
    await expect.poll(() => promisify(server.getConnections.bind(server))()).toBe(0);
    expect((await sendTls(secure, [first], '/healthz')).status).toBe(200);
  });

  test('a new certificate is in use soon; one that cannot be used leaves the one before in use', async () => {
    const files = { cert: directory.file('live.cert.pem'), key: directory.file('live.key.pem') };
    copyFileSync(first.cert, files.cert);
    copyFileSync(first.key, files.key);
    const secure = await start(files);
    const both = [first, second];
    expect((await sendTls(secure, both, '/healthz')).subject).toBe('first');

    const told = 'the certificate could not be read again; the one before stays in use';
    writeFileSync(files.cert, 'no certificate\n');
    await expect.poll(() => secure.logs(told).length, SOON).toBeGreaterThan(0);
    expect(secure.logs(told)[0]).toMatchObject({ level: 50 });
    expect(await sendTls(secure, both, '/healthz')).toMatchObject({ status: 200, subject: 'first' });

    for (const file of ['cert', 'key'] as const) {
      copyFileSync(second[file], directory.file('next.pem'));
      renameSync(directory.file('next.pem'), files[file]);
    }
    await expect.poll(async () => (await sendTls(secure, both, '/healthz')).subject, SOON).toBe('second');
    expect(secure.logText()).not.toContain('PRIVATE');
    expect(await protocols(secure)).toEqual({ TLSv1: false, 'TLSv1.1': false, 'TLSv1.2': true, 'TLSv1.3': true });
  });

  test('no TLS before 1.2 is spoken, whatever the defaults of the process are', async () => {
    expect(await protocols(await start(first))).toEqual({
      TLSv1: false,
      'TLSv1.1': false,
      'TLSv1.2': true,
      'TLSv1.3': true,
    });
  });

  test.each<[string, () => Record<string, string>]>([
    ['a certificate without its key', () => ({ BSDSYMS_TLS_CERT_FILE: first.cert })],
    ['a key without its certificate', () => ({ BSDSYMS_TLS_KEY_FILE: first.key })],
    [
      'a certificate with the key of another',
      () => ({
        BSDSYMS_TLS_CERT_FILE: first.cert,
        BSDSYMS_TLS_KEY_FILE: second.key,
      }),
    ],
    ['the files the wrong way round', () => ({ BSDSYMS_TLS_CERT_FILE: first.key, BSDSYMS_TLS_KEY_FILE: first.cert })],
    [
      'a certificate that is missing',
      () => ({
        BSDSYMS_TLS_CERT_FILE: directory.file('missing'),
        BSDSYMS_TLS_KEY_FILE: first.key,
      }),
    ],
    [
      'a certificate that is none',
      () => ({
        BSDSYMS_TLS_CERT_FILE: directory.write('nothing'),
        BSDSYMS_TLS_KEY_FILE: first.key,
      }),
    ],
  ])('%s stops the start', async (_name, env) => {
    const error = await refusal(env());
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toMatch(/^BSDSYMS_TLS_(?:CERT|KEY)_FILE: [^\n]+$/);
  });

  test.each<[string, () => string]>([
    ['missing', () => directory.file('missing')],
    ['none', () => directory.write('nothing')],
  ])('a key that is %s stops the start, by its own name', async (_name, makePath) => {
    const error = await refusal({ BSDSYMS_TLS_CERT_FILE: first.cert, BSDSYMS_TLS_KEY_FILE: makePath() });
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toMatch(/^[^\n]*BSDSYMS_TLS_KEY_FILE[^\n]*$/);
  });
});
