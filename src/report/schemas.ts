/** The schemas of JSON reports. Their types, and `openapi.yaml`, come from here; `JSON.stringify` writes the reports. */
import { Type } from 'typebox';
import { SYMBOL_VISIBILITIES } from '../elf/symbols.ts';
import { REQUIREMENTS } from '../inspect/check.ts';
import { COMPRESSIONS } from '../inspect/image-source.ts';
import { BUILDER_REFUSALS, type BuilderRefusalCode, CONTAINERS } from '../xen/builder.ts';
import { GUEST_OUTCOMES, GUEST_REASONS, GUEST_WARNINGS } from '../xen/guests/verdict.ts';
import { MAX_LISTED } from '../xen/listed.ts';
import { LOADERS } from '../xen/loaders/bsdsyms.ts';
import { WARNING_KINDS } from '../xen/warnings.ts';

/** Guest-physical addresses do not fit into a JSON number. */
const Address = (description: string) => Type.String({ pattern: '^0x[0-9a-f]{1,16}$', description });
export const Bytes = (description: string) => Type.Integer({ minimum: 0, description });
export const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
export const enumeration = <const T extends string>(values: readonly T[], options: Type.TSchemaOptions = {}) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...options });

/** How many entries a list leaves out. */
const Unlisted = (what: string) =>
  Type.Optional(
    Type.Integer({ minimum: 1, description: `How many more ${what} there are; absent when there are none.` }),
  );

/** A reference to a schema that is a component of the API document. */
export const ref = <T extends Type.TSchema & { $id: string }>(schema: T) =>
  Type.Unsafe<Type.Static<T>>({ $ref: `${schema.$id}#` });
/** A schema that is a component of the API document. */
export const component = <T extends Type.TSchema, const Id extends string>($id: Id, schema: T): T & { $id: Id } => ({
  ...schema,
  $id,
});

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
    compression: Nullable(
      enumeration([...COMPRESSIONS], { description: 'How the image was compressed; in a bzImage, its payload.' }),
    ),
    container: Nullable(
      enumeration(['bzImage'], { description: 'What the image was packed in: a Linux bzImage, or nothing.' }),
    ),
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
  fileOffset: Type.Optional(Nullable(Bytes('Offset in the image; null when Xen skips the copy.'))),
  entries: Type.Optional(Type.Integer({ minimum: 0, description: 'Symbols in the table, the null symbol included.' })),
  firstGlobal: Type.Optional(Type.Integer({ minimum: 0, description: 'sh_info: index of the first global symbol.' })),
});

