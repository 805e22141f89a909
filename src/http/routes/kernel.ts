/** `POST /kernel` and `POST /image`: what Xen makes of a kernel, and how it lies in memory. */
import type { FastifyInstance } from 'fastify';
import { hex } from '../../elf/hex.ts';
import { flattenImage, inspectKernel } from '../../inspect/load.ts';
import { FLAT_PARAMETERS, KERNEL_PARAMETERS } from '../../parameters.ts';
import { toFlatLayout, toKernelReport } from '../../report/kernel.ts';
import { DEFAULT_LOADER } from '../../xen/loaders/bsdsyms.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import { binary, flatLayoutResponse, JSON_TYPE, kernelReportResponse } from '../schemas.ts';
import { noteBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

const header = (description: string) => ({ type: 'string', description });

export function kernelRoutes(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  uploadRoute(app, services, {
    url: '/kernel',
    operationId: 'kernel',
    summary: 'What Xen makes of a kernel',
    description:
      'Segments, notes, and whether Xen would start the kernel as a PV or as an HVM (PVH) guest. For every image that ' +
      'passes init, with or without symbols; a recorded reason is reported, not refused.',
    parameters: KERNEL_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    ok: { description: 'The report.', content: { [JSON_TYPE]: { schema: kernelReportResponse } } },
    async handle({ request, source, compression }) {
      const result = await inspectKernel(source);
      metrics.image(result.image, compression);
      if (result.ok) return toKernelReport(result, compression);
      throw noteBroken(request, metrics, result.broken, result.image, { loader: DEFAULT_LOADER, loadAddress: null });
    },
  });

  uploadRoute(app, services, {
    url: '/image',
    operationId: 'image',
    summary: 'The kernel as it lies in guest memory',
    description:
      'Loadable segments and, when wanted, symbols, from the lowest to the highest guest-physical address, with zeros ' +
      'in between. With Accept: application/json the extents it consists of.',
    parameters: FLAT_PARAMETERS,
    mediaTypes: [OCTETS, JSON_TYPE],
    ok: {
      description: 'The flat image, or its extents.',
      headers: {
        'Bsdsyms-Kernel-Pstart': header('Where the image begins in guest memory. Only with the bytes.'),
        'Bsdsyms-Kernel-Pend': header('Where it ends. Only with the bytes.'),
        'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with the bytes and onBroken=load.'),
        'Repr-Digest': header(
          'sha-256 of the bytes, when Want-Repr-Digest asked for it (RFC 9530). Left out when they are more than 64 MiB ' +
            'plus twice the image.',
        ),
      },
      content: { [OCTETS]: { schema: binary }, [JSON_TYPE]: { schema: flatLayoutResponse } },
    },
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const { maxBlobBytes, maxFlatBytes } = config;
      const wanted = { ...parameters, maxBlobBytes, maxFlatBytes };
      const result = await flattenImage(source, wanted);
      metrics.image(result.image, compression);
      if (!result.ok) throw noteBroken(request, metrics, result.broken, result.image, { ...wanted, ...result });
      if (result.broken !== null) {
        const placement = { ...wanted, loadAddress: result.kernel.pend };
        noteBroken(request, metrics, result.broken, result.image, placement);
      }
      if (mediaType === JSON_TYPE) return toFlatLayout(result, compression);
      const { plan, broken } = result;
      reply.headers({ 'Bsdsyms-Kernel-Pstart': hex(plan.pstart), 'Bsdsyms-Kernel-Pend': hex(plan.pend) });
      if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
      return sendExtents(request, reply, source, plan, 'kernel.bin');
    },
  });
}
