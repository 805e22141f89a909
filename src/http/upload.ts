/** Receives an image: as the raw body or as the file part of a form, without ever gathering it. */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { Multipart, MultipartFile } from '@fastify/multipart';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { looksLikeMultipart, RECOGNISED_BYTES } from '../image/recognise.ts';
import type { ImageSink, ImageSource } from '../image/source.ts';
import type { ParameterCollector } from './parameters.ts';
import { Problem } from './problem.ts';

/** The form's file part. */
const IMAGE_FIELD = 'image';
/** A parameter is a few words. */
const MAX_FIELD_BYTES = 1024;
const MAX_FIELDS = 32;
/** What boundaries, part headers and fields of a form may take beside the image. */
const MAX_FORM_OVERHEAD_BYTES = 64 * 1024;

export interface UploadOptions {
  readonly maxImageBytes: number;
  openSink(): ImageSink;
}

/** Media types beside `text/*` whose bodies are no images. */
const TEXTUAL = /^application\/(?:json|xml|yaml|javascript|graphql|[a-z0-9.+-]*\+(?:json|xml|yaml))$/;

/**
 * Refuses, before a byte of the body is read, what the headers already show to be unusable.
 *
 * @throws Problem media-type-unsupported, coding-unsupported or image-too-large
 */
export function checkUploadHeaders(request: FastifyRequest, { maxImageBytes }: UploadOptions): void {
  const mediaType = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (mediaType.startsWith('text/') || TEXTUAL.test(mediaType)) {
    throw new Problem(
      'media-type-unsupported',
      `${mediaType} is not taken. Send a form (multipart/form-data, curl -F image=@vmlinux) or the image itself ` +
        '(application/octet-stream or no content type, curl -T vmlinux).',
    );
  }
  const coding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (coding !== 'identity') {
    throw new Problem(
      'coding-unsupported',
      `The Content-Encoding ${coding} is not supported. Send the body as it is.`,
      {
        headers: { 'accept-encoding': 'identity' },
      },
    );
  }
  const announced = Number(request.headers['content-length'] ?? 0);
  const allowed = request.isMultipart() ? maxImageBytes + MAX_FORM_OVERHEAD_BYTES : maxImageBytes;
  if (announced > allowed) throw tooLarge(maxImageBytes, `The body is announced with ${announced} bytes`);
}

/**
 * Receives the image of a request, and its parameters where they are fields of the form.
 *
 * What the image occupies is given back when the response is closed, however that comes about.
 *
 * @throws Problem for everything that is wrong with the request; the rest of the body is then read and dropped
 */
export async function receiveImage(
  request: FastifyRequest,
  reply: FastifyReply,
  parameters: ParameterCollector,
  options: UploadOptions,
): Promise<ImageSource> {
  const sink = options.openSink();
  let occupied: { close(): Promise<void> } = { close: () => sink.discard() };
  const release = (): void => {
    occupied.close().catch((error: unknown) => request.log.error({ err: error }, 'an image could not be released'));
  };
  if (reply.raw.destroyed) release();
  else reply.raw.once('close', release);

  try {
    if (request.isMultipart()) await receiveForm(request, sink, parameters, options);
    else await receiveBody(request.raw, sink, options);
    const source = await sink.finish();
    occupied = source;
    if (reply.raw.destroyed) throw new Problem('client-gone', 'The connection was closed.');
    if (looksLikeMultipart(await source.read(0, Math.min(source.size, RECOGNISED_BYTES)))) {
      throw new Problem(
        'multipart-in-body',
        'What arrived as the image begins like a multipart form. Either the form was sent without the Content-Type ' +
          'multipart/form-data, or it was wrapped twice (curl -F needs @ before a file name, and no --data-binary).',
      );
    }
    return source;
  } catch (error) {
    drain(request.raw);
    throw error;
  }
}

async function receiveBody(body: IncomingMessage, sink: ImageSink, options: UploadOptions): Promise<void> {
  await consume(body, (chunk) => append(sink, chunk, options));
  if (sink.size === 0) {
    throw new Problem(
      'no-image',
      'The body is empty. Send the image as the body (curl -T vmlinux) or as a form (curl -F image=@vmlinux).',
    );
  }
}

