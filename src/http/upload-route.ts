/** What every route that takes a file has in common: guards, negotiation, parameters, the file, the documentation. */
import type {
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  onRequestAsyncHookHandler,
  onRequestHookHandler,
} from 'fastify';
import type { Config } from '../config.ts';
import type { ImageFacts } from '../inspect/load.ts';
import { type Parameters, type ParameterValues, REFERENCE_PARAMETERS } from '../parameters.ts';
import type { Broken } from '../xen/broken.ts';
import type { BuilderVerdict } from '../xen/builder.ts';
import type { Loader } from '../xen/loaders/bsdsyms.ts';
import { whenOver } from './exchange.ts';
import type { Lifecycle } from './lifecycle.ts';
import { connectionState, logBroken } from './logging.ts';
import type { Metrics } from './metrics.ts';
import { negotiate } from './negotiation.ts';
import { ParameterCollector } from './parameters.ts';
import { clientGone, isProblemCode, PROBLEM_KINDS, Problem, sendProblem, toProblem } from './problem.ts';
import { entityTag, isFresh, openRequested } from './reference.ts';
import type { Refusals } from './refusals.ts';
import { Scope } from './scope.ts';
import { receiveImage, refuseForms, type Upload, type UploadOptions, urlOf } from './upload.ts';

export type Guard = onRequestHookHandler | onRequestAsyncHookHandler;

/** The facts about a route that `openapi.yaml` describes. */
export interface UploadFacts {
  readonly parameters: Parameters;
  readonly mediaTypes: readonly string[];
  /** Whether a caller is refused who accepts none of them. */
  readonly isStrict: boolean;
  readonly unpack: boolean;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    readonly upload?: UploadFacts;
  }
}

/** What the upload routes work with. */
export interface UploadServices {
  readonly config: Config;
  readonly lifecycle: Lifecycle;
  readonly upload: UploadOptions;
  readonly metrics: Metrics;
  readonly refusals: Refusals;
  /** Of the service. */
  readonly version: string;
  /** Hooks that every upload passes first. */
  readonly guard: Guard[];
}

/** One request whose file has arrived whole. */
export interface Received<MediaType extends string, P extends Parameters> extends Upload {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly parameters: ParameterValues<P>;
  /** The representation that the caller prefers. */
  readonly mediaType: MediaType;
}

interface UploadRoute<MediaType extends string, P extends Parameters> {
  readonly url: string;
  readonly parameters: P;
  /** What is wrong between parameters; called with those of the query, and again with all of them. */
  readonly conflict?: (isGiven: (name: string) => boolean) => string | null;
  /** The representations, preferred first; with a single one the Accept header does not matter. */
  readonly mediaTypes: readonly [MediaType, ...MediaType[]];
  /** The type for a caller that accepts none of several; without it, such a caller is refused. */
  readonly otherwise?: MediaType;
  /** False for a file that is not an image: it is used as it is, compressed or not. */
  readonly unpack?: boolean;
  /** The header fields that choose the representation. Default: Accept. */
  readonly vary?: string;
  /** @returns the payload, or the reply when it is being sent. The image stays open until the answer was sent */
  handle(received: Received<MediaType, P>): Promise<unknown>;
}

