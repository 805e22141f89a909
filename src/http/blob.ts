/** Sends planned bytes. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ImageSource } from '../inspect/image-source.ts';
import { streamExtents } from '../inspect/stream-extents.ts';
import type { Extent } from '../xen/plan.ts';
import { wantsSha256 } from './negotiation.ts';

export const OCTETS = 'application/octet-stream';

/** Up to this size it is sent in one piece: copying it is cheaper than a stream. */
const MAX_GATHERED_BYTES = 128 * 1024;

/** Answers with the `size` bytes that the extents stand for, and with their digest when that is asked for. */
export async function sendExtents(
  request: FastifyRequest,
  reply: FastifyReply,
  source: ImageSource,
  { extents, size }: { readonly extents: readonly Extent[]; readonly size: number },
  fileName: string,
): Promise<FastifyReply> {
  reply.type(OCTETS).headers({
    'Content-Length': size,
    'Content-Disposition': `attachment; filename="${fileName}"`,
  });
  if (wantsSha256(request)) {
    const hash = createHash('sha256');
    for await (const piece of streamExtents(source, extents)) hash.update(piece);
    reply.header('Repr-Digest', `sha-256=:${hash.digest('base64')}:`);
  }
  const pieces = streamExtents(source, extents);
  if (size > MAX_GATHERED_BYTES) return reply.send(Readable.from(pieces, { objectMode: false }));
  const gathered: Uint8Array[] = [];
  for await (const piece of pieces) gathered.push(piece);
  return reply.send(Buffer.concat(gathered));
}
