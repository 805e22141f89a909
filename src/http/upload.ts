/** Receives an image as the raw body or as the file part of a form, without ever holding all of it in one buffer. */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { consume } from '../image/consume.ts';
import { UnpackingSink } from '../image/decompress.ts';
import { type ImageStore, imageTooLarge, StoredSink } from '../image/store.ts';
import type { PackedFormat } from '../image/unpack/unpacker.ts';
import { ImageError } from '../inspect/image-error.ts';
import type { Compression, ImageSource } from '../inspect/image-source.ts';
import { looksLikeMultipart, MULTIPART_START_BYTES } from '../inspect/recognise.ts';
import { type Parameters, quote, suggestName } from '../parameters.ts';
import type { AdmissionControl } from './admission.ts';
import { clientKey } from './client-address.ts';
import { contentCodings, decodeBody } from './coding.ts';
import { BodyDigests } from './digest.ts';
import { continueUpload } from './expectation.ts';
import { type FormPart, MAX_FIELD_BYTES, readForm } from './form.ts';
import { JSON_TYPE } from './negotiation.ts';
import type { ParameterCollector } from './parameters.ts';
import { clientGone, Problem } from './problem.ts';
import type { References } from './reference.ts';
import type { Scope } from './scope.ts';

/** The name of the form's file part. */
const IMAGE_FIELD = 'image';
/** What boundaries, part headers and fields of a form may take besides the image. */
const MAX_FORM_OVERHEAD_BYTES = 64 * 1024;

export interface UploadOptions {
  readonly store: ImageStore;
  readonly admission: AdmissionControl;
  /** How long a body may pause. */
  readonly stallTimeoutMs: number;
  /** Whether a compressed file is unpacked, and a file that is a form is refused. */
  readonly unpack: boolean;
  readonly references: References;
}

/** The URL of the image when the request names it instead of sending it; otherwise null. */
export const urlOf = (parameters: ParameterCollector<Parameters>): string | null => {
  const url = parameters.isGiven('imageUrl') ? parameters.values['imageUrl'] : null;
  return typeof url === 'string' ? url : null;
};

/** An image that has arrived whole. */
export interface Upload {
  /** Closed with the scope of the upload. */
  readonly source: ImageSource;
  readonly compression: Compression | null;
}

/** Media types other than `text/*` whose bodies are never images. */
const TEXTUAL = /^application\/(?:json|xml|yaml|javascript|graphql|[a-z0-9.+-]*\+(?:json|xml|yaml))$/;

/** The media type of bodies that curl -d and curl --data-binary send; the former removes line ends and NULs. */
const CURL_DATA_TYPE = 'application/x-www-form-urlencoded';

