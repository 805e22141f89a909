/** The descriptions of the routes in openapi.yaml. Only `npm run openapi` loads them: the service serves the file. */
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifySchema, RouteOptions } from 'fastify';
import { Type } from 'typebox';
import { OCTETS } from './blob.ts';
import { JSON_TYPE, NDJSON_TYPE, SVG_TYPE, XML_TYPE } from './negotiation.ts';
import { PROBLEM_MEDIA_TYPE } from './problem.ts';
import {
  binary,
  COMPONENTS,
  checkResponse,
  explanationResponse,
  failedCheckResponse,
  flatLayoutResponse,
  indexResponse,
  kernelReportResponse,
  layoutResponse,
  parameterSchema,
  problemListResponse,
  problemResponse,
  symbolsResponse,
  verifyResponse,
  versionResponse,
} from './schemas.ts';
import type { UploadFacts } from './upload-route.ts';

const header = (description: string) => ({ type: 'string', description });
const plain = (contentType: string, description: string) => ({
  description,
  content: { [contentType]: { schema: Type.String() } },
});

/** Tokens are an option of the operator's, so both without and with one. */
const security = (): { readonly [scheme: string]: readonly string[] }[] => [{}, { token: [] }];
/** The same for all of these, as YAML names what stands in several places. */
const UPLOAD_SECURITY = security();
const UNAUTHORISED = problemResponse('The service wants a bearer token.');

const CHECK_TEXT = { schema: Type.String({ description: 'A line for each requirement and each warning.' }) };
const PICTURE = {
  schema: Type.String({
    description:
      'An SVG document of at most 100 KB, whatever the image: guest memory from the kernel to the end of the symbols, and the ' +
      'symbols opened up. No scripts, and nothing from elsewhere. Each region is a `g` with `data-region`.',
  }),
  example:
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    '<svg xmlns="http://www.w3.org/2000/svg" class="bsdsyms-picture" viewBox="0 0 816 762" width="816" height="762" role="img">' +
    '<title>A kernel and its symbols in guest memory</title>…</svg>\n',
};
/** With what is not JSON. */
const PICTURE_HEADERS = {
  'Bsdsyms-Pstart': header('Where the blob begins, in lower-case hex. Not with JSON.'),
  'Bsdsyms-Pend': header('Where it ends. Not with JSON.'),
  'Bsdsyms-Warnings': header('Codes, comma-separated. Not with JSON, absent when there are none.'),
  'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with onBroken=load, not with JSON.'),
  'Content-Security-Policy': header(
    'Lets a browser that opens the picture load nothing for it. Only with the picture.',
  ),
};
const JUNIT = { schema: Type.String({ description: 'JUnit XML: a test case for each requirement.' }) };

interface UploadOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  /** The 200. */
  readonly ok: object;
  /** The 422, where it is not a problem alone. */
  readonly refused?: object;
}

