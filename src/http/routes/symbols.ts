/** `POST /bsdsyms` and `POST /layout`: an image in, its symbol blob or the layout of it out. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type {
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  onRequestAsyncHookHandler,
  onRequestHookHandler,
  RouteShorthandOptions,
} from 'fastify';
import { Type } from 'typebox';
import type { Config } from '../../config.ts';
import type { Compression } from '../../image/decompress.ts';
import { streamExtents } from '../../image/extents.ts';
import type { ImageSource } from '../../image/source.ts';
import { type LoadedImage, type LoadRequest, loadImage } from '../../load.ts';
import { DEFAULT_LOADER } from '../../xen/bsdsyms.ts';
import { hex } from '../hex.ts';
import { toLayout } from '../layout.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { logBroken } from '../logging.ts';
import type { Metrics } from '../metrics.ts';
import { negotiate, wantsSha256 } from '../negotiation.ts';
import { compileParameters, isAddress, ParameterCollector } from '../parameters.ts';
import { Problem, toProblem } from '../problem.ts';
import { binary, LOADERS, LoadParameters, layoutResponse, problemResponse } from '../schemas.ts';
import { receiveImage, type Upload, type UploadOptions } from '../upload.ts';

const BLOB = 'application/octet-stream';
const JSON_TYPE = 'application/json';

/** A blob up to this size is sent in one piece: copying it is cheaper than a stream. */
const MAX_GATHERED_BYTES = 128 * 1024;

const PARAMETERS = compileParameters(LoadParameters, { loadAddress: isAddress });

interface Loaded {
  readonly source: ImageSource;
  readonly compression: Compression | null;
  readonly loaded: LoadedImage;
}

export type Guard = onRequestHookHandler | onRequestAsyncHookHandler;

/** What the upload routes work with. */
export interface UploadServices {
  readonly config: Config;
  readonly lifecycle: Lifecycle;
  readonly upload: UploadOptions;
  readonly metrics: Metrics;
  /** Hooks that every upload passes first. */
  readonly guard: Guard[];
}

export function symbolRoutes(app: FastifyInstance, services: UploadServices): void {
  const { config, lifecycle, upload, metrics, guard } = services;

  async function receive(
    request: FastifyRequest,
    reply: FastifyReply,
    parameters: ParameterCollector,
  ): Promise<Upload> {
    try {
      if (lifecycle.draining) throw lifecycle.refusal();
      parameters.addQuery(request.query as Record<string, unknown>);
      return await receiveImage(request, reply, parameters, upload);
    } catch (error) {
      metrics.refused(toProblem(error).code);
      throw error;
    }
  }

  /** Everything that both routes do: check, receive, load. */
  async function load(request: FastifyRequest, reply: FastifyReply): Promise<Loaded> {
    const parameters = new ParameterCollector(PARAMETERS);
    const { source, compression } = await receive(request, reply, parameters);
    const wanted = toLoadRequest(parameters, config);
    const result = await loadImage(source, wanted);
    metrics.image(result.image, compression);
    if (result.broken !== null) {
      const loadAddress = result.ok ? result.plan.loadAddress : result.loadAddress;
      metrics.broken(result.broken);
      logBroken(request, result.broken, result.image, wanted.loader, loadAddress);
      if (!result.ok || parameters.get('onBroken') !== 'load') {
        throw new Problem(result.broken.code, result.broken.detail, { subject: { ...result, broken: result.broken } });
      }
    }
    if (!result.ok) throw new Error('an image was refused without a reason');
    metrics.blob(result.plan.size);
    return { source, compression, loaded: result };
  }

  app.post(
    '/bsdsyms',
    { ...documentation(SYMBOLS_DOC), ...acceptAnyBody, onRequest: guard },
    async (request, reply) => {
      const type = negotiate(request, [BLOB, JSON_TYPE]);
      const { source, compression, loaded } = await load(request, reply);
      return type === JSON_TYPE ? toLayout(loaded, compression) : sendBlob(request, reply, source, loaded);
    },
  );

  app.post('/layout', { ...documentation(LAYOUT_DOC), ...acceptAnyBody, onRequest: guard }, async (request, reply) => {
    const { compression, loaded } = await load(request, reply);
    return toLayout(loaded, compression);
  });
}