const mediaTypeOf = ({ headers }: FastifyRequest): string =>
  (headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';

/** What the header fields of an upload announce about its body. */
interface AnnouncedBody {
  /** Its content codings, in the order in which they are to be undone. */
  readonly codings: readonly PackedFormat[];
  /** The Content-Length; 0 when there is none. */
  readonly bodyBytes: number;
  /** The most bytes that the body may have after its content codings are undone. */
  readonly maxBodyBytes: number;
  /** The digests that the body is compared with; null without any. */
  readonly digests: BodyDigests | null;
}

/** HTTPie takes what it is piped for JSON. */
const JSON_ADVICE = ' With HTTPie: http -f POST URL image@vmlinux, or Content-Type:application/octet-stream.';

/**
 * Refuses a request whose header fields already show that it cannot be used, before a byte of the body is read.
 *
 * @throws Problem media-type-unsupported, coding-unsupported, image-too-large or bad-request
 */
function checkHeaders(request: FastifyRequest, { store }: UploadOptions): AnnouncedBody {
  const mediaType = mediaTypeOf(request);
  if (mediaType.startsWith('text/') || TEXTUAL.test(mediaType)) {
    throw new Problem(
      'media-type-unsupported',
      `${mediaType} is not accepted. Send a form (multipart/form-data, curl -F image=@vmlinux) or the image itself ` +
        `(application/octet-stream or no content type, curl -T vmlinux).${mediaType === JSON_TYPE ? JSON_ADVICE : ''}`,
    );
  }
  // RFC 9110, section 14.5: a part of an image would pass for all of it.
  if (request.headers['content-range'] !== undefined) {
    throw new Problem('bad-request', 'The request has a Content-Range. Send the whole image (curl without -C).');
  }
  const codings = contentCodings(request.headers['content-encoding']);
  const maxBodyBytes = store.maxImageBytes + (request.isMultipart() ? MAX_FORM_OVERHEAD_BYTES : 0);
  const bodyBytes = Number(request.headers['content-length'] ?? 0);
  if (bodyBytes > maxBodyBytes) {
    throw imageTooLarge(store.maxImageBytes, `The body is announced with ${bodyBytes} bytes`);
  }
  return { codings, bodyBytes, maxBodyBytes, digests: BodyDigests.of(request.headers) };
}

/**
 * Receives the image of a request, and its parameters where they are fields of the form.
 *
 * @param scope owns everything that the upload occupies: a slot, memory, a file, decompressors. If it is closed before the
 *   image has arrived, all of that is released, and the caller can ignore the promise
 * @returns null when the request names its image (`imageUrl`) instead
 * @throws Problem or ImageError for everything that is wrong; the rest of the body is then read and dropped
 */
export async function receiveImage(
  request: FastifyRequest,
  reply: FastifyReply,
  parameters: ParameterCollector<Parameters>,
  options: UploadOptions,
  scope: Scope,
): Promise<Upload | null> {
  const { codings, bodyBytes, maxBodyBytes, digests } = checkHeaders(request, options);
  const { admission, store, unpack, stallTimeoutMs } = options;
  // Never with GET, whose body Fastify does not look at.
  const isForm = request.isMultipart();
  if (!isForm && urlOf(parameters) !== null) refuseBody(request.raw);
  else if (request.method === 'GET') {
    throw new Problem(
      'no-image',
      'GET takes an image by reference: name it with imageUrl. To send an image, use POST.',
    );
  }
  const slot = admission.enter(clientKey(request));
  scope.own(() => slot.leave());
  await slot.entered;
  if (scope.closed) throw clientGone();
  if (!isForm && urlOf(parameters) !== null) return null;
  const sink = new UnpackingSink(new StoredSink(store, bodyBytes), unpack, store.memory);
  scope.own(() => sink.discard());

  continueUpload(request, reply);
  const body = decodeBody(request.raw, codings, store.memory);
  if (body !== request.raw) scope.own(() => void body.destroy());
  const watch = watchBody(request.raw, body, stallTimeoutMs, maxBodyBytes, store.maxImageBytes);
  scope.own(() => watch.stop());
  if (digests !== null) request.raw.on('data', (chunk: Buffer) => digests.update(chunk));
  try {
    const receive: Promise<boolean> = isForm
      ? receiveForm(request, body, sink, parameters)
      : receiveBody(request.raw, body, sink);
    if (!(await Promise.race([receive, watch.failed]))) {
      await sink.discard();
      return null;
    }
    if (digests !== null) {
      await Promise.race([bodyEnd(request.raw), watch.failed]);
      digests.verify(isForm);
    }
    const source = await sink.finish();
    scope.own(() => source.close());
    if (scope.closed) throw clientGone();
    if (unpack) await refuseForms(source);
    return { source, compression: sink.compression };
  } catch (error) {
    drain(request.raw);
    throw mediaTypeOf(request) === CURL_DATA_TYPE ? adviseCurl(error) : error;
  } finally {
    watch.stop();
  }
}

/** Waits for the end of the body: a form may be complete before it. */
async function bodyEnd(request: IncomingMessage): Promise<void> {
  if (request.readableEnded) return;
  request.resume();
  await consume(
    request,
    () => {},
    (error) => toBodyProblem(error, request),
  );
}

/** Adds to an error of compressed data what may have damaged it. */
function adviseCurl(error: unknown): unknown {
  if (!(error instanceof ImageError) || error.code !== 'compressed-data-corrupt') return error;
  const advice = 'If curl -d (--data) sent it, use curl --data-binary: -d removes bytes.';
  return new ImageError(error.code, `${error.message} ${advice}`, error.cause, error.builder);
}

/** Fails when the body pauses for too long or is too large. It watches the body while other code reads it. */
function watchBody(
  request: IncomingMessage,
  body: Readable,
  stallTimeoutMs: number,
  maxBodyBytes: number,
  maxImageBytes: number,
): { readonly failed: Promise<never>; stop(): void } {
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  // The failure may come when nothing waits for it any more.
  failed.catch(() => {});

  const onStall = (): void => {
    // The service itself paused the body: the disk is slow, not the sender.
    if (request.isPaused()) stalled?.refresh();
    else
      fail(
        new Problem(
          'request-timeout',
          `Nothing of the body arrived for ${stallTimeoutMs} ms (BSDSYMS_STALL_TIMEOUT_MS).`,
          { headers: { Connection: 'close' } },
        ),
      );
  };
  // A body that has arrived whole, as most small ones have, cannot stall.
  const stalled = request.complete ? null : setTimeout(onStall, stallTimeoutMs);
  let received = 0;
  const onArrival = (): void => {
    stalled?.refresh();
  };
  const onData = (chunk: Buffer): void => {
    if (body === request) stalled?.refresh();
    received += chunk.length;
    if (received > maxBodyBytes) fail(imageTooLarge(maxImageBytes, 'The body is larger'));
  };
  // A body without content codings is the request itself.
  if (body !== request) request.on('data', onArrival);
  body.on('data', onData);
  return {
    failed,
    stop() {
      if (stalled !== null) clearTimeout(stalled);
      if (body !== request) request.off('data', onArrival);
      body.off('data', onData);
    },
  };
}

async function receiveBody(request: IncomingMessage, body: Readable, sink: UnpackingSink): Promise<true> {
  let empty = true;
  const take = (chunk: Uint8Array): void | Promise<void> => {
    empty = false;
    return sink.append(chunk);
  };
  await consume(body, take, (error) => toBodyProblem(error, request), true);
  if (empty) {
    throw new Problem(
      'no-image',
      'The body is empty. Send the image as the body (curl -T vmlinux) or as a form (curl -F image=@vmlinux).',
    );
  }
  return true;
}

async function receiveForm(
  request: FastifyRequest,
  body: Readable,
  sink: UnpackingSink,
  parameters: ParameterCollector<Parameters>,
): Promise<boolean> {
  const parts = readForm(body, request.headers['content-type'] ?? '');
  try {
    return await takeParts(parts, request.raw, sink, parameters);
  } finally {
    void parts.return();
  }
}

/** @returns whether an image was among the parts; otherwise a field names one */
async function takeParts(
  parts: AsyncGenerator<FormPart, void>,
  request: IncomingMessage,
  sink: UnpackingSink,
  parameters: ParameterCollector<Parameters>,
): Promise<boolean> {
  let received = false;
  for (;;) {
    const part = await nextPart(parts, request);
    if (part === null) break;
    if (part.type === 'field') {
      takeField(part, parameters);
      continue;
    }
    checkFile(part, received, parameters);
    received = true;
    if (urlOf(parameters) !== null) throw twoImages();
    await consume(
      part.file,
      (chunk) => sink.append(chunk),
      (error) => toBodyProblem(error, request),
      true,
    );
  }
  if (urlOf(parameters) !== null) {
    if (received) throw twoImages();
    return false;
  }
  if (!received) {
    throw new Problem('no-image', `The form has no file part named ${IMAGE_FIELD}: curl -F ${IMAGE_FIELD}=@vmlinux.`);
  }
  return true;
}

const twoImages = (): Problem =>
  new Problem('parameter-conflict', 'The image is sent, and imageUrl names one as well. Leave out one of the two.');

/** @throws Problem parameter-conflict when a request that names an image has a body */
function refuseBody({ headers }: IncomingMessage): void {
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0) throw twoImages();
}

