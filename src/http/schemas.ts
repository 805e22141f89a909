/** Parameters and answers of the routes, as openapi.yaml describes them. Loaded by `npm run openapi` alone. */
import { Type } from 'typebox';
import type { Parameter, Parameters } from '../parameters.ts';
import {
  AddressSchema,
  BrokenReason,
  Bsdsyms,
  BuilderReport,
  ComparisonSchema,
  component,
  enumeration,
  FlatLayout,
  Guest,
  GuestVerdictSchema,
  GuestVerdictsSchema,
  Image,
  Kernel,
  KernelReport,
  Layout,
  Nullable,
  ref,
  SymbolSchema,
  SymbolsReport,
  SymbolTableReport,
  VerifyReport,
  WarningSchema,
} from '../report/schemas.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE } from './problem.ts';

/** The parameters of a route as it documents them: in the query, or as fields of the form. */
export const parameterSchema = (parameters: Parameters): Type.TObject =>
  Type.Object(
    Object.fromEntries(
      Object.entries(parameters).map(([name, parameter]) => [name, Type.Optional(describeParameter(parameter))]),
    ),
    { additionalProperties: false },
  );

function describeParameter({ schema, maxValues }: Parameter): Type.TSchema {
  const one = { type: 'string', ...schema };
  if (maxValues === undefined) return Type.Unsafe<string>(one);
  const { description, ...item } = one;
  return Type.Array(Type.Unsafe<string>(item), { maxItems: maxValues, description });
}

export const ProblemSchema = component(
  'Problem',
  Type.Object(
    {
      type: Type.String({ description: 'URI reference of an explanation for people.' }),
      title: Type.String(),
      status: Type.Integer({ minimum: 400, maximum: 599 }),
      detail: Type.String({ description: 'What was found where, and what to do.' }),
      code: enumeration(Object.keys(PROBLEM_KINDS), { description: 'Stable; what callers match on.' }),
      instance: Type.String({ description: 'The request id.' }),
      reason: Type.Optional(Nullable(Type.String({ description: "Xen's own words, where it has some." }))),
      stage: Type.Optional(enumeration(['init', 'segments', 'notes', 'parse', 'load'])),
      image: Type.Optional(
        Type.Object({
          size: Type.Integer({ minimum: 0 }),
          class: Type.Optional(Type.String()),
          machine: Type.Optional(Type.String()),
        }),
      ),
    },
    { description: 'RFC 9457 problem details.' },
  ),
);

export const COMPONENTS = [
  Image,
  Kernel,
  Bsdsyms,
  BrokenReason,
  WarningSchema,
  ComparisonSchema,
  Layout,
  Guest,
  BuilderReport,
  KernelReport,
  FlatLayout,
  SymbolSchema,
  AddressSchema,
  SymbolTableReport,
  SymbolsReport,
  GuestVerdictSchema,
  GuestVerdictsSchema,
  VerifyReport,
  ProblemSchema,
];

export const layoutResponse = ref(Layout);
export const kernelReportResponse = ref(KernelReport);
export const flatLayoutResponse = ref(FlatLayout);
export const symbolsResponse = ref(SymbolsReport);
export const verifyResponse = ref(VerifyReport);
export const binary = Type.Unsafe<string>({ type: 'string', format: 'binary' });

/** An answer in problem details, or on one line of plain text. */
export const problemResponse = (description: string) => ({
  description,
  content: {
    [PROBLEM_MEDIA_TYPE]: { schema: ref(ProblemSchema) },
    'text/plain': { schema: Type.String({ description: '`code: detail`' }) },
  },
});
