/** `POST /kernel` and `POST /image`: what Xen makes of a kernel, and how it lies in memory. */
import type { FastifyInstance } from 'fastify';
import { flattenImage, inspectKernel } from '../../load.ts';
import { hex } from '../../report/hex.ts';
import { toFlatLayout, toKernelReport } from '../../report/kernel.ts';
import { DEFAULT_LOADER } from '../../xen/bsdsyms.ts';
import { OCTETS, sendExtents } from '../blob.ts';
import {
  binary,
  FlatParameters,
  flatLayoutResponse,
  JSON_TYPE,
  KernelParameters,
  kernelReportResponse,
  toLoader,
  toSymbolsChoice,
} from '../schemas.ts';
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
    parameters: KernelParameters,
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
    parameters: FlatParameters,
    mediaTypes: [OCTETS, JSON_TYPE],
    ok: {
      description: 'The flat image, or its extents.',
      headers: {
        'Bsdsyms-Kernel-Pstart': header('Where the image begins in guest memory. Only with the bytes.'),
        'Bsdsyms-Kernel-Pend': header('Where it ends. Only with the bytes.'),
        'Bsdsyms-Broken': header('The code of what is wrong with the image. Only with the bytes and onBroken=load.'),
        'Repr-Digest': header('sha-256 of the bytes, when Want-Repr-Digest asked for it (RFC 9530).'),
      },
      content: { [OCTETS]: { schema: binary }, [JSON_TYPE]: { schema: flatLayoutResponse } },
    },
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const loader = toLoader(parameters.get('loader'));
      const result = await flattenImage(source, {
        loader,
        symbols: toSymbolsChoice(parameters.get('symbols')),
        maxBlobBytes: config.maxBlobBytes,
        maxFlatBytes: config.maxFlatBytes,
      });
      metrics.image(result.image, compression);
      if (!result.ok) throw noteBroken(request, metrics, result.broken, result.image, { ...result, loader });
      if (result.broken !== null) {
        const placement = { loader, loadAddress: result.kernel.pend };
        const problem = noteBroken(request, metrics, result.broken, result.image, placement);
        if (parameters.get('onBroken') !== 'load') throw problem;
      }
      if (mediaType === JSON_TYPE) return toFlatLayout(result, compression);
      const { plan, broken } = result;
      reply.headers({ 'Bsdsyms-Kernel-Pstart': hex(plan.pstart), 'Bsdsyms-Kernel-Pend': hex(plan.pend) });
      if (broken !== null) reply.header('Bsdsyms-Broken', broken.code);
      return sendExtents(request, reply, source, plan, 'kernel.bin');
    },
  });
}