async function nextPart(parts: AsyncGenerator<FormPart, void>, request: IncomingMessage): Promise<FormPart | null> {
  try {
    const { done, value } = await parts.next();
    return done === true ? null : value;
  } catch (error) {
    throw toBodyProblem(error, request);
  }
}

/** @throws Problem multipart-in-body */
export async function refuseForms(source: ImageSource): Promise<void> {
  if (!looksLikeMultipart(await source.read(0, Math.min(source.size, MULTIPART_START_BYTES)))) return;
  throw new Problem(
    'multipart-in-body',
    'What arrived as the image begins like a multipart form. Either the form was sent without the Content-Type ' +
      'multipart/form-data, or it was wrapped twice (curl -F needs @ before a file name, and no --data-binary).',
  );
}

/** @throws Problem multipart-malformed for a part without a name, which the parser lets through */
function nameOf({ name }: FormPart): string {
  if (name !== undefined) return name;
  throw new Problem(
    'multipart-malformed',
    'The form has a part without a name. Each needs one: Content-Disposition: form-data; name="image" (RFC 7578).',
  );
}

function takeField(
  part: Extract<FormPart, { readonly type: 'field' }>,
  parameters: ParameterCollector<Parameters>,
): void {
  const name = nameOf(part);
  if (name === IMAGE_FIELD) {
    throw new Problem(
      'no-image',
      `The field ${IMAGE_FIELD} is text, not a file. Send it as a file part: curl -F ${IMAGE_FIELD}=@vmlinux (with @, not <).`,
    );
  }
  if (!parameters.has(name)) {
    const known = suggestName(name, [IMAGE_FIELD, ...parameters.names]);
    throw new Problem('field-unknown', `${quote(name)} is not a field of this form. ${known}`);
  }
  if (part.truncated) {
    throw new Problem('parameter-invalid', `${name} is longer than the ${MAX_FIELD_BYTES} bytes a parameter may have.`);
  }
  parameters.addField(name, part.value);
}

