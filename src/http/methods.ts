/** Which methods a path takes: the answer to OPTIONS, and 405 with Allow for those that it does not take. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { METHODS } from './node-http.ts';
import { Problem } from './problem.ts';

/** The routes that are registered from a time on. */
interface NotedRoutes {
  /** The methods that each path takes. */
  readonly taken: ReadonlyMap<string, ReadonlySet<string>>;
  /** Adds OPTIONS, and the refusals for all other methods. */
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
        const allow = [...methods, 'OPTIONS'].sort().join(', ');
        server.route({
          url,
          method: 'OPTIONS',
          onRequest: (_request, reply) => sendAllow(reply, allow),
          handler: () => {},
        });
        server.route({
          url,
          method: server.supportedMethods.filter((method) => method !== 'OPTIONS' && !methods.has(method)),
          // In a hook, so that the body of such a request is not looked at.
          onRequest: (request) => {
            throw new Problem('method-not-allowed', `${request.method} is not allowed here. Use ${allow}.`, {
              headers: { Allow: allow },
            });
          },
          handler: () => {},
        });
      }
    },
  };
}

/** RFC 9110, section 9.3.7. Anyone may ask: nothing is done. */
function sendAllow(reply: FastifyReply, allow: string): void {
  void reply.code(204).header('Allow', allow).send();
}

/** All methods that any path takes. */
const EVERYWHERE = 'GET, HEAD, OPTIONS, POST, PUT';

/** Answers `OPTIONS *`, which asks about the service as a whole. @returns whether it was that */
export function answerOptionsOfAll({ raw: { method, url } }: FastifyRequest, reply: FastifyReply): boolean {
  if (method !== 'OPTIONS' || url !== '*') return false;
  sendAllow(reply, EVERYWHERE);
  return true;
}

/** What to do about a path that is not there. */
export function adviseOnPath(method: string, path: string, taken: NotedRoutes['taken']): string {
  const routes = 'GET /openapi.yaml describes all routes.';
  const slash = path.lastIndexOf('/');
  const folder = path.slice(0, slash);
  if (taken.get(path.replace(/\/+$/, '')) !== undefined) return `Leave out the slash at the end. ${routes}`;
  // Any other client that sends a file by PUT names it as well.
  if (method !== 'PUT') return routes;
  if (taken.get(folder)?.has('PUT') === true) {
    return `curl -T appends the name of the file to a URL that ends with a slash: write ${folder} without it. ${routes}`;
  }
  return slash === 0
    ? `curl -T appends the name of the file to a URL without a path: write one, such as /check. ${routes}`
    : routes;
}
