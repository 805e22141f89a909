/** `GET /problems` and `GET /problems/{code}`: what the codes mean, as text for people or as JSON. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  CHECK_PARAMETERS,
  FLAT_PARAMETERS,
  LAYOUT_PARAMETERS,
  LOAD_PARAMETERS,
  type Parameters,
  REFERENCE_PARAMETERS,
  SYMBOL_PARAMETERS,
  VERIFY_PARAMETERS,
} from '../../parameters.ts';
import { BROKEN_KINDS } from '../../xen/broken.ts';
import { JSON_TYPE, prefersJson } from '../negotiation.ts';
import { PROBLEM_KINDS, Problem, type ProblemCode, TEXT_TYPE } from '../problem.ts';

/** The parameters of each route, which the codes about parameters explain. */
const PARAMETERS_BY_ROUTE: Readonly<Record<string, Parameters>> = {
  '/bsdsyms': { ...LOAD_PARAMETERS, ...REFERENCE_PARAMETERS },
  '/layout': { ...LAYOUT_PARAMETERS, ...REFERENCE_PARAMETERS },
  '/kernel': REFERENCE_PARAMETERS,
  '/check': { ...CHECK_PARAMETERS, ...REFERENCE_PARAMETERS },
  '/image': { ...FLAT_PARAMETERS, ...REFERENCE_PARAMETERS },
  '/symbols': { ...SYMBOL_PARAMETERS, ...REFERENCE_PARAMETERS },
  '/verify': VERIFY_PARAMETERS,
};

/** What a code stands for, as JSON. */
interface Explanation {
  readonly code: ProblemCode;
  readonly status: number;
  readonly title: string;
  /** Xen's own words. */
  readonly reason: string | null;
  readonly explanation: string;
  /** Of codes about parameters: what each means, by route. */
  readonly parameters?: readonly ParameterMeaning[];
}

interface ParameterMeaning {
  readonly route: string;
  readonly name: string;
  readonly meaning: string;
  /** Those that are accepted; null where the meaning says it. */
  readonly values: readonly string[] | null;
  /** Null where the meaning says it, or there is none. */
  readonly default: string | null;
  readonly repeatable: boolean;
}

/** A document in both representations, made once, as bytes that all answers share. */
interface Page {
  readonly text: Buffer;
  readonly json: Buffer;
}

const page = (plain: string, document: unknown): Page => ({
  text: Buffer.from(plain),
  json: Buffer.from(JSON.stringify(document)),
});

export function problemRoutes(app: FastifyInstance): void {
  const codes = Object.keys(PROBLEM_KINDS) as ProblemCode[];
  const list = page(listProblems(), { problems: codes.map((code) => ({ code, ...summary(code) })) });
  const pages = new Map<string, Page>(
    codes.map((code) => {
      const explanation = explain(code);
      return [code, page(writeExplanation(explanation), explanation)];
    }),
  );

  const answer = (request: FastifyRequest, reply: FastifyReply, { json, text }: Page): FastifyReply => {
    const isJson = prefersJson(request);
    return reply.type(isJson ? JSON_TYPE : TEXT_TYPE).send(isJson ? json : text);
  };

  app.get('/problems', (request, reply) => answer(request, reply, list));

  app.get<{ Params: { code: string } }>('/problems/:code', (request, reply) => {
    const explanation = pages.get(request.params.code);
    if (explanation === undefined) throw new Problem('not-found', 'There is no such code. GET /problems lists all.');
    return answer(request, reply, explanation);
  });
}

const summary = (code: ProblemCode) => ({ status: PROBLEM_KINDS[code].status, title: PROBLEM_KINDS[code].title });

function listProblems(): string {
  const lines = Object.entries(PROBLEM_KINDS).map(([code, { status, title }]) => `${status}  ${code}: ${title}`);
  return `${lines.sort().join('\n')}\n\nGET /problems/{code} explains one.\n`;
}

function explain(code: ProblemCode): Explanation {
  const reason = code in BROKEN_KINDS ? BROKEN_KINDS[code as keyof typeof BROKEN_KINDS].reason : null;
  const explanation = { code, ...summary(code), reason, explanation: PROBLEM_KINDS[code].explanation };
  return code.startsWith('parameter-') ? { ...explanation, parameters: listParameters() } : explanation;
}

const listParameters = (): ParameterMeaning[] =>
  Object.entries(PARAMETERS_BY_ROUTE).flatMap(([route, parameters]) =>
    Object.entries(parameters).map(([name, { schema, maxValues }]) => ({
      route,
      name,
      meaning: schema.description,
      values: schema.enum ?? null,
      default: schema.default ?? null,
      repeatable: maxValues !== undefined,
    })),
  );

function writeExplanation({ code, status, title, reason, explanation, parameters = [] }: Explanation): string {
  const words = reason === null ? '' : `In Xen's words: ${reason}\n\n`;
  const meanings = parameters.map(
    ({ route, name, meaning, values }) =>
      `${route} ${name}: ${meaning}${values === null ? '' : ` Values: ${values.join(', ')}.`}\n`,
  );
  const details = meanings.length === 0 ? '' : `\n${meanings.join('')}`;
  return `${code} (HTTP status ${status})\n${title}\n\n${words}${explanation}\n${details}`;
}
