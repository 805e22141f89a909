/** Baseline (a): a bare `node:http` server that reads the body to its end and answers with a word. */
import { createServer } from 'node:http';
import { announce } from './announce.ts';

const server = createServer({ requestTimeout: 0 }, (request, response) => {
  request.on('data', () => {});
  request.on('end', () => response.end('ok'));
});
announce(server);
