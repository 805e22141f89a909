/** Parameters and answers of the routes, as openapi.yaml describes them. Loaded by `npm run openapi` alone. */
import { Type } from 'typebox';
import type { Parameter, Parameters } from '../parameters.ts';
import {
  AddressSchema,
  BrokenReason,
  Bsdsyms,
  BuilderReport,
  Bytes,
  CheckReport,
  ComparisonSchema,
  component,
  enumeration,
  FailedCheck,
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
import { LOADERS } from '../xen/loaders/bsdsyms.ts';
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

const ProblemSchema = component(
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
      builder: Type.Optional(ref(BuilderReport)),
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
  CheckReport,
  FailedCheck,
  ProblemSchema,
];

export const layoutResponse = ref(Layout);
export const kernelReportResponse = ref(KernelReport);
export const flatLayoutResponse = ref(FlatLayout);
export const symbolsResponse = ref(SymbolsReport);
export const verifyResponse = ref(VerifyReport);
export const checkResponse = ref(CheckReport);
/** A problem about the image, or a check that failed. */
export const failedCheckResponse = Type.Union([ref(ProblemSchema), ref(FailedCheck)]);
export const binary = Type.Unsafe<string>({ type: 'string', format: 'binary' });

const ProblemTitle = {
  code: enumeration(Object.keys(PROBLEM_KINDS), { description: 'Stable.' }),
  status: Type.Integer({ minimum: 400, maximum: 599 }),
  title: Type.String(),
};
export const problemListResponse = Type.Object({ problems: Type.Array(Type.Object(ProblemTitle)) });
export const explanationResponse = Type.Object({
  ...ProblemTitle,
  reason: Nullable(Type.String({ description: "Xen's own words, where it has some." })),
  explanation: Type.String({ description: 'What it means and what to do.' }),
  parameters: Type.Optional(
    Type.Array(
      Type.Object({
        route: Type.String(),
        name: Type.String(),
        meaning: Type.String(),
        values: Nullable(Type.Array(Type.String(), { description: 'Those that are accepted.' })),
        default: Nullable(Type.String()),
        repeatable: Type.Boolean(),
      }),
      { description: 'Of codes about parameters: what each parameter means.' },
    ),
  ),
});

export const indexResponse = Type.Object({
  name: Type.Literal('bsdsyms'),
  version: Type.String(),
  openapi: Type.String({ description: 'Where all routes are described.' }),
  routes: Type.Record(Type.String(), Type.String(), { description: 'What each path answers with.' }),
});

export const versionResponse = Type.Object({
  name: Type.Literal('bsdsyms'),
  version: Type.String(),
  node: Type.String({ description: 'The version of Node.js.' }),
  loaders: Type.Array(enumeration(LOADERS)),
  limits: Type.Object({
    maxImageBytes: Bytes('BSDSYMS_MAX_IMAGE_BYTES.'),
    maxBlobBytes: Bytes('BSDSYMS_MAX_BLOB_BYTES.'),
    maxFlatBytes: Bytes('BSDSYMS_MAX_FLAT_BYTES.'),
    maxUploads: Type.Integer({ minimum: 1, description: 'BSDSYMS_MAX_UPLOADS.' }),
    uploadTimeoutMs: Type.Integer({ minimum: 1, description: 'BSDSYMS_UPLOAD_TIMEOUT_MS.' }),
    rateLimitPerMinute: Type.Integer({ minimum: 0, description: 'BSDSYMS_RATE_LIMIT_PER_MINUTE; 0 for none.' }),
  }),
  compressions: Type.Array(Type.String(), {
    description: 'Of images, which are unpacked whatever the header fields say.',
  }),
  contentCodings: Type.Array(Type.String(), { description: 'Values of Content-Encoding that are undone.' }),
  references: Type.Boolean({ description: 'Whether an image may be named by its URL instead of being sent.' }),
});

/** An answer as problem details, or as one line of plain text. */
export const problemResponse = (description: string) => ({
  description,
  content: {
    [PROBLEM_MEDIA_TYPE]: { schema: ref(ProblemSchema) },
    'text/plain': { schema: Type.String({ description: '`code: detail X-Request-Id: id`' }) },
  },
});