export const Bsdsyms = component(
  'Bsdsyms',
  Type.Object({
    loader: enumeration(LOADERS),
    loadAddress: Address('Where the symbols may begin.'),
    pstart: Address('Where they begin.'),
    pend: Address('Their true end: pstart + size.'),
    size: Bytes('Bytes in the blob.'),
    sizeWord: Bytes('The value of the first four bytes of the blob.'),
    xenReservedEnd: Address('The end of the region that Xen reserves.'),
    elfHeader: Nullable(
      Type.Object({ address: Address('In guest memory.'), offset: Bytes('In the blob.'), size: Bytes('In bytes.') }),
    ),
    sections: Type.Array(Section, {
      description: `The null section, and the tables in the order of the blob, ${MAX_LISTED} at most.`,
    }),
    unlistedSections: Unlisted('tables'),
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

const BlobRange = Type.Object({ offset: Bytes('From the start of the blob.'), size: Bytes('In bytes.') });

export const ComparisonSchema = component(
  'Comparison',
  Type.Object(
    {
      loader: enumeration(LOADERS, { description: 'The other loader.' }),
      broken: Nullable(ref(BrokenReason)),
      size: Nullable(Bytes('Bytes in its blob; null when it does not load the image.')),
      identical: Type.Boolean({ description: 'Whether both blobs are the same, byte for byte.' }),
      differences: Type.Array(
        Type.Object({
          kind: enumeration(['changed', 'moved', 'missing', 'added'], {
            description:
              'changed: other bytes at the same offset. moved: at another offset. missing: not in the other blob. added: ' +
              'only in the other blob.',
          }),
          what: Type.String({ description: 'What lies there.' }),
          range: Nullable(BlobRange),
          otherRange: Nullable(BlobRange),
          fields: Type.Array(
            Type.Object({
              name: Type.String({ description: 'Its name in the gABI.' }),
              value: Address('In the blob.'),
              other: Address('In the other blob.'),
            }),
          ),
          meaning: Type.String(),
        }),
      ),
      unlisted: Type.Integer({ minimum: 0, description: 'How many more differences there are.' }),
    },
    { description: 'What another loader does differently.' },
  ),
);

/** A number of 64 bits that is nearly always small. */
const Count = (description: string) =>
  Type.Union([Type.Integer({ minimum: 0 }), Type.String({ pattern: '^0x[0-9a-f]{14,16}$' })], {
    description: `${description} In hex above 2^53-1, which only damaged images have.`,
  });

export const GuestVerdictSchema = component(
  'GuestVerdict',
  Type.Object(
    {
      outcome: enumeration(GUEST_OUTCOMES, {
        description:
          'found: the guest has its symbols. none: it finds none, and says so. undefined: it reads outside the known bytes ' +
          'before it has them, and what it does then is unknown.',
      }),
      why: Nullable(enumeration(GUEST_REASONS, { description: 'Stable; null with found.' })),
      symbols: Nullable(
        Count("Symbols in the guest's table, as it counts them; null unless found. 0 for xtf, which has no table."),
      ),
      warnings: Type.Array(enumeration(GUEST_WARNINGS), {
        description: 'What the guest misreads, or will misread, when it finds its symbols.',
      }),
    },
    { description: 'What one guest makes of a blob.' },
  ),
);

export const GuestVerdictsSchema = component(
  'GuestVerdicts',
  Type.Object(
    {
      freebsd: ref(GuestVerdictSchema),
      netbsd: ref(GuestVerdictSchema),
      netbsdKdtrace: ref(GuestVerdictSchema),
      xtf: ref(GuestVerdictSchema),
    },
    {
      description:
        'What guests make of a blob; NetBSD without and with KDTRACE_HOOKS. Every layout of the service has it.',
    },
  ),
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
      comparison: Type.Optional(ref(ComparisonSchema)),
      guests: Type.Optional(ref(GuestVerdictsSchema)),
    },
    { description: 'Where the symbols lie and what they consist of.' },
  ),
);
/** The JSON of `POST /layout`. */
export type Layout = Type.Static<typeof Layout>;

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
      ok: Type.Boolean({
        description: "Whether Xen's ELF library accepts the kernel; `builder` says whether it would start.",
      }),
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
/** What Xen makes of a kernel as a guest of one kind, as JSON. */
export type GuestReport = Type.Static<typeof Guest>;

const BuilderRefusal = Nullable(
  Type.Object(
    {
      code: enumeration(Object.keys(BUILDER_REFUSALS) as BuilderRefusalCode[], { description: 'Stable.' }),
      reason: Type.String({ description: "In the builder's words." }),
    },
    { description: 'Why it is refused; null when it is accepted.' },
  ),
);

export const BuilderReport = component(
  'Builder',
  Type.Object(
    {
      takes: Type.Object(
        {
          ok: Type.Boolean({ description: 'Whether the builder passes a kernel to its loaders.' }),
          container: Nullable(enumeration([...CONTAINERS], { description: 'What the kernel is packed in.' })),
          kernelSize: Nullable(Bytes('Bytes of the kernel as the builder sees it.')),
          why: BuilderRefusal,
        },
        { description: 'What the builder does with the file before its loaders.' },
      ),
      pv: Type.Object(
        {
          ok: Type.Boolean({ description: 'Whether it would start.' }),
          guestType: Nullable(
            enumeration(['xen-3.0-x86_64', 'xen-3.0-x86_32p', 'xen-3.0-x86_32'], {
              description:
                'xen-3.0-x86_32p needs a host whose Xen supports 32-bit PV guests; no Xen supports xen-3.0-x86_32.',
            }),
          ),
          why: BuilderRefusal,
        },
        { description: 'As a PV guest.' },
      ),
      hvm: Type.Object(
        { ok: Type.Boolean({ description: 'Whether it would start.' }), why: BuilderRefusal },
        { description: 'As an HVM guest with a direct entry (PVH).' },
      ),
    },
    { description: "What Xen's domain builder does with the kernel: whether the toolstack would start it as a guest." },
  ),
);

export const KernelReport = component(
  'KernelReport',
  Type.Object({
    image: ref(Image),
    kernel: ref(Kernel),
    segments: Type.Array(Segment, { description: `The loadable segments in table order, ${MAX_LISTED} at most.` }),
    unlistedSegments: Unlisted('loadable segments'),
    notes: NoteValues,
    xen: Type.Object({ pv: ref(Guest), hvm: ref(Guest) }, { description: "The verdict of Xen's ELF library." }),
    builder: ref(BuilderReport),
    broken: Nullable(ref(BrokenReason)),
    warnings: Type.Array(ref(WarningSchema)),
  }),
);
/** The JSON of `POST /kernel`. */
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
          description: 'copy: a range of the image. fill: one byte repeated. bytes: any other bytes.',
        }),
        fileOffset: Type.Optional(Bytes('For a copy: its offset in the image.')),
        byte: Type.Optional(Type.Integer({ minimum: 0, maximum: 255, description: 'For a fill: 0.' })),
      }),
      { description: `The extents of the flat image in order, ${MAX_LISTED} at most.` },
    ),
    unlistedExtents: Unlisted('extents'),
    broken: Nullable(ref(BrokenReason)),
  }),
);
/** The JSON of `POST /image`. */
export type FlatLayout = Type.Static<typeof FlatLayout>;

