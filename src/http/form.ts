/** The parts of a form (RFC 7578) as they arrive, one at a time. */
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { Busboy } from '@fastify/busboy';
import { MAX_REPEATS } from '../parameters.ts';
import { Problem } from './problem.ts';

/** A parameter is a few words, or a URL. */
export const MAX_FIELD_BYTES = 8192;
/** Enough for every parameter of a route, one of them repeated. */
const MAX_FIELDS = MAX_REPEATS + 32;
/** One more than a form may have, so that the refusal can name the second one. */
const MAX_FILES = 2;
const LIMITS = {
  fileSize: Number.POSITIVE_INFINITY,
  fieldSize: MAX_FIELD_BYTES,
  fields: MAX_FIELDS,
  files: MAX_FILES,
  parts: MAX_FIELDS + MAX_FILES,
  headerPairs: 32,
};

/** A part of a form. The parser lets parts without a name through. */
export type FormPart =
  | {
      readonly type: 'field';
      readonly name: string | undefined;
      readonly value: string;
      /** Whether the field is longer than `MAX_FIELD_BYTES`; `value` is then its start. */
      readonly truncated: boolean;
    }
  | { readonly type: 'file'; readonly name: string | undefined; readonly file: Readable };

/**
 * Reads a form. After a part with a file, the next one comes when that file was read to its end.
 *
 * @param body the form, its content codings undone
 * @param contentType that of the request, with the boundary
 * @throws Problem when the form has too many parts
 * @throws Error of the parser when the body is not a form, and of the body when it breaks off
 */
export async function* readForm(body: Readable, contentType: string): AsyncGenerator<FormPart, void> {
  const parser = new Busboy({ headers: { 'content-type': contentType }, limits: LIMITS });
  const parts: FormPart[] = [];
  const state: { file: Readable | null; isEmpty: boolean; isOver: boolean; failure: Error | null } = {
    file: null,
    isEmpty: true,
    isOver: false,
    failure: null,
  };
  const finish = (): void => {
    state.isOver = true;
    parser.emit('part');
  };
  const fail = (error: Error): void => {
    state.failure ??= error;
    // The reader of the file fails with it, too.
    state.file?.destroy(error);
    finish();
  };
  const add = (part: FormPart): void => {
    parts.push(part);
    parser.emit('part');
  };
  const onData = (): void => {
    state.isEmpty = false;
  };
  const onClose = (): void => {
    if (!body.readableEnded) {
      fail(Object.assign(new Error('closed before its end'), { code: 'ERR_STREAM_PREMATURE_CLOSE' }));
    }
  };
  parser
    .on('field', (name: string | undefined, value, _nameTruncated, truncated) =>
      add({ type: 'field', name, value, truncated }),
    )
    .on('file', (name: string | undefined, stream) => {
      state.file = stream;
      stream.on('error', fail);
      add({ type: 'file', name, file: stream });
    })
    .on('partsLimit', () => fail(tooMany('parts')))
    .on('fieldsLimit', () => fail(tooMany('fields')))
    .on('filesLimit', () => fail(new Problem('image-repeated', 'The form has more than one file.')))
    .on('finish', finish)
    // A body without a byte is a form without parts.
    .on('error', (error) => (state.isEmpty ? finish() : fail(toError(error))));
  body.once('data', onData).on('error', fail).on('close', onClose).pipe(parser);
  try {
    for (;;) {
      const part = parts.shift();
      if (part !== undefined) yield part;
      else if (state.failure !== null) throw state.failure;
      else if (state.isOver) return;
      else await once(parser, 'part');
    }
  } finally {
    body.unpipe(parser);
    body.off('data', onData).off('error', fail).off('close', onClose);
  }
}

const toError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

const tooMany = (what: string): Problem => new Problem('multipart-malformed', `The form has too many ${what}.`);
