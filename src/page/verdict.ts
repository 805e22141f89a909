/** The verdict that stands first: one sentence, what it rests on, and what to do. */
import { hex } from '../elf/hex.ts';
import type { CheckReport, KernelReport, Layout, VerifyReport } from '../report/schemas.ts';
import { GUEST_FINDINGS, type GuestFindingCode, type GuestName } from '../xen/guests/verdict.ts';
import type { RefusedFinding } from './messages.ts';
import { bytes, enumerate, group, plural } from './words.ts';

/** `good`: nothing to do. `doubtful`: it works only in part. `bad`: no symbols. */
export type Tone = 'good' | 'doubtful' | 'bad';

export interface Point {
  /** Null for what is neither good nor bad. */
  readonly met: boolean | null;
  readonly text: string;
}

export interface Verdict {
  readonly tone: Tone;
  readonly headline: string;
  readonly points: readonly Point[];
  readonly advice: readonly string[];
}

/** What is known so far about a kernel; null for what is not known yet, or never will be. */
export interface Known {
  readonly layout: Layout | null;
  readonly meanings: Readonly<Record<string, string>>;
  readonly refused: RefusedFinding | null;
  readonly kernel: KernelReport | null;
  readonly requirements: CheckReport['requirements'] | null;
}

export const GUEST_TITLES: Readonly<Record<GuestName, string>> = {
  freebsd: 'FreeBSD',
  netbsd: 'NetBSD',
  netbsdKdtrace: 'NetBSD with DTrace',
  xtf: 'Xen Test Framework',
};

/** @returns null while nothing is known */
export function judgeKernel(known: Known): Verdict | null {
  const { layout, refused } = known;
  if (refused !== null) return judgeRefused(refused, known);
  return layout === null ? null : judgeLoaded(layout, known);
}

