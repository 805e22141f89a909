import { once } from 'node:events';
import { createServer, IncomingMessage, type Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { whenOver } from '../../../src/http/exchange.ts';
import { eventually, MIB } from '../../support/uploads.ts';

describe('a request is over', () => {
  let socket: Socket;
  let request: IncomingMessage;
  let response: ServerResponse;
  const over = vi.fn<() => void>();

  beforeEach(() => {
    socket = new Socket();
    request = new IncomingMessage(socket);
    response = new ServerResponse(request);
    over.mockReset();
  });

  test('once its response was closed', () => {
    whenOver(request, response, over);
    expect(over).not.toHaveBeenCalled();
    response.emit('close');
    socket.emit('close');
    expect(over).toHaveBeenCalledTimes(1);
  });

  test('once its connection was closed, whatever becomes of the response', () => {
    whenOver(request, response, over);
    socket.emit('close');
    expect(over).toHaveBeenCalledTimes(1);
    response.emit('close');
    expect(over).toHaveBeenCalledTimes(1);
  });

  test('when the connection is gone already', () => {
    socket.destroy();
    whenOver(request, response, over);
    expect(over).toHaveBeenCalledTimes(1);
  });

  test('when the response is gone already', () => {
    response.destroyed = true;
    whenOver(request, response, over);
    expect(over).toHaveBeenCalledTimes(1);
  });

  test('and leaves no listener on a connection that continues', () => {
    for (let turn = 0; turn < 50; turn++) {
      const next = new ServerResponse(request);
      whenOver(request, next, over);
      whenOver(request, next, over);
      next.emit('close');
      expect(next.listenerCount('close')).toBe(0);
    }
    expect([over.mock.calls.length, socket.listenerCount('close')]).toEqual([100, 1]);
  });
});

describe('of a pipeline', () => {
  let server: Server;
  const warnings = vi.fn<(warning: Error) => void>();
  beforeEach(() => {
    warnings.mockReset();
    process.on('warning', warnings);
  });
  afterEach(() => {
    process.off('warning', warnings);
    server.closeAllConnections();
    server.close();
  });

  test('all requests are over when the connection is cut, those without a turn, too', async () => {
    const REQUESTS = 30;
    const begun: string[] = [];
    const over: string[] = [];
    server = createServer((request, response) => {
      begun.push(request.url ?? '');
      whenOver(request, response, () => over.push(request.url ?? ''));
      // Not read by the client: all the others wait for it.
      response.write(Buffer.alloc(begun.length === 1 ? 16 * MIB : 10));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1').pause();
    await once(client, 'connect');
    const urls = Array.from({ length: REQUESTS }, (_, index) => `/${index}`);
    client.write(urls.map((url) => `GET ${url} HTTP/1.1\r\nHost: test\r\n\r\n`).join(''));
    await eventually('all are routed', () => begun.length === REQUESTS);
    expect(over).toEqual([]);
    client.destroy();
    await eventually('all are over', () => over.length === REQUESTS);
    expect(over.toSorted()).toEqual(urls.toSorted());
    expect(warnings).not.toHaveBeenCalled();
  });
});
