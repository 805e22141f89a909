/** `GET /problems` and `GET /problems/{code}`: what the codes mean, as text for people. */
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { BROKEN_KINDS } from '../../xen/broken.ts';
import { PROBLEM_KINDS, Problem, type ProblemCode } from '../problem.ts';
import { problemResponse } from '../schemas.ts';

const TEXT = 'text/plain; charset=utf-8';
const text = { description: 'Text for people.', content: { 'text/plain': { schema: Type.String() } } };

export function problemRoutes(app: FastifyInstance): void {
  // Made once, as bytes that all answers share.
  const codes = Object.keys(PROBLEM_KINDS) as ProblemCode[];
  const list = Buffer.from(listProblems());
  const explanations = new Map<string, Buffer>(codes.map((code) => [code, Buffer.from(explainProblem(code))]));

  app.get(
    '/problems',
    {
      schema: {
        operationId: 'problems',
        summary: 'All codes that a problem can carry',
        tags: ['problems'],
        response: { 200: text },
      },
    },
    (_request, reply) => reply.type(TEXT).send(list),
  );

  app.get<{ Params: { code: string } }>(
    '/problems/:code',
    {
      schema: {
        operationId: 'problem',
        summary: 'What one code means and what to do about it',
        tags: ['problems'],
        params: Type.Object({ code: Type.String({ description: 'As in a problem.' }) }),
        response: { 200: text, 404: problemResponse('There is no such code.') },
      },
    },
    (request, reply) => {
      const explanation = explanations.get(request.params.code);
      if (explanation === undefined) throw new Problem('not-found', 'There is no such code. GET /problems lists all.');
      return reply.type(TEXT).send(explanation);
    },
  );
}

function listProblems(): string {
  const lines = Object.entries(PROBLEM_KINDS).map(([code, { status, title }]) => `${status}  ${code}: ${title}`);
  return `${lines.sort().join('\n')}\n\nGET /problems/{code} explains one.\n`;
}

function explainProblem(code: ProblemCode): string {
  const { status, title, explanation } = PROBLEM_KINDS[code];
  const reason = code in BROKEN_KINDS ? BROKEN_KINDS[code as keyof typeof BROKEN_KINDS].reason : null;
  const words = reason === null ? '' : `In Xen's words: ${reason}\n\n`;
  return `${code} (HTTP status ${status})\n${title}\n\n${words}${explanation}\n`;
}
