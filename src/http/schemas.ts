/** The shapes of the HTTP contract: types, serialisation and openapi.yaml all come from here. */
import { Type } from 'typebox';
import { DEFAULT_LOADER, type Loader } from '../xen/bsdsyms.ts';
import { WARNING_KINDS } from '../xen/warnings.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE } from './problem.ts';

/** Guest-physical addresses do not fit into a JSON number. */
const Address = (description: string) => Type.String({ pattern: '^0x[0-9a-f]{1,16}$', description });
const Bytes = (description: string) => Type.Integer({ minimum: 0, description });
const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const enumeration = <const T extends string>(values: readonly T[], options: Type.TSchemaOptions = {}) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...options });

/** A reference to a schema that is a component of the API document. */
const ref = <T extends Type.TSchema & { $id: string }>(schema: T) =>
  Type.Unsafe<Type.Static<T>>({ $ref: `${schema.$id}#` });
/** A schema that is a component of the API document. */
const component = <T extends Type.TSchema, const Id extends string>($id: Id, schema: T): T & { $id: Id } => ({
  ...schema,
  $id,
});

export const ON_BROKEN = ['reject', 'load'] as const;
export const LOADERS = ['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'] as const;

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

export const Image = component(
  'Image',
  Type.Object({
    size: Bytes('Bytes of the uncompressed image.'),
    class: enumeration(['ELF32', 'ELF64']),
    byteOrder: enumeration(['little-endian', 'big-endian']),
    type: Type.String({ description: 'e_type by name, or in hex.', examples: ['EXEC'] }),
    machine: Type.String({ description: 'e_machine by name, or in hex.', examples: ['x86-64'] }),
    entry: Address('e_entry.'),
    buildId: Nullable(Type.String({ description: 'GNU build ID in hex.' })),
    compression: Nullable(enumeration(['gzip', 'zstd'], { description: 'How the uploaded image was compressed.' })),
  }),
);

export const Kernel = component(
  'Kernel',
  Type.Object({
    pstart: Address('Lowest p_paddr of the loadable segments.'),
    pend: Address('Highest p_paddr + p_memsz of the loadable segments.'),
    align: Address('Largest p_align of the loadable segments.'),
  }),
);

const Section = Type.Object({
  index: Type.Integer({ minimum: 0 }),
  type: enumeration(['NULL', 'SYMTAB', 'STRTAB']),
  address: Type.Optional(Address('Where the table lies in guest memory.')),
  offset: Type.Optional(Bytes('The same, counted from the start of the blob.')),
  size: Type.Optional(Bytes('Bytes in the table.')),
  shOffset: Type.Optional(Bytes('The sh_offset that the guest finds, counted from the ELF header.')),
  fileOffset: Type.Optional(Nullable(Bytes('Where the image has it; null when Xen skips the copy.'))),
  entries: Type.Optional(Type.Integer({ minimum: 0, description: 'Symbols in the table, the null symbol included.' })),
  firstGlobal: Type.Optional(Type.Integer({ minimum: 0, description: 'sh_info: index of the first global symbol.' })),
});

export const Bsdsyms = component(
  'Bsdsyms',
  Type.Object({
    loader: enumeration(LOADERS),
    loadAddress: Address('Where the symbols may begin.'),
    pstart: Address('Where they do begin.'),
    pend: Address('Their true end: pstart + size.'),
    size: Bytes('Bytes in the blob.'),
    sizeWord: Bytes('What the first four bytes of the blob say.'),
    xenReservedEnd: Address('The end of the region that Xen reserves.'),
    elfHeader: Nullable(
      Type.Object({ address: Address('In guest memory.'), offset: Bytes('In the blob.'), size: Bytes('In bytes.') }),
    ),
    sections: Type.Array(Section),
  }),
);

export const BrokenReason = component(
  'BrokenReason',
  Type.Object({
    code: Type.String({ description: 'Stable; see /problems.' }),
    reason: Nullable(Type.String({ description: "Xen's own words, where it has some." })),
    stage: enumeration(['init', 'segments', 'notes', 'parse', 'load']),
    detail: Type.String(),
  }),
);

export const WarningSchema = component(
  'Warning',
  Type.Object({
    code: enumeration(Object.keys(WARNING_KINDS)),
    detail: Type.String(),
  }),
);

