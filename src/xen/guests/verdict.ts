/** What a guest makes of a blob: three outcomes, and a closed table of codes that say why. Source: docs/verify.md. */

/** Those that are asked; NetBSD as it is built without and with `KDTRACE_HOOKS`. */
export const GUESTS = ['freebsd', 'netbsd', 'netbsdKdtrace', 'xtf'] as const;
/** One of them. */
export type GuestName = (typeof GUESTS)[number];

export const GUEST_OUTCOMES = ['found', 'none', 'undefined'] as const;
/**
 * A guest finds its symbols, or finds none, or reads outside of the memory that is known before it has its table: what
 * happens then depends on bytes that nobody knows.
 */
export type GuestOutcome = (typeof GUEST_OUTCOMES)[number];

/** A code, and with which outcome it occurs: with `found` as a warning, otherwise as the reason. */
interface GuestFinding {
  readonly outcome: GuestOutcome;
  readonly meaning: string;
}

/** Everything that is said of a guest and a blob. Codes are stable for ever. */
export const GUEST_FINDINGS = {
  'size-word-missing': {
    outcome: 'none',
    meaning: 'The dump begins with the ELF header. The size word in front of it is part of the blob.',
  },
  'size-word-unusable': {
    outcome: 'none',
    meaning: 'The size word is 0, or above 2^31-1: NetBSD reads it as a signed number.',
  },
  'no-elf-header': { outcome: 'none', meaning: 'The bytes after the size word are not 7f 45 4c 46.' },
  'other-class': {
    outcome: 'none',
    meaning:
      'The class of the ELF header is not that of the guest: FreeBSD takes ELF64 only, the Xen Test Framework ELF32.',
  },
  'elf-version': { outcome: 'none', meaning: 'The e_version of the ELF header is above 1.' },
  'no-symbol-table': {
    outcome: 'none',
    meaning:
      'No section header from 1 on is a SYMTAB with an sh_offset whose sh_link leads to a header with an sh_offset.',
  },
  'symbol-table-empty': { outcome: 'none', meaning: 'The symbol table has no bytes, and FreeBSD takes it for none.' },
  'section-count': { outcome: 'none', meaning: 'The Xen Test Framework expects three section headers.' },
  'header-leak': {
    outcome: 'none',
    meaning: 'Bytes between the ELF header and the section headers are not zero: hypervisor stack (CVE-2016-9384).',
  },

  'size-word-outside': { outcome: 'undefined', meaning: 'The memory ends before the size word does.' },
  'elf-header-outside': { outcome: 'undefined', meaning: 'The ELF header reaches outside of the memory.' },
  'section-header-outside': {
    outcome: 'undefined',
    meaning: 'A section header that the guest looks at reaches outside of the memory.',
  },
  'linked-header-outside': {
    outcome: 'undefined',
    meaning: 'The sh_link of a symbol table leads to a header outside of the memory. Guests do not check the index.',
  },
  'name-header-outside': {
    outcome: 'undefined',
    meaning: 'The e_shstrndx leads to a header outside of the memory, where NetBSD with DTrace reads it.',
  },
  'section-name-outside': {
    outcome: 'undefined',
    meaning: 'The name of a section reaches outside of the memory, where NetBSD with DTrace looks for .SUNW_ctf.',
  },
  'symbol-outside': {
    outcome: 'undefined',
    meaning: 'The symbol table reaches outside of the memory, and NetBSD reads all of it while it starts.',
  },
  'symbol-name-outside': {
    outcome: 'undefined',
    meaning: 'The name of a symbol reaches outside of the memory, and NetBSD reads all names while it starts.',
  },
  'symbol-map-outside': {
    outcome: 'undefined',
    meaning:
      'The size of the symbol table is negative in 32 bits: NetBSD with DTrace clears memory far outside of its map.',
  },
  'header-gap-outside': {
    outcome: 'undefined',
    meaning: 'The section headers begin outside of the memory, and all bytes up to its end are zero.',
  },

  'address-unaligned': {
    outcome: 'found',
    meaning: 'The dump was not taken where a guest looks: after its image, rounded up to 8 bytes (ELF64) or 4 (ELF32).',
  },
  'end-symbol-elsewhere': {
    outcome: 'found',
    meaning:
      'The blob does not begin right after the kernel, where the guest looks: at its symbol end (Xen Test Framework: _end).',
  },
  'byte-order-ignored': {
    outcome: 'found',
    meaning: 'EI_DATA does not say little-endian. Guests read their own byte order all the same.',
  },
  'header-size-ignored': {
    outcome: 'found',
    meaning: 'The e_shentsize is not the size of a section header, which guests take for granted.',
  },
  'link-outside': {
    outcome: 'found',
    meaning:
      'The sh_link of the symbol table leads to none of the section headers. The guest takes whatever lies there.',
  },
  'link-not-strtab': {
    outcome: 'found',
    meaning: 'The sh_link of the symbol table leads to a section that is no STRTAB.',
  },
  'table-outside-size': {
    outcome: 'found',
    meaning: 'A table reaches beyond the bytes that the size word counts. No guest compares them.',
  },
  'table-cut': {
    outcome: 'found',
    meaning: 'A table reaches outside of the memory. The guest reads on in whatever follows when it uses the symbols.',
  },
  'table-size-odd': {
    outcome: 'found',
    meaning: 'The size of the symbol table is no multiple of a symbol. FreeBSD takes what is left over for one more.',
  },
  'tables-overlap': {
    outcome: 'found',
    meaning: 'The string table overlaps the symbol table, which NetBSD packs and sorts where it lies.',
  },
  'symbols-cut-off': {
    outcome: 'found',
    meaning: 'NetBSD keeps the size in 32 bits and takes no more than 98303 symbols. The rest is not in its table.',
  },
  'name-outside-table': {
    outcome: 'found',
    meaning: 'A symbol has its name outside of the string table. No guest compares them.',
  },
  'name-unterminated': {
    outcome: 'found',
    meaning: 'The name of a symbol runs to the end of the string table without a NUL.',
  },
  'section-names-missing': {
    outcome: 'found',
    meaning: 'The e_shstrndx does not lead to a string table, and NetBSD with DTrace reads section names there.',
  },
} as const satisfies Readonly<Record<string, GuestFinding>>;

