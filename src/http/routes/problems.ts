/** `GET /problems` and `GET /problems/{code}`: what the codes mean, as text for people. */
import type { FastifyInstance } from 'fastify';
import { BROKEN_KINDS } from '../../xen/broken.ts';
import { PROBLEM_KINDS, Problem, type ProblemCode } from '../problem.ts';

const TEXT = 'text/plain; charset=utf-8';

export function problemRoutes(app: FastifyInstance): void {
  // Made once, as bytes that all answers share.
  const codes = Object.keys(PROBLEM_KINDS) as ProblemCode[];
  const list = Buffer.from(listProblems());
  const explanations = new Map<string, Buffer>(codes.map((code) => [code, Buffer.from(explainProblem(code))]));

  app.get('/problems', (_request, reply) => reply.type(TEXT).send(list));

  app.get<{ Params: { code: string } }>('/problems/:code', (request, reply) => {
    const explanation = explanations.get(request.params.code);
    if (explanation === undefined) throw new Problem('not-found', 'There is no such code. GET /problems lists all.');
    return reply.type(TEXT).send(explanation);
  });
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
