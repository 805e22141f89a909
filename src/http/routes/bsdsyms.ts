/** `POST /bsdsyms` and `POST /layout`: an image in, its symbol blob or the layout of it out. */
import type { FastifyInstance } from 'fastify';
import { hex } from '../../elf/hex.ts';
import { type LoadedImage, loadImage } from '../../inspect/load.ts';
import { LAYOUT_PARAMETERS, LOAD_PARAMETERS } from '../../parameters.ts';
import { toLayout } from '../../report/layout.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import { binary, JSON_TYPE, layoutResponse } from '../schemas.ts';
import { noteBroken, type Received, type UploadServices, uploadRoute } from '../upload-route.ts';

const header = (description: string) => ({ type: 'string', description });

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
    operationId: 'bsdsyms',
    summary: 'The symbol blob of an image, or its layout',
    description:
      'Runs parse and load on the image and answers with the bytes that Xen would place after the kernel, or, with ' +
      'Accept: application/json, with where they lie, what they consist of and what guests make of them.',
    parameters: LOAD_PARAMETERS,
    mediaTypes: [OCTETS, JSON_TYPE],
    ok: {
      description: 'The blob, or its layout.',
      headers: {
        'Bsdsyms-Pstart': header('Where the blob begins, in lower-case hex. Only with the blob.'),
        'Bsdsyms-Pend': header('Where it ends. Only with the blob.'),
        'Bsdsyms-Warnings': header('Codes, comma-separated. Only with the blob, absent when there are none.'),
        'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with the blob and onBroken=load.'),
        'Repr-Digest': header(
          'sha-256 of the blob, when Want-Repr-Digest asked for it (RFC 9530). Left out when the blob is larger than ' +
            '64 MiB plus twice the image, which only damaged images cause.',
        ),
      },
      content: { [OCTETS]: { schema: binary }, [JSON_TYPE]: { schema: layoutResponse } },
    },
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
    operationId: 'layout',
    summary: 'The layout of the symbols of an image',
    description:
      'The same as POST /bsdsyms with Accept: application/json, whatever the Accept, and on demand compared with what ' +
      'another loader makes of the image. `guests` says what guests make of the blob.',
    parameters: LAYOUT_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    ok: { description: 'The layout.', content: { [JSON_TYPE]: { schema: layoutResponse } } },
    handle: async (received) => toLayout(await load(received), received.compression),
  });
}
