/** `POST /check`: one verdict on a kernel, for a build. */
import type { FastifyInstance } from 'fastify';
import { checkImage } from '../../inspect/check.ts';
import { CHECK_PARAMETERS } from '../../parameters.ts';
import { summarizeCheck, toCheckReport, toFailedCheck, writeCheckText, writeJunit } from '../../report/check.ts';
import { JSON_TYPE, XML_TYPE } from '../negotiation.ts';
import { PROBLEM_MEDIA_TYPE, Problem, prepareProblem, TEXT_TYPE, writeProblemLine } from '../problem.ts';
import { reportBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

export function checkRoute(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  uploadRoute(app, services, {
    url: '/check',
    parameters: CHECK_PARAMETERS,
    mediaTypes: [JSON_TYPE, 'text/plain', XML_TYPE],
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const checked = await checkImage(source, { ...parameters, maxBlobBytes: config.maxBlobBytes });
      metrics.image(checked.image, compression);
      if (!checked.ok)
        throw reportBroken(request, metrics, checked.broken, checked.image, { ...parameters, ...checked });
      const { broken, image, kernel, plan, met } = checked;
      if (broken !== null) {
        const loadAddress = parameters.loadAddress ?? kernel.pend;
        reportBroken(request, metrics, broken, image, { ...parameters, loadAddress });
      }
      if (plan !== null) metrics.blob(plan.size);
      metrics.checked(checked.requirements);
      const problem = met ? null : new Problem('check-failed', summarizeCheck(checked));
      if (problem !== null) {
        prepareProblem(problem, request, reply);
        // Otherwise a later 304 would hide that the check failed.
        reply.removeHeader('etag');
      }
      switch (mediaType) {
        case XML_TYPE:
          return reply.type('application/xml; charset=utf-8').send(Buffer.from(writeJunit(checked)));
        case 'text/plain': {
          const line = problem === null ? '' : writeProblemLine(problem, request.id);
          return reply.type(TEXT_TYPE).send(`${writeCheckText(checked)}${line}`);
        }
        case JSON_TYPE: {
          if (problem === null) return toCheckReport(checked, compression);
          const document = { ...toFailedCheck(checked, compression), instance: request.id };
          // As bytes, as every problem.
          return reply.type(PROBLEM_MEDIA_TYPE).send(Buffer.from(JSON.stringify(document)));
        }
      }
    },
  });
}
