/** `POST /kernel` and `POST /image`: what Xen makes of a kernel, and how it lies in memory. */
import type { FastifyInstance } from 'fastify';
import { hex } from '../../elf/hex.ts';
import { flattenImage, inspectKernel } from '../../inspect/load.ts';
import { FLAT_PARAMETERS, KERNEL_PARAMETERS } from '../../parameters.ts';
import { toFlatLayout, toKernelReport } from '../../report/kernel.ts';
import { DEFAULT_LOADER } from '../../xen/loaders/bsdsyms.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import { JSON_TYPE } from '../negotiation.ts';
import { reportBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

export function kernelRoutes(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  uploadRoute(app, services, {
    url: '/kernel',
    parameters: KERNEL_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    async handle({ request, source, compression }) {
      const result = await inspectKernel(source);
      metrics.image(result.image, compression);
      if (result.ok) return toKernelReport(result, compression);
      const placement = { loader: DEFAULT_LOADER, loadAddress: null };
      throw reportBroken(request, metrics, result.broken, result.image, placement, result.builder);
    },
  });

  uploadRoute(app, services, {
    url: '/image',
    parameters: FLAT_PARAMETERS,
    mediaTypes: [OCTETS, JSON_TYPE],
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const { maxBlobBytes, maxFlatBytes } = config;
      const wanted = { ...parameters, maxBlobBytes, maxFlatBytes };
      const result = await flattenImage(source, wanted);
      metrics.image(result.image, compression);
      if (!result.ok) throw reportBroken(request, metrics, result.broken, result.image, { ...wanted, ...result });
      if (result.broken !== null) {
        const placement = { ...wanted, loadAddress: result.kernel.pend };
        reportBroken(request, metrics, result.broken, result.image, placement);
      }
      if (mediaType === JSON_TYPE) return toFlatLayout(result, compression);
      const { plan, broken } = result;
      reply.headers({ 'Bsdsyms-Kernel-Pstart': hex(plan.pstart), 'Bsdsyms-Kernel-Pend': hex(plan.pend) });
      if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
      return sendExtents(request, reply, source, plan, 'kernel.bin');
    },
  });
}
