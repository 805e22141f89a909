/** The HTTP server below Fastify: plain or TLS, with time limits that hold. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { RequestListener, Server } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { FastifyBaseLogger } from 'fastify';
import { type Config, ConfigError, nameFailure, SETTINGS } from '../config.ts';
import { answerConnect } from './client-error.ts';
import { createServer } from './node-http.ts';
import { takeTurns } from './turns.ts';
import { watchFiles } from './watch.ts';

/** Time for the header fields of a request to arrive. */
const HEADERS_TIMEOUT_MS = 60_000;
/** Time for a TLS handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Time between two log lines about connections that run out. */
const WARN_FULL_MS = 60_000;
/** Timeouts are checked this often, so they fire at most this late. */
const TIMEOUT_CHECK_MS = 1000;

/** @throws ConfigError when a certificate or key cannot be read or used */
export function createListener(config: Config, log: FastifyBaseLogger, handler: RequestListener): Server {
  const server = createAnyServer(config, log);
  const turns = takeTurns(handler, { lingerTimeoutMs: config.stallTimeoutMs });
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', turns.open);
  // Requests with an Expect field are routed like all others. Without a listener Node would invite every body at once.
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.on(event, turns.listener);
  server.on('connect', answerConnect);
  limitConnections(server, config, log);
  return server;
}

function limitConnections(server: Server, { maxConnections }: Config, log: FastifyBaseLogger): void {
  // A worker that is full must close a connection instead of passing it to another worker.
  Object.assign(server, { maxConnections, dropMaxConnection: true });
  let warnedAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    // Makes room for the next clients.
    server.closeIdleConnections();
    const now = performance.now();
    if (now - warnedAt < WARN_FULL_MS) return;
    warnedAt = now;
    log.warn({ maxConnections }, 'all connections are taken; idle ones were closed');
  });
}

function createAnyServer(config: Config, log: FastifyBaseLogger): Server {
  const options = {
    // Even if a flag of the process says otherwise.
    insecureHTTPParser: false,
    // `framing.ts` refuses such a request with a problem.
    requireHostHeader: false,
    connectionsCheckingInterval: Math.min(TIMEOUT_CHECK_MS, config.uploadTimeoutMs),
    // Node swaps the two timeouts when the one for headers is the longer.
    headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.uploadTimeoutMs),
    requestTimeout: config.uploadTimeoutMs,
    keepAliveTimeout: config.keepAliveTimeoutMs,
  };
  const { tlsCertFile, tlsKeyFile } = config;
  // Both are set, or neither (RELATIONS in config.ts).
  if (tlsCertFile === null || tlsKeyFile === null) return createServer(options);

  const read = () => {
    const cert = nameFailure(SETTINGS.tlsCertFile, () => readFileSync(tlsCertFile));
    const key = nameFailure(SETTINGS.tlsKeyFile, () => readFileSync(tlsKeyFile));
    const certificate = nameFailure(SETTINGS.tlsCertFile, () => new X509Certificate(cert));
    const privateKey = nameFailure(SETTINGS.tlsKeyFile, () => createPrivateKey(key));
    if (!certificate.checkPrivateKey(privateKey)) {
      throw new ConfigError(`${SETTINGS.tlsKeyFile.name}: is not the key of the certificate`);
    }
    return { cert, key };
  };
  const server = createTlsServer({
    ...options,
    ...read(),
    minVersion: 'TLSv1.2',
    handshakeTimeout: Math.min(HANDSHAKE_TIMEOUT_MS, config.uploadTimeoutMs),
  });
  watchFiles([tlsCertFile, tlsKeyFile], () => {
    try {
      server.setSecureContext({ ...read(), minVersion: 'TLSv1.2' });
      log.info('the certificate was read again');
    } catch (error) {
      log.error({ err: error }, 'the certificate could not be read again; the one before stays in use');
    }
  });
  return server;
}
