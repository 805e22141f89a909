/** Failures as answers: a closed list of codes, and the one place that turns an error into an answer. */
import accepts from 'accepts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ImageError } from '../inspect/image-error.ts';
import {
  describeProblem,
  IMAGE_PROBLEM_KINDS,
  type ImageProblemCode,
  type ProblemDocument,
  type ProblemKind,
  type ProblemSubject,
} from '../report/problem.ts';
import type { BuilderVerdict } from '../xen/builder.ts';
import { isWaiting } from './expectation.ts';

const HTTP_PROBLEM_KINDS = {
  'bad-request': {
    status: 400,
    title: 'The request cannot be understood',
    explanation:
      'The request is not valid HTTP, or one of its header fields cannot be used; the detail says which. Where it says nothing, ' +
      'look at what is between client and service.',
  },
  'body-truncated': {
    status: 400,
    title: 'The body ended too early',
    explanation: 'The connection ended before the announced body was complete. Send the request again.',
  },
  'digest-mismatch': {
    status: 400,
    title: 'The body does not have the digest that was sent with it',
    explanation:
      'The request has a Content-Digest or Repr-Digest (RFC 9530), and what arrived has another one: it was cut short or damaged, ' +
      'or the digest is that of another file. Both are compared with the body as it is sent, the boundaries of a form included.',
  },
  'no-image': {
    status: 400,
    title: 'There is no image in the request',
    explanation:
      'Send the image as the raw body (curl -T vmlinux, or --data-binary @vmlinux) or as the file part `image` of a ' +
      'form (curl -F image=@vmlinux).',
  },
  'image-repeated': {
    status: 400,
    title: 'There is more than one image in the request',
    explanation: 'One request takes one image. Send one request for each.',
  },
  'field-unknown': {
    status: 400,
    title: 'The form has a field that is not known',
    explanation:
      'A form takes the file part `image` and the parameters of the route, nothing else. Names are case-sensitive; the ' +
      'detail has the right spelling or all names.',
  },
  'multipart-malformed': {
    status: 400,
    title: 'The form cannot be parsed',
    explanation:
      'The body is not multipart/form-data as RFC 7578 has it. Most often the Content-Type was set by hand and lacks ' +
      'the boundary: leave the header to the client (curl -F sets it).',
  },
  'multipart-in-body': {
    status: 400,
    title: 'The image is itself a multipart form',
    explanation:
      'What arrived as the image begins like a multipart form: the form was sent under another Content-Type, or was ' +
      'wrapped twice. Send the form as multipart/form-data, or the file alone.',
  },
  'parameter-invalid': {
    status: 400,
    title: 'A parameter cannot be used',
    explanation:
      'The detail names the parameter, what was given and what is accepted. Addresses are written as 0x and hexadecimal ' +
      'digits, or as decimal digits without leading zeros: what nm prints without 0x could be either.',
  },
  'parameter-unknown': {
    status: 400,
    title: 'A parameter is not known',
    explanation:
      'The query has a parameter that the route does not know. Names are case-sensitive; the detail has the right ' +
      'spelling or all names.',
  },
  'parameter-conflict': {
    status: 400,
    title: 'Parameters contradict each other',
    explanation:
      'The same parameter is given in the query and in the form with different values, or twice in one of them; or two ' +
      'parameters that exclude each other are given. The detail names them.',
  },
  unauthorized: {
    status: 401,
    title: 'A bearer token is needed',
    explanation:
      'This service takes uploads only with a token (Authorization: Bearer TOKEN, curl -H "Authorization: Bearer $TOKEN"). ' +
      'Ask its operator for one. The tokens that CI systems give to their jobs (OpenID Connect) are taken where the operator lists ' +
      'them; the detail says what is wrong with such a token.',
  },
  forbidden: {
    status: 403,
    title: 'The token does not let its owner in',
    explanation:
      'The token was signed by an issuer that the service knows, is meant for it and has not expired, but its claims are not among ' +
      'those that the operator lists (BSDSYMS_OIDC_FILE). The detail names the claims.',
  },
  'not-found': {
    status: 404,
    title: 'There is nothing at this path',
    explanation: 'GET /openapi.yaml describes all routes.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'This path does not take this method',
    explanation: 'The Allow header of the answer lists the methods that it takes.',
  },
  'not-acceptable': {
    status: 406,
    title: 'The answer is not available in an accepted type',
    explanation: 'The Accept header excludes every type that the route can answer with. The detail lists them.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request came too slowly',
    explanation:
      'The whole request has to arrive within BSDSYMS_UPLOAD_TIMEOUT_MS, and its body may not pause for longer than ' +
      'BSDSYMS_STALL_TIMEOUT_MS. Send it over a faster connection, or ask the operator for more time.',
  },
  'media-type-unsupported': {
    status: 415,
    title: 'The content type is not supported',
    explanation:
      'Send a form as multipart/form-data or the image itself as application/octet-stream (or without a content type). ' +
      'An image inside JSON or another text type is not taken.',
  },
  'coding-unsupported': {
    status: 415,
    title: 'The content coding is not supported',
    explanation:
      'The body has a Content-Encoding that this service does not undo. The detail lists those that it does.',
  },
  'client-gone': {
    status: 499,
    title: 'The client went away',
    explanation:
      'The connection was closed before the request and its answer were complete, by the client or because it read the ' +
      'answer more slowly than BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND. This code is seen in logs only.',
  },
  'rate-limited': {
    status: 429,
    title: 'Too many uploads from this address',
    explanation:
      'Within a minute this address started more uploads than BSDSYMS_RATE_LIMIT_PER_MINUTE, or it has as many under way ' +
      'as BSDSYMS_MAX_UPLOADS_PER_CLIENT. Send the request again ' +
      'after the time in Retry-After (curl --retry does).',
  },
  'header-fields-too-large': {
    status: 431,
    title: 'The header fields are too large',
    explanation: 'Request line and header fields together may be 16 KiB.',
  },
  'internal-error': {
    status: 500,
    title: 'Something is wrong with the service',
    explanation: 'This is a defect of the service. Its log has the cause under the request id; please report it.',
  },
  'transfer-coding-unsupported': {
    status: 501,
    title: 'The transfer coding is not supported',
    explanation:
      'A body may have the Transfer-Encoding chunked and no other. Use Content-Encoding for a compressed body.',
  },
  'http-version-unsupported': {
    status: 505,
    title: 'The HTTP version is not supported',
    explanation: 'The service takes HTTP/1.1 and HTTP/1.0. A proxy in front of it can take other versions.',
  },
  'too-busy': {
    status: 503,
    title: 'There is no room for another upload',
    explanation:
      'BSDSYMS_MAX_UPLOADS uploads are under way and the short queue for them is full. Send the request again after ' +
      'the time in Retry-After (curl --retry does).',
  },
  'issuer-unavailable': {
    status: 503,
    title: 'The keys of the issuer of the token cannot be fetched',
    explanation:
      'The token can only be verified with the keys of its issuer, and the service could not fetch them; its log has the cause. ' +
      'Send the request again after the time in Retry-After.',
  },
  'shutting-down': {
    status: 503,
    title: 'The service is shutting down',
    explanation:
      'Send the request again after the time in Retry-After; another instance or the restarted one takes it.',
  },
} as const satisfies Record<string, ProblemKind>;

