/** Forms, as a client sends them. */

/** A part of a form: a text field, or a file. */
export type Part =
  | { readonly name: string; readonly value: string }
  | { readonly name: string; readonly data: Uint8Array; readonly filename?: string; readonly type?: string };

export interface Form {
  readonly body: Buffer;
  readonly contentType: string;
}

export const BOUNDARY = 'a-boundary-of-these-tests';

/** Writes a form, its parts in the order given. */
export function multipart(parts: readonly Part[], boundary = BOUNDARY): Form {
  const pieces = parts.flatMap((part) => [`--${boundary}\r\n`, ...partPieces(part), '\r\n']);
  const body = Buffer.concat([...pieces, `--${boundary}--\r\n`].map((piece) => Buffer.from(piece)));
  return { body, contentType: `multipart/form-data; boundary=${boundary}` };
}

/** The form of one image and perhaps some fields behind it. */
export const imageForm = (image: Uint8Array, fields: Readonly<Record<string, string>> = {}): Form =>
  multipart([imagePart(image), ...Object.entries(fields).map(([name, value]) => ({ name, value }))]);

export const imagePart = (image: Uint8Array): Part => ({ name: 'image', data: image, filename: 'kernel' });

function partPieces(part: Part): (string | Uint8Array)[] {
  const disposition = `Content-Disposition: form-data; name="${part.name}"`;
  if ('value' in part) return [`${disposition}\r\n\r\n`, part.value];
  const { data, filename = 'file', type = 'application/octet-stream' } = part;
  return [`${disposition}; filename="${filename}"\r\nContent-Type: ${type}\r\n\r\n`, data];
}