export const SymbolSchema = component(
  'Symbol',
  Type.Object(
    {
      index: Type.Integer({ minimum: 1, description: 'In the symbol table.' }),
      name: Nullable(
        Type.String({
          description: 'UTF-8; invalid bytes are replaced by U+FFFD. Null when st_name lies outside the string table.',
        }),
      ),
      nameBytes: Type.Optional(
        Type.String({ pattern: '^([0-9a-f]{2})+$', description: 'The name in hex, when it is not UTF-8.' }),
      ),
      nameCut: Type.Optional(
        Type.Literal(true, {
          description:
            'The name is longer. These are its first 4096 bytes, or its first 64 once the names before it exceed 1 MiB ' +
            'plus twice the size of the image, as only those of damaged images do.',
        }),
      ),
      value: Address('st_value: for most symbols, an address.'),
      size: Count('st_size: bytes.'),
      type: Type.String({ description: 'By name, or in hex.', examples: ['FUNC'] }),
      bind: Type.String({ description: 'By name, or in hex.', examples: ['GLOBAL'] }),
      visibility: enumeration(SYMBOL_VISIBILITIES),
      section: Type.Union([Type.Integer({ minimum: 1 }), Type.String()], {
        description: 'st_shndx: a section index; or UNDEF, ABS, COMMON, XINDEX (the index is elsewhere), or in hex.',
      }),
    },
    { description: 'An entry of the symbol table.' },
  ),
);
export type SymbolReport = Type.Static<typeof SymbolSchema>;

export const AddressSchema = component(
  'ResolvedAddress',
  Type.Object(
    {
      address: Address('As asked.'),
      symbol: Nullable(ref(SymbolSchema)),
      offset: Nullable(Count('Bytes from the value of the symbol to the address.')),
    },
    { description: 'The symbol that stands for an address; null when there is none.' },
  ),
);
export type AddressReport = Type.Static<typeof AddressSchema>;

export const SymbolTableReport = component(
  'SymbolTable',
  Type.Object(
    {
      index: Type.Integer({ minimum: 0, description: 'Section index.' }),
      fileOffset: Bytes('Offset in the image.'),
      size: Bytes('Bytes in the table.'),
      entries: Type.Integer({ minimum: 0, description: 'Symbols in the table, the null symbol included.' }),
      firstGlobal: Type.Integer({ minimum: 0, description: 'sh_info: index of the first global symbol.' }),
      strtab: Type.Object({
        index: Type.Integer({ minimum: 0, description: 'Section index.' }),
        fileOffset: Bytes('Offset in the image.'),
        size: Bytes('Bytes in the table.'),
      }),
    },
    { description: 'The symbol table that the loader would use, and its string table.' },
  ),
);