/** The routes that take a file, by path. */
const UPLOADS: Readonly<Record<string, UploadOperation>> = {
  '/bsdsyms': {
    operationId: 'bsdsyms',
    summary: 'The symbol blob of an image, its layout, or a picture of it',
    description:
      'Runs parse and load on the image and answers with the bytes that Xen would place after the kernel, or, with ' +
      'Accept: application/json, with where they lie, what they consist of and what guests make of them; with ' +
      'Accept: image/svg+xml, with a picture of that.',
    ok: {
      description: 'The blob, its layout, or the picture of it.',
      headers: {
        ...PICTURE_HEADERS,
        'Repr-Digest': header(
          'sha-256 of the blob, when Want-Repr-Digest asked for it (RFC 9530). Left out when the blob is larger than ' +
            '64 MiB plus twice the image, which only damaged images cause.',
        ),
      },
      content: { [OCTETS]: { schema: binary }, [JSON_TYPE]: { schema: layoutResponse }, [SVG_TYPE]: PICTURE },
    },
  },
  '/layout': {
    operationId: 'layout',
    summary: 'The layout of the symbols of an image',
    description:
      'The same as POST /bsdsyms with Accept: application/json, and on demand compared with what another loader makes of ' +
      'the image. `guests` says what guests make of the blob. With Accept: image/svg+xml a picture; with `compareWith` it ' +
      'shows both loaders side by side and marks the differences. Any other Accept gets JSON.',
    ok: {
      description: 'The layout, or the picture of it.',
      headers: PICTURE_HEADERS,
      content: { [JSON_TYPE]: { schema: layoutResponse }, [SVG_TYPE]: PICTURE },
    },
  },
  '/kernel': {
    operationId: 'kernel',
    summary: 'What Xen makes of a kernel',
    description:
      'Segments, notes, and whether Xen would start the kernel as a PV or as an HVM (PVH) guest. For every image that ' +
      'passes init, with or without symbols; a recorded reason is reported, not refused.',
    ok: { description: 'The report.', content: { [JSON_TYPE]: { schema: kernelReportResponse } } },
  },
  '/check': {
    operationId: 'check',
    summary: 'One verdict on a kernel, for a build',
    description:
      'Compares the kernel with requirements: 200 when it meets all of them, otherwise 422 with the code check-failed and ' +
      'the same report. With Accept: text/plain it is lines for a log, with application/xml JUnit XML, which CI systems show as ' +
      'tests. An image that cannot be read at all is a problem as on every route.',
    ok: {
      description: 'All that is required is met.',
      content: { [JSON_TYPE]: { schema: checkResponse }, 'text/plain': CHECK_TEXT, [XML_TYPE]: JUNIT },
    },
    refused: {
      description: 'Something that is required is not met, or the image is broken.',
      content: {
        ...problemResponse('').content,
        [PROBLEM_MEDIA_TYPE]: { schema: failedCheckResponse },
        'text/plain': CHECK_TEXT,
        [XML_TYPE]: JUNIT,
      },
    },
  },
  '/image': {
    operationId: 'image',
    summary: 'The kernel as it lies in guest memory',
    description:
      'Loadable segments and, when wanted, symbols, from the lowest to the highest guest-physical address, with zeros ' +
      'in between. With Accept: application/json the extents it consists of.',
    ok: {
      description: 'The flat image, or its extents.',
      headers: {
        'Bsdsyms-Kernel-Pstart': header('Where the image begins in guest memory. Only with the bytes.'),
        'Bsdsyms-Kernel-Pend': header('Where it ends. Only with the bytes.'),
        'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with the bytes and onBroken=load.'),
        'Repr-Digest': header(
          'sha-256 of the bytes, when Want-Repr-Digest asked for it (RFC 9530). Left out when they are more than 64 MiB ' +
            'plus twice the image.',
        ),
      },
      content: { [OCTETS]: { schema: binary }, [JSON_TYPE]: { schema: flatLayoutResponse } },
    },
  },
  '/symbols': {
    operationId: 'symbols',
    summary: 'Symbols of an image, by name, by address or in pages',
    description:
      'From the symbol table that the loader would use. A reason recorded against the image is reported, not refused, ' +
      'as long as the tables can be read. With Accept: application/x-ndjson one line for each symbol or address. With ' +
      'Accept-Encoding: gzip it is compressed (curl --compressed).',
    ok: {
      description: 'The symbols, or the addresses with their symbols.',
      headers: {
        'Bsdsyms-Broken': header('The code of what is wrong with the image elsewhere. Only with NDJSON.'),
      },
      content: {
        [JSON_TYPE]: { schema: symbolsResponse },
        [NDJSON_TYPE]: {
          schema: Type.String({ description: 'Lines of JSON: each a Symbol; with `address` each a ResolvedAddress.' }),
        },
      },
    },
  },
  '/verify': {
    operationId: 'verify',
    summary: 'What guests make of a symbol blob',
    description:
      'Takes a symbol blob, or a dump of the memory that begins with one, and says for each guest whether it finds its ' +
      'symbols there, finds none, or reads outside of the bytes; why, how many, and what it misreads. A blob that no guest ' +
      'can use is an answer too, not a problem; an ELF image, which was sent to the wrong route, is a problem.',
    ok: { description: 'The verdicts.', content: { [JSON_TYPE]: { schema: verifyResponse } } },
  },
};

