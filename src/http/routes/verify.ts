/** `POST /verify`: a blob in, what guests make of it out. */
import type { FastifyInstance } from 'fastify';
import { findBlobRejection } from '../../inspect/recognise-elf.ts';
import { verifyBlob } from '../../inspect/verify.ts';
import { VERIFY_PARAMETERS } from '../../parameters.ts';
import { toVerifyReport } from '../../report/verify.ts';
import { Problem } from '../problem.ts';
import { JSON_TYPE, verifyResponse } from '../schemas.ts';
import { type UploadServices, uploadRoute } from '../upload-route.ts';

export function verifyRoute(app: FastifyInstance, services: UploadServices): void {
  uploadRoute(app, services, {
    url: '/verify',
    operationId: 'verify',
    summary: 'What guests make of a symbol blob',
    description:
      'Takes a symbol blob, or a dump of the memory that begins with one, and says for each guest whether it finds its ' +
      'symbols there, finds none, or reads outside of the bytes; why, how many, and what it misreads. A blob that no guest ' +
      'can use is an answer too, not a problem; an ELF image, which was sent to the wrong route, is a problem.',
    parameters: VERIFY_PARAMETERS,
    mediaTypes: [JSON_TYPE],
    unpack: false,
    ok: { description: 'The verdicts.', content: { [JSON_TYPE]: { schema: verifyResponse } } },
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