function toLoadRequest(parameters: ParameterCollector, config: Config): LoadRequest {
  const loadAddress = parameters.get('loadAddress');
  return {
    loader: LOADERS.find((loader) => loader === parameters.get('loader')) ?? DEFAULT_LOADER,
    loadAddress: loadAddress === undefined ? null : BigInt(loadAddress),
    maxBlobBytes: config.maxBlobBytes,
  };
}

async function sendBlob(
  request: FastifyRequest,
  reply: FastifyReply,
  source: ImageSource,
  { plan, broken, warnings }: LoadedImage,
): Promise<FastifyReply> {
  reply.type(BLOB).headers({
    'Content-Length': plan.size,
    'Content-Disposition': 'attachment; filename="bsdsyms.bin"',
    'Bsdsyms-Pstart': hex(plan.pstart),
    'Bsdsyms-Pend': hex(plan.pend),
  });
  if (warnings.length > 0) reply.header('Bsdsyms-Warnings', warnings.map(({ code }) => code).join(', '));
  if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
  if (wantsSha256(request)) {
    const hash = createHash('sha256');
    for await (const piece of streamExtents(source, plan.extents)) hash.update(piece);
    reply.header('Repr-Digest', `sha-256=:${hash.digest('base64')}:`);
  }
  const pieces = streamExtents(source, plan.extents);
  if (plan.size > MAX_GATHERED_BYTES) return reply.send(Readable.from(pieces, { objectMode: false }));
  const gathered: Uint8Array[] = [];
  for await (const piece of pieces) gathered.push(piece);
  return reply.send(Buffer.concat(gathered));
}

/** The parameters are checked by their collector, wherever they stand; the schemas here are for the document. */
const acceptAnyBody: RouteShorthandOptions = { validatorCompiler: () => () => true };

const LAYOUT_DOC = {
  operationId: 'layout',
  summary: 'The layout of the symbols of an image',
  description: 'The same as POST /bsdsyms with Accept: application/json, whatever the Accept.',
  ok: { description: 'The layout.', content: { [JSON_TYPE]: { schema: layoutResponse } } },
  problems: {},
};

const header = (description: string) => ({ type: 'string', description });

const SYMBOLS_DOC = {
  operationId: 'bsdsyms',
  summary: 'The symbol blob of an image, or its layout',
  description:
    'Runs parse and load on the image and answers with the bytes that Xen would place behind the kernel, or, with ' +
    'Accept: application/json, with where they lie and what they consist of.',
  ok: {
    description: 'The blob, or its layout.',
    headers: {
      'Bsdsyms-Pstart': header('Where the blob begins, in lower-case hex. Only with the blob.'),
      'Bsdsyms-Pend': header('Where it ends. Only with the blob.'),
      'Bsdsyms-Warnings': header('Codes, comma-separated. Only with the blob, absent when there are none.'),
      'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with the blob and onBroken=load.'),
      'Repr-Digest': header('sha-256 of the blob, when Want-Repr-Digest asked for it (RFC 9530).'),
    },
    content: { [BLOB]: { schema: binary }, [JSON_TYPE]: { schema: layoutResponse } },
  },
  problems: { 406: problemResponse('Neither type is acceptable.') },
};

/** Tokens are an option of the operator's, so both without and with one. */
const UPLOAD_SECURITY: { readonly [scheme: string]: readonly string[] }[] = [{}, { token: [] }];

function documentation({ ok, problems, ...rest }: typeof SYMBOLS_DOC | typeof LAYOUT_DOC): RouteShorthandOptions {
  return {
    schema: {
      ...rest,
      tags: ['symbols'],
      security: UPLOAD_SECURITY,
      querystring: LoadParameters,
      body: {
        content: {
          'multipart/form-data': {
            schema: Type.Object({ image: binary, ...LoadParameters.properties }, { additionalProperties: false }),
          },
          [BLOB]: { schema: binary },
        },
      },
      response: {
        200: ok,
        400: problemResponse('The request cannot be used: no image, two images, a malformed form, a bad parameter.'),
        401: problemResponse('The service wants a bearer token.'),
        ...problems,
        408: problemResponse('The request came too slowly.'),
        413: problemResponse('The image is too large.'),
        415: problemResponse('The content type or coding is not supported.'),
        422: problemResponse('The image is broken, or has no usable symbols.'),
        429: problemResponse('Too many uploads from this address.'),
        500: problemResponse('A defect of the service.'),
        503: problemResponse('There is no room for another upload, or the service is shutting down.'),
      },
    },
  };
}