/** The routes without a body, by path. */
const READS: Readonly<Record<string, FastifySchema>> = {
  '/problems': {
    operationId: 'problems',
    summary: 'All codes that a problem can carry',
    tags: ['problems'],
    response: {
      200: {
        description: 'The codes.',
        content: { 'text/plain': { schema: Type.String() }, [JSON_TYPE]: { schema: problemListResponse } },
      },
    },
  },
  '/problems/:code': {
    operationId: 'problem',
    summary: 'What one code means and what to do about it',
    tags: ['problems'],
    params: Type.Object({ code: Type.String({ description: 'As in a problem.' }) }),
    response: {
      200: {
        description: 'What it means.',
        content: { 'text/plain': { schema: Type.String() }, [JSON_TYPE]: { schema: explanationResponse } },
      },
      404: problemResponse('There is no such code.'),
    },
  },
  '/': {
    operationId: 'index',
    summary: 'An index of the routes, or a page for browsers',
    description:
      'Browsers, which prefer text/html, get a page that reads a kernel where it lies and uploads nothing, unless BSDSYMS_PAGE ' +
      'is off. Everything else gets the index.',
    tags: ['service'],
    response: {
      200: {
        description: 'The index, or the page. The header fields are those of the page.',
        headers: {
          ETag: header('Of the page, in the coding that it is sent in.'),
          'Content-Security-Policy': header('Lets the page open no connection.'),
          'Cross-Origin-Opener-Policy': header('same-origin'),
          'Cross-Origin-Resource-Policy': header('same-origin'),
          'Permissions-Policy': header('The page uses no device.'),
          'Referrer-Policy': header('no-referrer'),
        },
        content: { [JSON_TYPE]: { schema: indexResponse }, 'text/html': { schema: Type.String() } },
      },
    },
  },
  // The page names its files; nobody else asks for them.
  '/page/:file': { hide: true },
  '/healthz': {
    operationId: 'health',
    summary: 'Whether the process is alive',
    tags: ['service'],
    response: { 200: plain('text/plain', 'The process is alive.') },
  },
  '/readyz': {
    operationId: 'readiness',
    summary: 'Whether uploads are accepted',
    tags: ['service'],
    response: {
      200: plain('text/plain', 'Uploads are accepted.'),
      503: problemResponse('The service is shutting down.'),
    },
  },
  '/version': {
    operationId: 'version',
    summary: 'What runs here, and within which limits',
    tags: ['service'],
    response: { 200: { description: 'The version.', content: { [JSON_TYPE]: { schema: versionResponse } } } },
  },
  '/openapi.yaml': {
    operationId: 'openapiYaml',
    summary: 'This document as YAML',
    tags: ['service'],
    response: { 200: plain('application/yaml', 'The document.') },
  },
  '/openapi.json': {
    operationId: 'openapiJson',
    summary: 'This document as JSON',
    tags: ['service'],
    response: {
      200: {
        description: 'The document.',
        content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } },
      },
    },
  },
  '/metrics': {
    operationId: 'metrics',
    summary: 'Metrics in the text format of Prometheus',
    tags: ['service'],
    security: security(),
    response: { 200: plain('text/plain', 'The metrics.'), 401: UNAUTHORISED },
  },
};

const ENTITY_TAG = {
  ETag: header(
    'Of the version of the image, the parameters, the type of the answer and the version of the service. Absent when the ' +
      'origin gives neither ETag nor Last-Modified.',
  ),
};

const withEntityTag = (ok: object): object => ({
  ...ok,
  headers: { ...('headers' in ok && typeof ok.headers === 'object' ? ok.headers : {}), ...ENTITY_TAG },
});

/** A caller that takes text is never refused by a route that answers in text. */
function describeUnacceptable(mediaTypes: readonly string[]): object {
  const { description, content } = problemResponse('None of the types is acceptable.');
  const types = Object.entries(content).filter(([type]) => !mediaTypes.includes(type));
  return { description, content: Object.fromEntries(types) };
}

const describeFailures = ({ mediaTypes, isStrict, unpack }: UploadFacts, refused: object | undefined) => ({
  400: problemResponse('The request cannot be used: no image, two images, a malformed form, a bad parameter.'),
  401: UNAUTHORISED,
  403: problemResponse(
    `The claims of the token let nobody in${unpack ? ', or the image may not be read from where imageUrl says' : ''}.`,
  ),
  ...(isStrict ? { 406: describeUnacceptable(mediaTypes) } : {}),
  408: problemResponse('The request came too slowly.'),
  413: problemResponse('The image is too large.'),
  415: problemResponse('The content type, coding or compression is not supported.'),
  422:
    refused ??
    problemResponse(unpack ? 'The image is broken, or lacks what is asked for.' : 'The file is of the wrong kind.'),
  429: problemResponse('Too many uploads from this address.'),
  500: problemResponse('A defect of the service.'),
  503: problemResponse(
    'There is no room for another upload, the service is shutting down, or the keys of the issuer of a token cannot be fetched.',
  ),
  ...(unpack
    ? {
        409: problemResponse('The image that imageUrl names changed while it was read.'),
        424: problemResponse('The origin refuses the image.'),
        502: problemResponse('The origin cannot be reached, or does not serve ranges as it should.'),
        504: problemResponse('The origin took too long.'),
      }
    : {}),
});

