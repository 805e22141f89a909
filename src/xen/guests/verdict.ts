/** What a guest makes of a blob: three outcomes, and a closed table of codes that say why. Source: docs/verify.md. */

/** The guests that are modelled; NetBSD as it is built without and with `KDTRACE_HOOKS`. */
export const GUESTS = ['freebsd', 'netbsd', 'netbsdKdtrace', 'xtf'] as const;
/** The name of a guest. */
export type GuestName = (typeof GUESTS)[number];

export const GUEST_OUTCOMES = ['found', 'none', 'undefined'] as const;
/**
 * A guest finds its symbols, or finds none, or reads outside the known memory before it has its table. What happens then
 * depends on unknown bytes.
 */
export type GuestOutcome = (typeof GUEST_OUTCOMES)[number];

/** A code, and with which outcome it occurs: with `found` as a warning, otherwise as the reason. */
interface GuestFinding {
  readonly outcome: GuestOutcome;
  readonly meaning: string;
}

/** All findings about a guest and a blob. Codes are stable for ever. */
export const GUEST_FINDINGS = {
  'size-word-missing': {
    outcome: 'none',
    meaning: 'The dump begins with the ELF header. The size word before it is part of the blob.',
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
  'symbol-table-empty': { outcome: 'none', meaning: 'The symbol table is empty, which FreeBSD treats as none.' },
  'section-count': { outcome: 'none', meaning: 'The Xen Test Framework expects three section headers.' },
  'header-leak': {
    outcome: 'none',
    meaning: 'Bytes between the ELF header and the section headers are not zero: hypervisor stack (CVE-2016-9384).',
  },

  'size-word-outside': { outcome: 'undefined', meaning: 'The memory ends before the size word does.' },
  'elf-header-outside': { outcome: 'undefined', meaning: 'The ELF header reaches outside the memory.' },
  'section-header-outside': {
    outcome: 'undefined',
    meaning: 'A section header that the guest reads reaches outside the memory.',
  },
  'linked-header-outside': {
    outcome: 'undefined',
    meaning: 'The sh_link of a symbol table leads to a header outside the memory. Guests do not check the index.',
  },
  'name-header-outside': {
    outcome: 'undefined',
    meaning: 'The e_shstrndx leads to a header outside the memory, which NetBSD with DTrace reads.',
  },
  'section-name-outside': {
    outcome: 'undefined',
    meaning: 'The name of a section reaches outside the memory, where NetBSD with DTrace looks for .SUNW_ctf.',
  },
  'symbol-outside': {
    outcome: 'undefined',
    meaning: 'The symbol table reaches outside the memory, and NetBSD reads all of it while it starts.',
  },
  'symbol-name-outside': {
    outcome: 'undefined',
    meaning: 'The name of a symbol reaches outside the memory, and NetBSD reads all names while it starts.',
  },
  'symbol-map-outside': {
    outcome: 'undefined',
    meaning:
      'The size of the symbol table is negative in 32 bits: NetBSD with DTrace clears memory far outside its map.',
  },
  'header-gap-outside': {
    outcome: 'undefined',
    meaning: 'The section headers begin outside the memory, and all bytes up to its end are zero.',
  },

  'address-unaligned': {
    outcome: 'found',
    meaning: 'The dump was not taken where a guest looks: after its image, rounded up to 8 bytes (ELF64) or 4 (ELF32).',
  },
  'end-symbol-elsewhere': {
    outcome: 'found',
    meaning:
      "The blob does not begin where the guest looks for it: at the kernel's symbol end (Xen Test Framework: _end).",
  },
  'byte-order-ignored': {
    outcome: 'found',
    meaning: 'EI_DATA does not say little-endian. Guests ignore it and read their own byte order.',
  },
  'header-size-ignored': {
    outcome: 'found',
    meaning: 'The e_shentsize is not the size of a section header. Guests ignore it.',
  },
  'link-outside': {
    outcome: 'found',
    meaning:
      'The sh_link of the symbol table leads to none of the section headers. The guest reads whatever lies there.',
  },
  'link-not-strtab': {
    outcome: 'found',
    meaning: 'The sh_link of the symbol table leads to a section that is not a STRTAB.',
  },
  'table-outside-size': {
    outcome: 'found',
    meaning: 'A table reaches beyond the bytes that the size word counts. No guest checks that.',
  },
  'table-cut': {
    outcome: 'found',
    meaning: 'A table reaches outside the memory. When the guest uses the symbols, it reads whatever lies there.',
  },
  'table-size-odd': {
    outcome: 'found',
    meaning: "The size of the symbol table is not a multiple of a symbol's. FreeBSD counts the rest as one more.",
  },
  'tables-overlap': {
    outcome: 'found',
    meaning: 'The string table overlaps the symbol table, which NetBSD packs and sorts in place.',
  },
  'symbols-cut-off': {
    outcome: 'found',
    meaning: 'NetBSD keeps the size in 32 bits and takes no more than 98303 symbols. The rest is not in its table.',
  },
  'name-outside-table': {
    outcome: 'found',
    meaning: 'The name of a symbol lies outside the string table. No guest checks that.',
  },
  'name-unterminated': {
    outcome: 'found',
    meaning: 'The name of a symbol runs to the end of the string table without a NUL.',
  },
  'section-names-missing': {
    outcome: 'found',
    meaning: 'The e_shstrndx does not lead to a string table, where NetBSD with DTrace reads section names.',
  },
} as const satisfies Readonly<Record<string, GuestFinding>>;

/** Stable for ever. */
export type GuestFindingCode = keyof typeof GUEST_FINDINGS;
/** The codes of one outcome. */
type CodeOf<Outcome extends GuestOutcome> = {
  [Code in GuestFindingCode]: (typeof GUEST_FINDINGS)[Code]['outcome'] extends Outcome ? Code : never;
}[GuestFindingCode];
/** Why a guest finds no symbols. */
type NoneCode = CodeOf<'none'>;
/** Which read left the memory. */
export type OutsideCode = CodeOf<'undefined'>;
/** What a guest misreads, or will misread, when it finds its symbols. */
export type GuestWarningCode = CodeOf<'found'>;

const codesWith = <Outcome extends GuestOutcome>(outcome: Outcome): CodeOf<Outcome>[] =>
  (Object.keys(GUEST_FINDINGS) as GuestFindingCode[]).filter(
    (code): code is CodeOf<Outcome> => GUEST_FINDINGS[code].outcome === outcome,
  );
/** In the order in which they are reported. */
export const GUEST_WARNINGS: readonly GuestWarningCode[] = codesWith('found');
/** All values of a verdict's `why`. */
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

/** The guest reads outside the memory. */
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