async function receiveForm(
  request: FastifyRequest,
  sink: ImageSink,
  parameters: ParameterCollector,
  options: UploadOptions,
): Promise<void> {
  let received = false;
  const parts = request.parts({
    limits: {
      fileSize: Number.POSITIVE_INFINITY,
      fieldSize: MAX_FIELD_BYTES,
      fields: MAX_FIELDS,
      files: 2,
      parts: MAX_FIELDS + 2,
      headerPairs: 32,
    },
  });
  try {
    for await (const part of parts) {
      if (part.type === 'field') {
        takeField(part, parameters);
        continue;
      }
      checkFile(part, received);
      received = true;
      await consume(part.file, (chunk) => append(sink, chunk, options));
    }
  } catch (error) {
    throw toUploadProblem(error, request.raw);
  }
  if (!received) {
    throw new Problem('no-image', `The form has no file part named ${IMAGE_FIELD}: curl -F ${IMAGE_FIELD}=@vmlinux.`);
  }
}

function takeField(part: Exclude<Multipart, MultipartFile>, parameters: ParameterCollector): void {
  const name = part.fieldname;
  if (name === IMAGE_FIELD) {
    throw new Problem(
      'no-image',
      `The field ${IMAGE_FIELD} is text, not a file. Send it as a file part: curl -F ${IMAGE_FIELD}=@vmlinux (with @, not <).`,
    );
  }
  if (!parameters.has(name))
    throw new Problem('field-unknown', `The form has the field ${quoteName(name)}, which is not known.`);
  if (part.valueTruncated) {
    throw new Problem('parameter-invalid', `${name} is longer than the ${MAX_FIELD_BYTES} bytes a parameter may have.`);
  }
  parameters.add(name, part.value);
}

function checkFile(part: MultipartFile, received: boolean): void {
  if (part.fieldname !== IMAGE_FIELD) {
    throw new Problem(
      'field-unknown',
      `The form has a file in the field ${quoteName(part.fieldname)}. Name it ${IMAGE_FIELD}: curl -F ${IMAGE_FIELD}=@vmlinux.`,
    );
  }
  if (received) throw new Problem('image-repeated', `The form has more than one file part named ${IMAGE_FIELD}.`);
}

const quoteName = (name: string): string => JSON.stringify(name.slice(0, 40));

function append(sink: ImageSink, chunk: Uint8Array, { maxImageBytes }: UploadOptions): void | Promise<void> {
  if (sink.size + chunk.length > maxImageBytes) throw tooLarge(maxImageBytes, 'The image is longer');
  return sink.append(chunk);
}

function tooLarge(maxImageBytes: number, what: string): Problem {
  return new Problem(
    'image-too-large',
    `${what}; this service takes images of at most ${maxImageBytes} bytes (BSDSYMS_MAX_IMAGE_BYTES). ` +
      'Debug information is not needed here: objcopy --strip-debug keeps the symbol table.',
  );
}

/**
 * Hands every chunk of a stream over as it is, and waits for `take` where it returns a promise.
 * An async iterator would copy chunks that arrive faster than it asks, and destroy the connection when left early.
 */
function consume(stream: Readable, take: (chunk: Buffer) => void | Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown): void => {
      stream.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
      // A late error of an abandoned stream has been dealt with.
      stream.on('error', () => {});
      if (error === undefined) resolve();
      else {
        stream.pause();
        reject(error);
      }
    };
    const onEnd = (): void => settle();
    const onError = (error: unknown): void => settle(toUploadProblem(error, stream));
    const onClose = (): void => settle(new Problem('client-gone', 'The connection was closed.'));
    const onData = (chunk: Buffer): void => {
      try {
        const taken = take(chunk);
        if (taken === undefined) return;
        stream.pause();
        taken.then(() => stream.resume(), settle);
      } catch (error) {
        settle(error);
      }
    };
    stream.on('end', onEnd).on('error', onError).on('close', onClose).on('data', onData);
  });
}

/** What a stream or the form parser fails with is the request's fault: it was cut off, or is no form. */
function toUploadProblem(error: unknown, stream: Readable): unknown {
  if (error instanceof Problem) return error;
  if (!(error instanceof Error)) return error;
  const code = 'code' in error ? error.code : undefined;
  if (code === 'ECONNRESET' || code === 'FST_MP_PREMATURE_CLOSE' || stream.destroyed) {
    return new Problem('client-gone', 'The connection was closed.', { cause: error });
  }
  if (typeof code === 'string' && code.startsWith('FST_')) return error;
  return new Problem('multipart-malformed', `The form cannot be parsed: ${error.message}.`, { cause: error });
}

/**
 * Lets the rest of a refused body run dry. Closing the connection instead would make most clients report a reset and
 * never show the answer; the time for a whole request bounds it.
 */
function drain(body: IncomingMessage): void {
  body.unpipe();
  body.resume();
}