/** What the two operations of a route share; in YAML it stands once. */
const shared = new Map<string, ReturnType<typeof describeShared>>();
const describeShared = ({ summary, refused }: UploadOperation, facts: UploadFacts) => ({
  documented: { summary, tags: ['images'], security: UPLOAD_SECURITY, querystring: parameterSchema(facts.parameters) },
  failures: describeFailures(facts, refused),
});

function describeUpload(method: 'GET' | 'POST', operation: UploadOperation, facts: UploadFacts): FastifySchema {
  const { operationId, description, ok } = operation;
  const { documented, failures } = shared.get(operationId) ?? describeShared(operation, facts);
  shared.set(operationId, { documented, failures });
  if (method === 'POST') {
    const form = { image: binary, ...documented.querystring.properties };
    return {
      ...documented,
      operationId,
      description: `${description} PUT does the same.`,
      body: {
        content: {
          'multipart/form-data': { schema: Type.Object(form, { additionalProperties: false }) },
          'application/octet-stream': { schema: binary },
        },
      },
      response: { 200: ok, ...failures },
    };
  }
  const { 408: _slow, ...failuresOfGet } = failures;
  return {
    ...documented,
    operationId: `${operationId}ByUrl`,
    description: `The same for an image that imageUrl names; the parameter is required. ${description}`,
    response: {
      200: withEntityTag(ok),
      304: {
        // Without a body.
        type: 'null',
        description: 'The answer is the one whose entity tag If-None-Match names.',
        headers: ENTITY_TAG,
      },
      ...failuresOfGet,
    },
  };
}

/** @throws Error for a route without a description */
function describe({ method, url, config }: RouteOptions): FastifySchema {
  const upload = UPLOADS[url];
  if ((method === 'POST' || method === 'GET') && upload !== undefined && config?.upload !== undefined) {
    return describeUpload(method === 'GET' ? 'GET' : 'POST', upload, config.upload);
  }
  const read = READS[url];
  if (method === 'GET' && read !== undefined) return read;
  // The same as GET and as POST, what the info says of every path, and the refusals of all other methods.
  if (method === 'HEAD' || method === 'PUT' || method === 'OPTIONS' || Array.isArray(method)) return { hide: true };
  throw new Error(`${String(method)} ${url} has no description: add it to src/http/operations.ts`);
}

/** Describes the routes that are registered from now on; `server.swagger` then gives the document. */
export async function describeRoutes(
  server: FastifyInstance,
  info: { readonly version: string; readonly description: string },
): Promise<void> {
  server.addHook('onRoute', (route) => {
    route.schema = describe(route);
  });
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'bsdsyms',
        version: info.version,
        description:
          `${info.description}. Every answer has an X-Request-Id, which the log has too and a problem has as \`instance\`. A request ` +
          'may have its own, up to 64 letters, digits and `_.:-`. A route that takes an image by POST takes it by PUT as well. ' +
          'The Content-Digest and Repr-Digest of a request (RFC 9530) are verified. A body may have the Content-Encoding gzip, deflate, br or zstd, ' +
          'or two of them. OPTIONS answers with the methods of a path (Allow). HTTP/1.1 and 1.0 are spoken, not HTTP/2.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      security: [],
      components: {
        securitySchemes: {
          token: {
            type: 'http',
            scheme: 'bearer',
            description: "A token of the operator's, or one that a CI system gives to its jobs (OpenID Connect).",
          },
        },
      },
      tags: [
        { name: 'images', description: 'Routes that take an image' },
        { name: 'problems', description: 'What the codes of problems mean' },
        { name: 'service', description: 'The service itself' },
      ],
    },
    refResolver: { buildLocalReference: (json) => json['$id'] as string },
  });
  for (const component of COMPONENTS) server.addSchema(component);
}
