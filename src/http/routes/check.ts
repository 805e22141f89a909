/** `POST /check`: one verdict on a kernel, for a build. */
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { checkImage } from '../../inspect/check.ts';
import { CHECK_PARAMETERS } from '../../parameters.ts';
import { summarizeCheck, toCheckReport, toFailedCheck, writeCheckText, writeJunit } from '../../report/check.ts';
import { PROBLEM_MEDIA_TYPE, Problem, prepareProblem, TEXT_TYPE, writeProblemLine } from '../problem.ts';
import { checkResponse, failedCheckResponse, JSON_TYPE, problemResponse } from '../schemas.ts';
import { noteBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

const XML_TYPE = 'application/xml';
const TEXT = { schema: Type.String({ description: 'A line for each requirement and each warning.' }) };
const JUNIT = { schema: Type.String({ description: 'JUnit XML: a test case for each requirement.' }) };

export function checkRoute(app: FastifyInstance, services: UploadServices): void {
  const { config, metrics } = services;

  uploadRoute(app, services, {
    url: '/check',
    operationId: 'check',
    summary: 'One verdict on a kernel, for a build',
    description:
      'Holds the kernel against what is required of it: 200 when all of it is met, otherwise 422 with the code check-failed and ' +
      'the same report. With Accept: text/plain it is lines for a log, with application/xml JUnit XML, which CI systems show as ' +
      'tests. An image that cannot be read at all is a problem as on every route.',
    parameters: CHECK_PARAMETERS,
    mediaTypes: [JSON_TYPE, 'text/plain', XML_TYPE],
    ok: {
      description: 'All that is required is met.',
      content: { [JSON_TYPE]: { schema: checkResponse }, 'text/plain': TEXT, [XML_TYPE]: JUNIT },
    },
    refused: {
      description: 'Something that is required is not met, or the image is broken.',
      content: {
        ...problemResponse('').content,
        [PROBLEM_MEDIA_TYPE]: { schema: failedCheckResponse },
        'text/plain': TEXT,
        [XML_TYPE]: JUNIT,
      },
    },
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const checked = await checkImage(source, { ...parameters, maxBlobBytes: config.maxBlobBytes });
      metrics.image(checked.image, compression);
      if (!checked.ok) throw noteBroken(request, metrics, checked.broken, checked.image, { ...parameters, ...checked });
      const { broken, image, kernel, plan, met } = checked;
      if (broken !== null) {
        const loadAddress = parameters.loadAddress ?? kernel.pend;
        noteBroken(request, metrics, broken, image, { ...parameters, loadAddress });
      }
      if (plan !== null) metrics.blob(plan.size);
      metrics.checked(checked.requirements);
      const problem = met ? null : new Problem('check-failed', summarizeCheck(checked));
      if (problem !== null) {
        prepareProblem(problem, request, reply);
        // Otherwise a 304 could stand for a check that failed.
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
