/** 405 with Allow: the answer to a known path with a method that it does not take. */
import type { FastifyInstance } from 'fastify';
import { METHODS } from './node-http.ts';
import { Problem } from './problem.ts';

/** Notes the routes that are registered from now on; `close` then adds the refusals for all other methods. */
export function answerOtherMethods(server: FastifyInstance): { close(): void } {
  // CONNECT never reaches the routes.
  for (const method of METHODS.filter((name) => name !== 'CONNECT' && !server.supportedMethods.includes(name))) {
    server.addHttpMethod(method);
  }
  const taken = new Map<string, Set<string>>();
  let closed = false;
  server.addHook('onRoute', ({ url, method }) => {
    if (closed) return;
    const methods = taken.get(url) ?? new Set();
    for (const one of [method].flat()) methods.add(one);
    taken.set(url, methods);
  });
  return {
    close() {
      closed = true;
      for (const [url, methods] of taken) {
        const allow = [...methods].sort().join(', ');
        server.route({
          url,
          method: server.supportedMethods.filter((method) => !methods.has(method)),
          // In a hook, so that the body of such a request is not looked at.
          onRequest: (request) => {
            throw new Problem('method-not-allowed', `${request.method} is not taken here; ${allow} is.`, {
              headers: { Allow: allow },
            });
          },
          handler: () => {},
        });
      }
    },
  };
}