export const SymbolsReport = component(
  'Symbols',
  Type.Object(
    {
      image: ref(Image),
      symtab: ref(SymbolTableReport),
      broken: Nullable(ref(BrokenReason)),
      symbols: Type.Optional(Type.Array(ref(SymbolSchema), { description: 'In table order.' })),
      notFound: Type.Optional(Type.Array(Type.String(), { description: 'The requested names that no symbol has.' })),
      next: Type.Optional(
        Nullable(Type.Integer({ minimum: 1, description: 'The `after` of the next page; null on the last.' })),
      ),
      addresses: Type.Optional(Type.Array(ref(AddressSchema), { description: 'In the order asked.' })),
    },
    {
      description:
        'With `name`: `symbols` and `notFound`. With `address`: `addresses`. Otherwise: `symbols`, a page of them, and `next`.',
    },
  ),
);
export type SymbolsReport = Type.Static<typeof SymbolsReport>;

const GuestTableSchema = Type.Object({
  offset: Count('From the start of the blob.'),
  size: Nullable(Count('Bytes in the table; null when its section header is cut.')),
  address: Nullable(Address('In guest memory; null without `address`.')),
});

export const VerifyReport = component(
  'Verification',
  Type.Object(
    {
      blob: Type.Object({
        size: Bytes('Bytes uploaded.'),
        address: Nullable(Address('Where they were taken from.')),
        sizeWord: Nullable(Bytes('The value of the first four bytes; null when they are missing.')),
        end: Nullable(
          Bytes(
            'Where the blob itself ends by its size word; less than size when memory follows, more when it is cut.',
          ),
        ),
        class: Nullable(enumeration(['ELF32', 'ELF64'])),
        byteOrder: Nullable(enumeration(['little-endian', 'big-endian'])),
        machine: Nullable(Type.String({ description: 'e_machine by name, or in hex.' })),
        loader: Nullable(
          enumeration(LOADERS, { description: 'The loader whose layout it has, judging by the header.' }),
        ),
        sections: Nullable(Type.Integer({ minimum: 0, description: 'e_shnum.' })),
        symtab: Nullable(GuestTableSchema),
        strtab: Nullable(GuestTableSchema),
      }),
      guests: ref(GuestVerdictsSchema),
    },
    { description: 'What guests make of a blob.' },
  ),
);
/** The JSON of what guests make of a blob. */
export type VerifyReport = Type.Static<typeof VerifyReport>;

const CheckMembers = {
  requirements: Type.Array(
    Type.Object({
      name: enumeration(REQUIREMENTS),
      met: Type.Boolean(),
      code: Nullable(
        Type.String({
          description:
            'Stable: the code of the problem, warning, builder or guest that says why not. Null when it is met.',
        }),
      ),
      detail: Type.String({ description: 'What was found.' }),
    }),
    { description: 'Everything that was required, in the order in which the values of `require` are listed.' },
  ),
  image: ref(Image),
  kernel: ref(Kernel),
  bsdsyms: Nullable(ref(Bsdsyms)),
  broken: Nullable(ref(BrokenReason)),
  warnings: Type.Array(ref(WarningSchema)),
};

export const CheckReport = component(
  'Check',
  Type.Object(CheckMembers, {
    description:
      'A kernel compared with requirements. `bsdsyms` is null when the symbols do not load; `broken` says why, or what ' +
      'was recorded.',
  }),
);
/** The JSON of `POST /check`. */
export type CheckReport = Type.Static<typeof CheckReport>;

export const FailedCheck = component(
  'FailedCheck',
  Type.Object(
    {
      type: Type.String({ description: 'URI reference of an explanation for people.' }),
      title: Type.String(),
      status: Type.Literal(422),
      detail: Type.String({ description: 'What is not met.' }),
      code: Type.Literal('check-failed'),
      instance: Type.String({ description: 'The request id.' }),
      ...CheckMembers,
    },
    { description: 'RFC 9457 problem details of a kernel that does not meet what is required of it.' },
  ),
);