function judgeRefused({ problem, explanation, canLoad }: RefusedFinding, known: Known): Verdict {
  return {
    tone: 'bad',
    headline: `No symbols: ${lowerFirst(problem.title)}.`,
    points: [
      { met: false, text: problem.detail },
      ...(problem.reason === undefined || problem.reason === null
        ? []
        : [{ met: null, text: `In Xen’s own words: “${problem.reason}”.` }]),
      ...describeStart(known.kernel),
    ],
    advice: [
      explanation,
      ...(canLoad
        ? [
            'Xen itself would go on despite this. The option “If the image is broken: continue as Xen does” shows what it makes of it.',
          ]
        : []),
    ],
  };
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

function judgeLoaded(layout: Layout, { kernel, requirements, meanings }: Known): Verdict {
  const { bsdsyms, broken, warnings } = layout;
  const symtab = bsdsyms.sections.find(({ type }) => type === 'SYMTAB');
  const symbols = plural(Math.max(0, (symtab?.entries ?? 1) - 1), 'symbol');
  const unmet = requirements?.find(({ met }) => !met);
  const starts = kernel === null || kernel.builder.pv.ok || kernel.builder.hvm.ok;
  const place = `${bytes(bsdsyms.size)} at ${bsdsyms.pstart}, after the kernel, which ends at ${layout.kernel.pend}.`;
  const isAsked = requirements?.find(({ name }) => name === 'symbols-requested')?.met !== false;
  const points: Point[] = [
    {
      met: broken === null,
      text: `${isAsked ? 'Xen places' : 'If it asked, Xen would place'} ${symbols} in guest memory: ${place}`,
    },
    ...(broken === null ? [] : [{ met: false, text: `It does so although the image is broken: ${broken.detail}` }]),
    ...(requirements ?? []).filter(({ name }) => name !== 'symbols').map(({ met, detail }) => ({ met, text: detail })),
    ...describeStart(kernel),
  ];
  // What is not met stands among the points.
  const advice = warnings.flatMap(({ code }) => (code === unmet?.code ? [] : (meanings[code] ?? [])));
  if (broken !== null) {
    return {
      tone: 'doubtful',
      headline: 'The image is broken. This is what Xen makes of it all the same.',
      points,
      advice,
    };
  }
  if (unmet !== undefined)
    return { tone: 'doubtful', headline: headlineOf(unmet), points, advice: adviseUnmet(unmet, advice, kernel) };
  const guest = requirements?.find(({ name }) => name in GUESTS)?.name;
  const finder = guest === undefined ? 'Xen loads its symbols' : `${GUESTS[guest] ?? ''} finds its symbols`;
  if (!starts) return { tone: 'doubtful', headline: `${finder}, but Xen would not start it.`, points, advice };
  return {
    tone: 'good',
    headline: `${finder}.`,
    points,
    advice: [
      ...advice,
      'Nothing is left to do: the toolstack of Xen builds these bytes itself when it starts the kernel. ' +
        `If you write a toolstack or a loader of your own, place the blob at ${bsdsyms.pstart}.`,
    ],
  };
}

const GUESTS: Readonly<Record<string, string>> = {
  freebsd: 'FreeBSD',
  netbsd: 'NetBSD',
  xtf: 'The Xen Test Framework',
};

function headlineOf({ name, code }: CheckReport['requirements'][number]): string {
  if (code === 'no-xen-notes') return 'Its symbols are fine, but the kernel is not made for Xen.';
  if (name === 'symbols-requested') return 'Its symbols are fine, but the kernel does not ask for them.';
  return `Xen loads its symbols, but ${GUESTS[name] ?? 'the guest'} does not find them.`;
}

function adviseUnmet(
  { name, code }: CheckReport['requirements'][number],
  advice: readonly string[],
  kernel: KernelReport | null,
): readonly string[] {
  if (name === 'symbols-requested' && kernel?.notes['GUEST_OS'] === 'linux') {
    return [
      ...advice,
      'Nothing, if this is to run as Linux does: Linux brings its symbols along in its own image (kallsyms) and looks for none after it.',
    ];
  }
  if (code === 'no-xen-notes') {
    return [
      ...advice,
      'Build the kernel with its options for Xen guests (NetBSD: XEN3_DOMU or GENERIC with PVH; FreeBSD: GENERIC on amd64).',
    ];
  }
  if (name === 'symbols-requested') {
    return [...advice, 'Give the kernel an ELF note named Xen of type 11 (BSD_SYMTAB) with the value "yes".'];
  }
  return advice;
}

function describeStart(kernel: KernelReport | null): Point[] {
  if (kernel === null) return [];
  const { pv, hvm } = kernel.builder;
  if (pv.ok && hvm.ok) return [{ met: true, text: 'Xen would start the kernel as a PV guest and as a PVH guest.' }];
  if (pv.ok || hvm.ok) {
    const [good, bad] = pv.ok ? ['PV', 'PVH'] : ['PVH', 'PV'];
    const why = pv.ok ? hvm.why : pv.why;
    return [
      { met: true, text: `Xen would start the kernel as a ${good} guest.` },
      { met: null, text: `Not as a ${bad} guest: ${why?.reason ?? ''}.` },
    ];
  }
  const reasons = pv.why?.reason === hvm.why?.reason ? [pv.why?.reason] : [pv.why?.reason, hvm.why?.reason];
  return [
    { met: false, text: `Xen would start the kernel neither as a PV nor as a PVH guest: ${reasons.join('; ')}.` },
  ];
}

/** What a guest says, in a sentence. */
export function describeGuest({ outcome, why, symbols, warnings }: VerifyReport['guests']['freebsd']): string {
  const meaning = why === null ? '' : ` ${GUEST_FINDINGS[why as GuestFindingCode].meaning}`;
  if (outcome === 'none') return `Finds no symbols.${meaning}`;
  if (outcome === 'undefined') return `Reads outside of what is known, so nobody can say.${meaning}`;
  const remarks = warnings.map((code) => ` ${GUEST_FINDINGS[code as GuestFindingCode].meaning}`).join('');
  return `${symbols === 0 || symbols === null ? 'Finds the blob.' : `Finds ${group(symbols)} symbols.`}${remarks}`;
}

/** @param report of a blob or a dump */
export function judgeBlob({ blob, guests }: VerifyReport): Verdict {
  const names = Object.keys(GUEST_TITLES) as GuestName[];
  const finders = names.filter((name) => guests[name].outcome === 'found');
  const clean = finders.filter((name) => guests[name].warnings.length === 0);
  const first = finders.find((name) => name !== 'xtf') ?? finders[0];
  return {
    tone: finders.length === 0 ? 'bad' : clean.length === 0 ? 'doubtful' : 'good',
    headline:
      finders.length === 0
        ? 'No guest finds symbols in these bytes.'
        : `${enumerate(finders.map((name) => GUEST_TITLES[name]))} ${finders.length === 1 ? 'finds' : 'find'} symbols in these bytes.`,
    points: names.map((name) => ({
      met: guests[name].outcome === 'found' ? true : guests[name].outcome === 'none' ? false : null,
      text: `${GUEST_TITLES[name]}: ${describeGuest(guests[name])}`,
    })),
    advice: [
      ...(first === undefined
        ? [
            'Check where the dump begins: a guest looks right after the end of its image, rounded up to 8 bytes (ELF64) or 4 (ELF32).',
          ]
        : []),
      ...(blob.address === null
        ? ['Give the address that the bytes were taken from, and their alignment is checked, too.']
        : []),
      ...(blob.end !== null && blob.end > blob.size
        ? [`The dump is cut: the blob has ${bytes(blob.end)}, and here are ${bytes(blob.size)} (${hex(blob.size)}).`]
        : []),
    ],
  };
}
