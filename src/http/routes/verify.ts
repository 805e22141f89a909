/** `POST /verify`: a blob in, what guests make of it out. */
import type { FastifyInstance } from 'fastify';
import { findBlobRejection } from '../../inspect/recognise-elf.ts';
import { verifyBlob } from '../../inspect/verify.ts';
import { VERIFY_PARAMETERS } from '../../parameters.ts';
import { toVerifyReport } from '../../report/verify.ts';
import { JSON_TYPE } from '../negotiation.ts';
import { Problem } from '../problem.ts';
import { type UploadServices, uploadRoute } from '../upload-route.ts';

export function verifyRoute(app: FastifyInstance, services: UploadServices): void {
  uploadRoute(app, services, {
    url: '/verify',
    parameters: VERIFY_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    unpack: false,
    async handle({ source, parameters }) {
      if (source.size === 0) throw new Problem('no-image', 'The file is empty. Check the step that produced it.');
      const rejection = await findBlobRejection(source);
      if (rejection !== null) {
        services.metrics.refused('not-a-blob');
        throw new Problem('not-a-blob', rejection);
      }
      return toVerifyReport(await verifyBlob(source, parameters.address));
    },
  });
}
