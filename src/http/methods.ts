/** 405 with Allow: the answer to a known path with a method that it does not take. */
import type { FastifyInstance } from 'fastify';
import { METHODS } from './node-http.ts';
import { Problem } from './problem.ts';

/** The routes that are registered from a time on. */
interface NotedRoutes {
  /** The methods that each path takes. */
  readonly taken: ReadonlyMap<string, ReadonlySet<string>>;
  /** Adds the refusals for all other methods. */
  close(): void;
}

export function answerOtherMethods(server: FastifyInstance): NotedRoutes {
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
    taken,
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