/** Stable for ever. */
export type GuestFindingCode = keyof typeof GUEST_FINDINGS;
/** The codes of one outcome. */
type CodeOf<Outcome extends GuestOutcome> = {
  [Code in GuestFindingCode]: (typeof GUEST_FINDINGS)[Code]['outcome'] extends Outcome ? Code : never;
}[GuestFindingCode];
/** Why a guest finds no symbols. */
export type NoneCode = CodeOf<'none'>;
/** Which read left the memory. */
export type OutsideCode = CodeOf<'undefined'>;
/** What a guest that finds its symbols misreads, or will. */
export type GuestWarningCode = CodeOf<'found'>;

const codesWith = <Outcome extends GuestOutcome>(outcome: Outcome): CodeOf<Outcome>[] =>
  (Object.keys(GUEST_FINDINGS) as GuestFindingCode[]).filter(
    (code): code is CodeOf<Outcome> => GUEST_FINDINGS[code].outcome === outcome,
  );
/** In the order in which they are reported. */
export const GUEST_WARNINGS: readonly GuestWarningCode[] = codesWith('found');
/** All that can be a verdict's `why`. */
export const GUEST_REASONS: readonly (NoneCode | OutsideCode)[] = [...codesWith('none'), ...codesWith('undefined')];

/** What one guest makes of a blob. */
export interface GuestVerdict {
  readonly outcome: GuestOutcome;
  /** Null with `found`. */
  readonly why: NoneCode | OutsideCode | null;
  /** How many symbols end up in the guest's table, with `found` only; 0 for `xtf`, which has no table. */
  readonly symbols: bigint | null;
  /** With `found` only. */
  readonly warnings: readonly GuestWarningCode[];
}

/** What each of the guests makes of a blob. */
export type GuestVerdicts = Readonly<Record<GuestName, GuestVerdict>>;

export const none = (why: NoneCode): GuestVerdict => ({ outcome: 'none', why, symbols: null, warnings: [] });

/** The guest reads outside of the memory. */
export const unknown = (why: OutsideCode): GuestVerdict => ({
  outcome: 'undefined',
  why,
  symbols: null,
  warnings: [],
});

export const found = (symbols: bigint, warnings: readonly GuestWarningCode[]): GuestVerdict => ({
  outcome: 'found',
  why: null,
  symbols,
  warnings: GUEST_WARNINGS.filter((code) => warnings.includes(code)),
});
