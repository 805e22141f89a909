/** Sends planned bytes. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ImageSource } from '../inspect/image-source.ts';
import { gatherExtents, MAX_GATHERED_EXTENTS, streamExtents } from '../inspect/stream-extents.ts';
import type { Extent } from '../xen/plan.ts';
import { wantsSha256 } from './negotiation.ts';

export const OCTETS = 'application/octet-stream';

/** Up to this size the bytes are sent in one piece: copying them is cheaper than a stream. */
const MAX_GATHERED_BYTES = 128 * 1024;

/** At most this plus twice the image is hashed: a few kilobytes can stand for gigabytes of zeros. */
const MAX_HASHED_BYTES = 64 * 1024 * 1024;

/**
 * Answers with the `size` bytes that the extents stand for, and with their digest when the request asks for it. A request
 * only states a preference (RFC 9530, section 4), so an answer that is many times as long as its image has no digest.
 */
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
  if (wantsSha256(request) && size <= MAX_HASHED_BYTES + 2 * source.size) {
    reply.header('Repr-Digest', `sha-256=:${await hashExtents(source, extents)}:`);
  }
  if (size > MAX_GATHERED_BYTES || extents.length > MAX_GATHERED_EXTENTS) {
    return reply.send(Readable.from(streamExtents(source, extents), { objectMode: false }));
  }
  const { buffer, byteOffset, byteLength } = await gatherExtents(source, extents);
  return reply.send(Buffer.from(buffer, byteOffset, byteLength));
}

/** @returns the SHA-256 of the bytes in base64 */
async function hashExtents(source: ImageSource, extents: readonly Extent[]): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of streamExtents(source, extents)) hash.update(piece);
  return hash.digest('base64');
}