export const Layout = component(
  'Layout',
  Type.Object(
    {
      image: ref(Image),
      kernel: ref(Kernel),
      bsdsyms: ref(Bsdsyms),
      broken: Nullable(ref(BrokenReason)),
      warnings: Type.Array(ref(WarningSchema)),
    },
    { description: 'Where the symbols lie and what they consist of.' },
  ),
);
export type Layout = Type.Static<typeof Layout>;

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

const NullableAddress = (description: string) => Nullable(Address(description));
const Region = Type.Object({ pstart: Address('Where the region begins.'), pend: Address('Where it ends.') });
const NoteValues = Type.Record(Type.String(), Type.String(), {
  description: 'By name; strings as they are, numbers in hex.',
});

const Segment = Type.Object({
  index: Type.Integer({ minimum: 0, description: 'Index in the program header table.' }),
  offset: Address('p_offset.'),
  vaddr: Address('p_vaddr.'),
  paddr: Address('p_paddr.'),
  filesz: Address('p_filesz.'),
  memsz: Address('p_memsz.'),
  flags: Type.String({ description: 'Of p_flags: R, W, X.' }),
  align: Address('p_align.'),
});

export const Guest = component(
  'Guest',
  Type.Object(
    {
      ok: Type.Boolean({ description: 'Whether Xen would start the kernel.' }),
      error: Nullable(Type.String({ description: "Why not, in Xen's words." })),
      broken: Nullable(Type.String({ description: "The first reason recorded against the image, in Xen's words." })),
      notes: NoteValues,
      guestOs: Type.String(),
      guestVersion: Type.String(),
      xenVersion: Type.String(),
      loader: Type.String(),
      pae: Type.Integer({ minimum: 0, maximum: 3, description: '0 no, 1 yes, 2 extended CR3, 3 bimodal.' }),
      bsdSymtab: Type.Boolean({ description: 'Whether the kernel asks for its symbols.' }),
      unmappedInitrd: Type.Boolean(),
      physReloc: Type.Boolean(),
      supportedFeatures: Address('A bit for each feature.'),
      requiredFeatures: Address('A bit for each feature.'),
      physEntry: NullableAddress('PHYS32_ENTRY.'),
      physAlign: NullableAddress('Of PHYS32_RELOC.'),
      physMin: NullableAddress('Of PHYS32_RELOC.'),
      physMax: NullableAddress('Of PHYS32_RELOC.'),
      virtBase: NullableAddress('VIRT_BASE.'),
      virtEntry: NullableAddress('ENTRY.'),
      virtHypercall: NullableAddress('HYPERCALL_PAGE.'),
      virtHvStartLow: NullableAddress('HV_START_LOW.'),
      p2mBase: NullableAddress('INIT_P2M.'),
      elfPaddrOffset: NullableAddress('PADDR_OFFSET.'),
      virtKstart: NullableAddress('Virtual start of the kernel.'),
      virtKend: NullableAddress('Virtual end of the kernel and its symbols.'),
      bsdsyms: Nullable(Region),
    },
    { description: 'What Xen makes of the kernel as a guest of one kind; null where unset.' },
  ),
);
export type GuestReport = Type.Static<typeof Guest>;

export const KernelReport = component(
  'KernelReport',
  Type.Object({
    image: ref(Image),
    kernel: ref(Kernel),
    segments: Type.Array(Segment, { description: 'The loadable segments in table order.' }),
    notes: NoteValues,
    xen: Type.Object({ pv: ref(Guest), hvm: ref(Guest) }),
    broken: Nullable(ref(BrokenReason)),
  }),
);
export type KernelReport = Type.Static<typeof KernelReport>;

export const FlatLayout = component(
  'FlatLayout',
  Type.Object({
    image: ref(Image),
    kernel: ref(Kernel),
    flat: Type.Object({
      pstart: Address('Where the flat image begins in guest memory.'),
      pend: Address('Where it ends.'),
      size: Bytes('Bytes in it.'),
    }),
    bsdsyms: Nullable(Region),
    extents: Type.Array(
      Type.Object({
        address: Address('In guest memory.'),
        offset: Bytes('In the flat image.'),
        size: Bytes('In bytes.'),
        content: enumeration(['copy', 'fill', 'bytes'], {
          description: 'A range of the image, one byte repeated, or bytes that are in neither.',
        }),
        fileOffset: Type.Optional(Bytes('Of a copy: where the image has it.')),
        byte: Type.Optional(Type.Integer({ minimum: 0, maximum: 255, description: 'Of a fill.' })),
      }),
    ),
    broken: Nullable(ref(BrokenReason)),
  }),
);
export type FlatLayout = Type.Static<typeof FlatLayout>;

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
