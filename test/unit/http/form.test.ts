import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type FormPart, readForm } from '../../../src/http/form.ts';
import { Problem } from '../../../src/http/problem.ts';

const BOUNDARY = 'b';
const FIELD = 'Content-Disposition: form-data; name="address"';
const MAX_FIELDS = 132;
const MAX_PARTS = MAX_FIELDS + 2;

/** A form whose parts have these header lines each. */
const formOf = (parts: readonly string[]): Buffer =>
  Buffer.from(`${parts.map((lines) => `--${BOUNDARY}\r\n${lines}\r\n\r\nx\r\n`).join('')}--${BOUNDARY}--\r\n`);

/** The parts of a form, and what it fails with. */
async function read(parts: readonly string[]): Promise<{ count: number; failure: unknown }> {
  const body = Readable.from([formOf(parts)], { objectMode: false });
  const received: FormPart[] = [];
  try {
    for await (const part of readForm(body, `multipart/form-data; boundary=${BOUNDARY}`)) received.push(part);
    return { count: received.length, failure: null };
  } catch (error) {
    return { count: received.length, failure: error instanceof Problem ? [error.code, error.message] : error };
  }
}

const repeated = (lines: string, count: number): string[] => Array.from({ length: count }, () => lines);

const crowded = (count: number): string => [...repeated('X: 1', count - 1), FIELD].join('\r\n');

describe('a form', () => {
  test('has as many fields as all parameters can be given, and no more', async () => {
    expect(await read(repeated(FIELD, MAX_FIELDS))).toEqual({ count: MAX_FIELDS, failure: null });
    expect(await read(repeated(FIELD, MAX_FIELDS + 1))).toEqual({
      count: MAX_FIELDS,
      failure: ['multipart-malformed', 'The form has too many fields.'],
    });
  });

  test('has no more parts than that, even if they are none of its own', async () => {
    const other = 'Content-Type: text/plain';
    expect(await read(repeated(other, MAX_PARTS))).toEqual({ count: 0, failure: null });
    expect(await read(repeated(other, MAX_PARTS + 1))).toEqual({
      count: 0,
      failure: ['multipart-malformed', 'The form has too many parts.'],
    });
  });

  test('has parts of as many header fields as any has; what follows is not read', async () => {
    expect(await read([crowded(32)])).toEqual({ count: 1, failure: null });
    expect(await read([crowded(33)])).toEqual({ count: 0, failure: null });
  });
});