export type ProblemCode = keyof typeof HTTP_PROBLEM_KINDS | ImageProblemCode;

/** All codes that an answer can carry. */
export const PROBLEM_KINDS: Readonly<Record<ProblemCode, ProblemKind>> = {
  ...HTTP_PROBLEM_KINDS,
  ...IMAGE_PROBLEM_KINDS,
  // The core does not know where its limit comes from.
  'region-too-large': {
    ...IMAGE_PROBLEM_KINDS['region-too-large'],
    explanation: `${IMAGE_PROBLEM_KINDS['region-too-large'].explanation} The limit is BSDSYMS_MAX_BLOB_BYTES: ask the operator.`,
  },
};

export const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(PROBLEM_KINDS, code);

/** A failure to be answered. `message` is the detail, written for the caller; `cause` is for the log only. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly headers: Readonly<Record<string, string>>;
  /** What the answer says about a broken image besides the code. */
  readonly subject: ProblemSubject | null;
  /** What Xen's domain builder does with the file, where the image is not known. */
  readonly builder: BuilderVerdict | null;

  constructor(
    code: ProblemCode,
    detail: string,
    options: {
      readonly cause?: unknown;
      readonly headers?: Readonly<Record<string, string>>;
      readonly subject?: ProblemSubject;
      readonly builder?: BuilderVerdict | null;
    } = {},
  ) {
    super(detail, { cause: options.cause });
    this.code = code;
    this.headers = options.headers ?? {};
    this.subject = options.subject ?? null;
    this.builder = options.builder ?? this.subject?.builder ?? null;
  }

  get status(): number {
    return PROBLEM_KINDS[this.code].status;
  }
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

