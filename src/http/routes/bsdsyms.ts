/** `POST /bsdsyms` and `POST /layout`: an image in, its symbol blob, or its layout as JSON or as a picture out. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { hex } from '../../elf/hex.ts';
import { type LoadedImage, loadImage } from '../../inspect/load.ts';
import { LAYOUT_PARAMETERS, LOAD_PARAMETERS } from '../../parameters.ts';
import { toLayout } from '../../report/layout.ts';
import { toPicture } from '../../report/picture/picture.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import { JSON_TYPE, SVG_TYPE } from '../negotiation.ts';
import { type Received, reportBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

export function bsdsymsRoutes(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  /** @throws Problem for an image that is refused */
  async function load(
    received: Received<string, typeof LOAD_PARAMETERS | typeof LAYOUT_PARAMETERS>,
  ): Promise<LoadedImage> {
    const { request, parameters, source, compression, mediaType } = received;
    // Only the JSON has verdicts of guests; blobs and pictures do not wait for them.
    const wanted = { ...parameters, maxBlobBytes: config.maxBlobBytes, askGuests: mediaType === JSON_TYPE };
    const result = await loadImage(source, wanted);
    metrics.image(result.image, compression);
    if (!result.ok) throw reportBroken(request, metrics, result.broken, result.image, { ...wanted, ...result });
    if (result.broken !== null) reportBroken(request, metrics, result.broken, result.image, result.plan);
    metrics.blob(result.plan.size);
    return result;
  }

  uploadRoute(app, services, {
    url: '/bsdsyms',
    parameters: LOAD_PARAMETERS,
    mediaTypes: [OCTETS, JSON_TYPE, SVG_TYPE],
    async handle(received) {
      const loaded = await load(received);
      if (received.mediaType === JSON_TYPE) return toLayout(loaded, received.compression);
      if (received.mediaType === SVG_TYPE) return answerPicture(received.reply, loaded);
      const { request, reply, source } = received;
      describeInHeaders(reply, loaded);
      return sendExtents(request, reply, source, loaded.plan, 'bsdsyms.bin');
    },
  });

  uploadRoute(app, services, {
    url: '/layout',
    parameters: LAYOUT_PARAMETERS,
    mediaTypes: [JSON_TYPE, SVG_TYPE],
    // For people who type curl: it has JSON for everybody else.
    otherwise: JSON_TYPE,
    async handle(received) {
      const loaded = await load(received);
      if (received.mediaType === SVG_TYPE) return answerPicture(received.reply, loaded);
      return toLayout(loaded, received.compression);
    },
  });
}

/** What programs need to know of an answer that is not JSON. */
function describeInHeaders(reply: FastifyReply, { plan, broken, warnings }: LoadedImage): void {
  reply.headers({ 'Bsdsyms-Pstart': hex(plan.pstart), 'Bsdsyms-Pend': hex(plan.pend) });
  if (warnings.length > 0) reply.header('Bsdsyms-Warnings', warnings.map(({ code }) => code).join(', '));
  if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
}

/** A picture is a document of this origin when a browser opens it by its URL. It needs nothing but its own style sheet. */
const PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

async function answerPicture(reply: FastifyReply, loaded: LoadedImage): Promise<string> {
  const picture = await toPicture(loaded);
  describeInHeaders(reply, loaded);
  reply.type(SVG_TYPE).header('Content-Security-Policy', PICTURE_POLICY);
  return picture;
}
