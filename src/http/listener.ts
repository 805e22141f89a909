/** The HTTP server below Fastify: plain or TLS, with time limits that hold. */
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { FastifyBaseLogger } from 'fastify';
import type { Config } from '../config.ts';
import { watchFiles } from '../watch.ts';

/** Time for the header fields of a request to arrive. */
const HEADERS_TIMEOUT_MS = 60_000;
/** Timeouts are checked this often, so they fire at most this late. */
const TIMEOUT_CHECK_MS = 1000;

/** @throws Error when a certificate or key cannot be read or used */
export function createListener(config: Config, log: FastifyBaseLogger, handler: RequestListener): Server {
  const options = {
    connectionsCheckingInterval: Math.min(TIMEOUT_CHECK_MS, config.uploadTimeoutMs),
    // Node swaps the two timeouts when the one for headers is the longer.
    headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.uploadTimeoutMs),
    requestTimeout: config.uploadTimeoutMs,
    keepAliveTimeout: config.keepAliveTimeoutMs,
  };
  const { tlsCertFile, tlsKeyFile } = config;
  if (tlsCertFile === null && tlsKeyFile === null) return createServer(options, handler);
  if (tlsCertFile === null || tlsKeyFile === null)
    throw new Error('a certificate needs its key, and a key its certificate');

  const read = () => ({ cert: readFileSync(tlsCertFile), key: readFileSync(tlsKeyFile) });
  const server = createTlsServer({ ...options, ...read(), minVersion: 'TLSv1.2' }, handler);
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