function checkFile(part: FormPart, received: boolean, parameters: ParameterCollector<Parameters>): void {
  const name = nameOf(part);
  if (name !== IMAGE_FIELD) {
    const advice = parameters.has(name)
      ? `It is a parameter, not a file: curl -F ${name}=VALUE (with =, not =@).`
      : `Name it ${IMAGE_FIELD}: curl -F ${IMAGE_FIELD}=@vmlinux.`;
    throw new Problem('field-unknown', `The form has a file in the field ${quote(name)}. ${advice}`);
  }
  if (received) throw new Problem('image-repeated', `The form has more than one file part named ${IMAGE_FIELD}.`);
}

/** A failure of the body or of the form parser is the request's fault: it was cut off, damaged, or is not a form. */
function toBodyProblem(error: unknown, request: IncomingMessage): unknown {
  if (error instanceof Problem || error instanceof ImageError || !(error instanceof Error)) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // Any other error follows from that one.
  if (code === 'ERR_STREAM_PREMATURE_CLOSE' || (request.destroyed && !request.complete)) return clientGone(error);
  return new Problem('multipart-malformed', `The form cannot be parsed: ${error.message}.`, { cause: error });
}

/**
 * Reads and drops the rest of a refused body. If the connection were closed instead, most clients would report a reset
 * and never show the answer. The time for a whole request bounds it.
 */
function drain(body: IncomingMessage): void {
  body.unpipe();
  // A listener that is left would pause it again.
  body.removeAllListeners('data');
  body.resume();
}
