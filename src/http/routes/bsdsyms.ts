/** `POST /bsdsyms` and `POST /layout`: an image in, its symbol blob or the layout of it out. */
import type { FastifyInstance } from 'fastify';
import { hex } from '../../elf/hex.ts';
import { type LoadedImage, loadImage } from '../../inspect/load.ts';
import { LAYOUT_PARAMETERS, LOAD_PARAMETERS } from '../../parameters.ts';
import { toLayout } from '../../report/layout.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import { JSON_TYPE } from '../negotiation.ts';
import { noteBroken, type Received, type UploadServices, uploadRoute } from '../upload-route.ts';

export function symbolRoutes(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  /** @throws Problem for an image that is refused */
  async function load(
    received: Received<string, typeof LOAD_PARAMETERS | typeof LAYOUT_PARAMETERS>,
  ): Promise<LoadedImage> {
    const { request, parameters, source, compression, mediaType } = received;
    // Only the layout has verdicts of guests; a blob does not wait for them.
    const wanted = { ...parameters, maxBlobBytes: config.maxBlobBytes, askGuests: mediaType === JSON_TYPE };
    const result = await loadImage(source, wanted);
    metrics.image(result.image, compression);
    if (!result.ok) throw noteBroken(request, metrics, result.broken, result.image, { ...wanted, ...result });
    if (result.broken !== null) noteBroken(request, metrics, result.broken, result.image, result.plan);
    metrics.blob(result.plan.size);
    return result;
  }

  uploadRoute(app, services, {
    url: '/bsdsyms',
    parameters: LOAD_PARAMETERS,
    mediaTypes: [OCTETS, JSON_TYPE],
    async handle(received) {
      const loaded = await load(received);
      if (received.mediaType === JSON_TYPE) return toLayout(loaded, received.compression);
      const { plan, broken, warnings } = loaded;
      const { request, reply, source } = received;
      reply.headers({ 'Bsdsyms-Pstart': hex(plan.pstart), 'Bsdsyms-Pend': hex(plan.pend) });
      if (warnings.length > 0) reply.header('Bsdsyms-Warnings', warnings.map(({ code }) => code).join(', '));
      if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
      return sendExtents(request, reply, source, plan, 'bsdsyms.bin');
    },
  });

  uploadRoute(app, services, {
    url: '/layout',
    parameters: LAYOUT_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    handle: async (received) => toLayout(await load(received), received.compression),
  });
}