/** Registers a route that takes a file: POST, PUT, and for an image by reference GET. */
export function uploadRoute<MediaType extends string, P extends Parameters>(
  app: FastifyInstance,
  { lifecycle, upload, metrics, refusals, guard, version }: UploadServices,
  route: UploadRoute<MediaType, P>,
): void {
  const { mediaTypes, unpack = true, conflict = () => null } = route;
  const otherwise = route.otherwise ?? (mediaTypes.length > 1 ? null : mediaTypes[0]);
  // A blob is small, so naming it instead of sending it would save nothing.
  const parameters: P = unpack ? { ...route.parameters, ...REFERENCE_PARAMETERS } : route.parameters;

  function checkTogether(collected: ParameterCollector<P>): void {
    const detail = conflict((name) => collected.isGiven(name));
    if (detail !== null) throw new Problem('parameter-conflict', detail);
  }

  async function receive(
    request: FastifyRequest,
    reply: FastifyReply,
    collected: ParameterCollector<P>,
    mediaType: MediaType,
    scope: Scope,
  ): Promise<Upload | null> {
    if (lifecycle.draining) throw lifecycle.refusal();
    collected.addQuery(request.query as Record<string, unknown>);
    checkTogether(collected);
    const received = await receiveImage(request, reply, collected, { ...upload, unpack }, scope);
    checkTogether(collected);
    return received ?? receiveReference(request, reply, collected, mediaType, scope);
  }

  /** Reads what is needed of an image that the request names. @returns null when the caller has the answer already */
  async function receiveReference(
    request: FastifyRequest,
    reply: FastifyReply,
    collected: ParameterCollector<P>,
    mediaType: MediaType,
    scope: Scope,
  ): Promise<Upload | null> {
    const imageUrl = urlOf(collected) ?? '';
    const giveUp = new AbortController();
    scope.own(() => giveUp.abort());
    const { store, references } = upload;
    const reference = await openRequested(
      request,
      imageUrl,
      references,
      { store, unpack, signal: giveUp.signal },
      (result, bytes) => {
        metrics.source(result, bytes);
        // An answer that has begun is cut off, and the client is not to blame.
        if (reply.raw.headersSent && result.startsWith('source-') && isProblemCode(result)) {
          connectionState(request.raw.socket).code = result;
        }
      },
    );
    scope.own(() => reference.close());
    if (scope.closed) throw clientGone();
    if (request.method === 'GET') {
      const representation = { route: route.url, mediaType, parameters: collected.values, version };
      const tag = entityTag(imageUrl, reference.version, representation);
      reply.headers({
        'Cache-Control': 'no-cache',
        Vary: route.vary ?? 'Accept',
        ...(tag === null ? {} : { ETag: tag }),
      });
      if (isFresh(request, tag)) {
        reply.code(304);
        return null;
      }
    }
    const { source, compression } = await reference.take();
    if (source.size === 0) {
      throw new Problem('no-image', 'The image that imageUrl names is empty. Check the step that produced it.');
    }
    await refuseForms(source);
    return { source, compression };
  }

  /** Receives the image and answers. @returns when the answer is on its way */
  async function answer(request: FastifyRequest, reply: FastifyReply, scope: Scope): Promise<void> {
    const mediaType = negotiate(request, mediaTypes, otherwise);
    const collected = new ParameterCollector(parameters);
    const received = await receive(request, reply, collected, mediaType, scope);
    refusals.arrived(request);
    if (received === null) {
      void reply.send();
      return;
    }
    const payload = await route.handle({ ...received, request, reply, parameters: collected.values, mediaType });
    // Awaiting a reply gives undefined.
    if (payload !== undefined) void reply.send(payload);
  }

  const options = {
    config: { upload: { parameters, mediaTypes, isStrict: otherwise === null, unpack } },
    onRequest: [
      (request: FastifyRequest, _reply: FastifyReply, done: () => void): void => {
        refusals.begin(request);
        done();
      },
      ...guard,
    ],
    errorHandler: (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
      const problem = toProblem(error, reply);
      refusals.refused(request, problem.code);
      // They describe the answer that the problem replaces.
      for (const name of ['etag', 'vary']) reply.removeHeader(name);
      void sendProblem(problem, request, reply);
    },
  };
  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const scope = new Scope((error) => reply.log.error({ err: error }, 'an upload could not be released'));
    const over = new Promise<void>((resolve) => {
      whenOver(request.raw, reply.raw, () => {
        // The work may wait for anything; its result is no longer needed.
        void scope.close();
        resolve();
      });
    });
    try {
      if (scope.closed) refusals.ended(request, PROBLEM_KINDS['client-gone'].status);
      else await Promise.race([answer(request, reply, scope), over]);
      await over;
    } finally {
      // The answer to a refused upload does not wait for the disk.
      void scope.close();
    }
  };

  app.post(route.url, options, handler);
  // As `curl -T` sends it.
  app.put(route.url, options, handler);
  if (!unpack) return;
  // No HEAD: it would take as long as GET.
  app.get(route.url, { ...options, exposeHeadRoute: false }, handler);
}

/** Where symbols were to be placed, for the log. */
interface Placement {
  readonly loader: Loader;
  readonly loadAddress: bigint | null;
}

/** Counts and logs what is wrong with an image. @returns the problem to throw when the image is refused for that */
export function reportBroken(
  request: FastifyRequest,
  metrics: Metrics,
  broken: Broken,
  image: ImageFacts,
  placement: Placement,
  builder: BuilderVerdict | null = null,
): Problem {
  metrics.broken(broken);
  logBroken(request, broken, image, placement.loader, placement.loadAddress);
  return new Problem(broken.code, broken.detail, { subject: { broken, image }, builder });
}
