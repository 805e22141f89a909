/** Parameters and answers of the routes: types, checks, serialisation and openapi.yaml all come from here. */
import { Type } from 'typebox';
import { SYMBOL_BINDS, SYMBOL_TYPES } from '../elf/symbols.ts';
import {
  AddressSchema,
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
  SymbolSchema,
  SymbolsReport,
  SymbolTableReport,
  WarningSchema,
} from '../report/schemas.ts';
import { DEFAULT_PAGE_SYMBOLS, MAX_PAGE_SYMBOLS } from '../report/symbols.ts';
import { DEFAULT_LOADER, LOADERS, type Loader } from '../xen/bsdsyms.ts';
import { MAX_REPEATS } from './parameters.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE } from './problem.ts';

export const ON_BROKEN = ['reject', 'load'] as const;

export const toLoader = (name: string | undefined): Loader =>
  LOADERS.find((loader) => loader === name) ?? DEFAULT_LOADER;

export const JSON_TYPE = 'application/json';
export const NDJSON_TYPE = 'application/x-ndjson';

/** Decimal or hex; that it fits into 64 bits is checked besides. */
const ADDRESS = '^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})$';

/** The parameters of an upload, in the query or as fields of the form. */
export const LoadParameters = Type.Object(
  {
    loadAddress: Type.Optional(
      Type.String({
        pattern: ADDRESS,
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

const SYMBOL_NAME = { minLength: 1, maxLength: 1024 };
const repeatable = (items: Type.TSchema, description: string) =>
  Type.Optional(Type.Array(items, { maxItems: MAX_REPEATS, description }));

export const SymbolParameters = Type.Object(
  {
    name: repeatable(
      Type.String(SYMBOL_NAME),
      'All symbols of this name, 1 to 1024 characters, compared as UTF-8. Excludes `address` and those of pages.',
    ),
    address: repeatable(
      Type.String({ pattern: ADDRESS }),
      'The symbol that stands for this address, 0 .. 2^64-1, decimal or 0x hex. Excludes `name` and those of pages.',
    ),
    type: repeatable(enumeration(SYMBOL_TYPES), 'Of a page: symbols of this type only.'),
    bind: repeatable(enumeration(SYMBOL_BINDS), 'Of a page: symbols with this binding only.'),
    prefix: Type.Optional(
      Type.String({
        ...SYMBOL_NAME,
        description: 'Of a page: symbols whose name begins like this only, 1 to 1024 characters.',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_PAGE_SYMBOLS,
        description: `Symbols on a page, 1 to ${MAX_PAGE_SYMBOLS}. Default: ${DEFAULT_PAGE_SYMBOLS} in JSON, all in NDJSON.`,
      }),
    ),
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'The page begins behind the symbol of this index: the `next` of the page before. Default: 0.',
      }),
    ),
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
  SymbolSchema,
  AddressSchema,
  SymbolTableReport,
  SymbolsReport,
  ProblemSchema,
];

export const layoutResponse = ref(Layout);
export const kernelReportResponse = ref(KernelReport);
export const flatLayoutResponse = ref(FlatLayout);
export const symbolsResponse = ref(SymbolsReport);
export const binary = Type.Unsafe<string>({ type: 'string', format: 'binary' });

/** An answer in problem details, or on one line of plain text. */
export const problemResponse = (description: string) => ({
  description,
  content: {
    [PROBLEM_MEDIA_TYPE]: { schema: ref(ProblemSchema) },
    'text/plain': { schema: Type.String({ description: '`code: detail`' }) },
  },
});
