/** Parameters and answers of the routes: types, checks, serialisation and openapi.yaml all come from here. */
import { Type } from 'typebox';
import {
  BrokenReason,
  Bsdsyms,
  component,
  enumeration,
  FlatLayout,
  Guest,
  Image,
  Kernel,
  KernelReport,
  Layout,
  Nullable,
  ref,
  WarningSchema,
} from '../report/schemas.ts';
import { DEFAULT_LOADER, LOADERS, type Loader } from '../xen/bsdsyms.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE } from './problem.ts';

export const ON_BROKEN = ['reject', 'load'] as const;

export const toLoader = (name: string | undefined): Loader =>
  LOADERS.find((loader) => loader === name) ?? DEFAULT_LOADER;

export const JSON_TYPE = 'application/json';

/** The parameters of an upload, in the query or as fields of the form. */
export const LoadParameters = Type.Object(
  {
    loadAddress: Type.Optional(
      Type.String({
        pattern: '^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})$',
        description:
          "Guest-physical address where the symbols may begin, 0 .. 2^64-1, decimal or 0x hex. Default: the kernel's pend.",
        examples: ['0x400c5030'],
      }),
    ),
    loader: Type.Optional(
      enumeration(LOADERS, { default: DEFAULT_LOADER, description: 'Whose layout of the symbols is wanted.' }),
    ),
    onBroken: Type.Optional(
      enumeration(ON_BROKEN, {
        default: 'reject',
        description:
          'What to do with an image that a reason is recorded against: refuse it, or carry on as Xen does and name the reason.',
      }),
    ),
  },
  { additionalProperties: false },
);
export type LoadParameters = Type.Static<typeof LoadParameters>;

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

/** `/kernel` takes no parameters. */
export const KernelParameters = Type.Object({}, { additionalProperties: false });

const SYMBOLS_CHOICES = ['auto', 'always', 'never'] as const;
export const toSymbolsChoice = (name: string | undefined): (typeof SYMBOLS_CHOICES)[number] =>
  SYMBOLS_CHOICES.find((choice) => choice === name) ?? 'auto';

export const FlatParameters = Type.Object(
  {
    symbols: Type.Optional(
      enumeration(SYMBOLS_CHOICES, {
        default: 'auto',
        description:
          'Whether the symbols are placed behind the kernel: `auto` when its notes ask for them (BSD_SYMTAB).',
      }),
    ),
    loader: LoadParameters.properties.loader,
    onBroken: LoadParameters.properties.onBroken,
  },
  { additionalProperties: false },
);

export const COMPONENTS = [
  Image,
  Kernel,
  Bsdsyms,
  BrokenReason,
  WarningSchema,
  Layout,
  Guest,
  KernelReport,
  FlatLayout,
  ProblemSchema,
];

export const layoutResponse = ref(Layout);
export const kernelReportResponse = ref(KernelReport);
export const flatLayoutResponse = ref(FlatLayout);
export const binary = Type.Unsafe<string>({ type: 'string', format: 'binary' });

/** An answer in problem details, or on one line of plain text. */
export const problemResponse = (description: string) => ({
  description,
  content: {
    [PROBLEM_MEDIA_TYPE]: { schema: ref(ProblemSchema) },
    'text/plain': { schema: Type.String({ description: '`code: detail`' }) },
  },
});