export const problemDocument = (problem: Problem, requestId: string): ProblemDocument => ({
  ...describeProblem(problem.code, PROBLEM_KINDS[problem.code], problem.message, problem.subject, problem.builder),
  instance: requestId,
});

/** Fastify's and its plugins' own error codes; everything not listed here is a defect of this service. */
const FRAMEWORK_ERRORS: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'media-type-unsupported',
  FST_ERR_CTP_EMPTY_TYPE: 'media-type-unsupported',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'bad-request',
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: 'media-type-unsupported',
  FST_ERR_BAD_URL: 'not-found',
  FST_ERR_MAX_PARAM_LENGTH: 'not-found',
};

export const clientGone = (cause?: unknown): Problem =>
  new Problem('client-gone', 'The connection was closed.', { cause });

const codeOf = (error: unknown): string | undefined => {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
};

/** It takes a while until memory or the spool has room for the same request. */
const IMAGE_RETRY_AFTER = { 'Retry-After': '10' };

/**
 * Any thrown value as a problem. An unknown error becomes a 500 that says nothing about its cause.
 *
 * @param reply the reply to the failed request: after its connection is closed, its image is gone, and a failure is not a defect
 */
export function toProblem(error: unknown, reply?: FastifyReply): Problem {
  if (error instanceof Problem) return error;
  if (reply?.raw.destroyed === true) return clientGone(error);
  if (error instanceof ImageError) {
    const headers = PROBLEM_KINDS[error.code].status === 503 ? IMAGE_RETRY_AFTER : {};
    return new Problem(error.code, error.message, { cause: error.cause, headers, builder: error.builder });
  }
  const code = FRAMEWORK_ERRORS[codeOf(error) ?? ''];
  // Its own words would repeat the whole path.
  if (code === 'not-found') return new Problem(code, 'The path cannot be that of a route. GET /openapi.yaml has all.');
  if (code !== undefined && error instanceof Error) {
    return new Problem(code, `${error.message.replace(/\.$/, '')}. ${PROBLEM_KINDS[code].explanation}`);
  }
  return new Problem('internal-error', 'The request failed for a reason that is not yours. The log has the cause.', {
    cause: error,
  });
}

export const TEXT_TYPE = 'text/plain; charset=utf-8';

/** What requests were answered with, for the log. */
const answeredWith = new WeakMap<FastifyRequest['raw'], ProblemCode>();

/** The code of the problem that a request is answered with; null for any other answer. */
export const findAnsweredProblem = (request: FastifyRequest): ProblemCode | null =>
  answeredWith.get(request.raw) ?? null;

/** Status, header fields and log of an answer that is a problem, whatever its representation. */
export function prepareProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): void {
  if (problem.status >= 500 && problem.cause !== undefined) request.log.error({ err: problem.cause }, problem.code);
  answeredWith.set(request.raw, problem.code);
  // The body that the client holds back will not be read; the connection could not be used again.
  if (isWaiting(request)) reply.header('connection', 'close');
  reply.code(problem.status).headers(problem.headers).header('cache-control', 'no-store');
}

/** A problem on one line, which ends with the request id: the log of a build often has nothing else. */
export const writeProblemLine = (problem: Problem, requestId: string): string =>
  `${problem.code}: ${problem.message} X-Request-Id: ${requestId}\n`;

/** Answers with the problem, on one line for callers that prefer plain text. */
export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  prepareProblem(problem, request, reply);
  const type = accepts(request.raw).type([PROBLEM_MEDIA_TYPE, 'application/json', 'text/plain']);
  if (type === 'text/plain') return reply.type(TEXT_TYPE).send(writeProblemLine(problem, request.id));
  // As bytes: to a string Fastify would add a charset, which this media type does not have.
  return reply.type(PROBLEM_MEDIA_TYPE).send(Buffer.from(JSON.stringify(problemDocument(problem, request.id))));
}
