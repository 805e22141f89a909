/** The sections of the page: from what was found out to elements. */
import type { KernelReport, Layout, SymbolReport, VerifyReport } from '../report/schemas.ts';
import { GUESTS } from '../xen/guests/verdict.ts';
import { button, code, el, facts, scrolling, table } from './elements.ts';
import type { RefusedFinding, SymbolAnswer } from './messages.ts';
import { describeGuest, GUEST_TITLES, type Point, type Verdict } from './verdict.ts';
import { bytes, group, hexdump, plural } from './words.ts';

const SIGNS = { good: ['✓', 'Yes'], bad: ['✗', 'No'], none: ['·', ''] } as const;

function point({ met, text }: Point): HTMLElement {
  const tone = met === null ? 'none' : met ? 'good' : 'bad';
  const [sign, word] = SIGNS[tone];
  return el(
    'li',
    {},
    el('span', { class: `sign ${tone}`, 'aria-hidden': 'true' }, sign),
    ...(word === '' ? [] : [el('span', { class: 'hidden' }, `${word}: `)]),
    text,
  );
}

/** @param actions buttons that follow from the verdict */
export function showVerdict(
  { tone, headline, points, advice }: Verdict,
  file: string,
  actions: readonly HTMLElement[],
): HTMLElement {
  return el(
    'section',
    { class: `verdict ${tone}`, 'aria-labelledby': 'verdict-title', 'data-tone': tone },
    el('p', { class: 'file' }, file),
    el('h2', { id: 'verdict-title', tabindex: -1 }, headline),
    el('ul', { class: 'points', role: 'list' }, ...points.map(point)),
    ...(advice.length === 0 ? [] : [el('h3', {}, 'What to do'), ...advice.map((text) => el('p', {}, text))]),
    ...(actions.length === 0 ? [] : [el('p', { class: 'actions' }, ...actions)]),
  );
}

/** Where in the file a reason was found. */
export function showPlace({ problem, place }: RefusedFinding): HTMLElement | null {
  if (place === null || (place.offset === null && place.bytes === null)) return null;
  const { what, offset, length } = place;
  return el(
    'section',
    { 'aria-labelledby': 'place-title' },
    el('h2', { id: 'place-title' }, 'Where in the file'),
    facts([
      ['what was read', what],
      ...(offset === null ? [] : ([['offset', code(offset)]] as const)),
      ...(length === null ? [] : ([['length', code(length)]] as const)),
      ...(problem.stage === undefined ? [] : ([['stage of the loader', code(problem.stage)]] as const)),
      ['code', el('a', { href: `problems/${problem.code}` }, problem.code)],
    ]),
    place.bytes === null || offset === null
      ? el('p', {}, 'The file has no bytes there.')
      : scrolling('Bytes at this place', el('pre', {}, hexdump(place.bytes, BigInt(offset)))),
  );
}

export function showGuests(guests: VerifyReport['guests']): HTMLElement {
  const rows = GUESTS.map((name) => [
    GUEST_TITLES[name],
    { found: '✓ found', none: '✗ none', undefined: '? unknown' }[guests[name].outcome],
    describeGuest(guests[name]),
  ]);
  return el(
    'section',
    { 'aria-labelledby': 'guests-title' },
    el('h2', { id: 'guests-title' }, 'What each guest finds'),
    table('What guests make of the blob', ['Guest', 'Symbols', 'What it reads'], rows),
  );
}

export function showWarnings(
  warnings: Layout['warnings'],
  meanings: Readonly<Record<string, string>>,
): HTMLElement | null {
  if (warnings.length === 0) return null;
  const items = warnings.map(({ code: name, detail }) =>
    el('li', {}, el('strong', {}, code(name)), ` ${detail} ${meanings[name] ?? ''}`),
  );
  return el(
    'section',
    { 'aria-labelledby': 'warnings-title' },
    el('h2', { id: 'warnings-title' }, plural(warnings.length, 'warning')),
    el('ul', {}, ...items),
  );
}

const place = (range: { readonly offset: number; readonly size: number } | null): string =>
  range === null ? '–' : `+${group(range.offset)}, ${bytes(range.size)}`;

export function showComparison(comparison: Layout['comparison'], loader: string): HTMLElement | null {
  if (comparison === undefined) return null;
  const title = el('h2', { id: 'comparison-title' }, `What ${comparison.loader} does differently from ${loader}`);
  const section = (...children: readonly HTMLElement[]): HTMLElement =>
    el('section', { 'aria-labelledby': 'comparison-title' }, title, ...children);
  if (comparison.broken !== null && comparison.broken !== undefined) {
    return section(el('p', {}, `It does not load this image: ${comparison.broken.detail}`));
  }
  if (comparison.identical) return section(el('p', {}, 'Nothing: both write the same bytes.'));
  const rows = comparison.differences.map(({ kind, what, range, otherRange, fields, meaning }) => [
    what,
    kind,
    place(range),
    place(otherRange),
    `${meaning} ${fields.map(({ name, value, other }) => `${name}: ${value}, there ${other}.`).join(' ')}`.trim(),
  ]);
  const more = comparison.unlisted > 0 ? [el('p', {}, `${plural(comparison.unlisted, 'more difference')}.`)] : [];
  return section(table('Differences', ['Part', 'Kind', loader, comparison.loader, 'Meaning'], rows), ...more);
}

const describeStart = (ok: boolean, why: { readonly reason: string } | null, error: string | null): string =>
  ok ? 'yes' : `no: ${why?.reason ?? ''}${error === null ? '' : ` (${error})`}`;

export function showKernel({
  image,
  segments,
  unlistedSegments,
  notes,
  builder,
  xen,
  kernel,
}: KernelReport): HTMLElement {
  const { takes, pv, hvm } = builder;
  const noteRows = Object.entries(notes).map(([name, value]) => [code(name), code(value)]);
  const segmentRows = segments.map((segment) => [
    String(segment.index),
    segment.flags,
    ...[segment.offset, segment.paddr, segment.vaddr, segment.filesz, segment.memsz, segment.align].map(code),
  ]);
  return el(
    'section',
    { 'aria-labelledby': 'kernel-title' },
    el('h2', { id: 'kernel-title' }, 'The kernel, as Xen sees it'),
    facts([
      ['starts as PV guest', describeStart(pv.ok, pv.why, xen.pv.error)],
      ['starts as PVH guest', describeStart(hvm.ok, hvm.why, xen.hvm.error)],
      ...(pv.guestType === null ? [] : ([['type of PV guest', code(pv.guestType)]] as const)),
      ...(takes.ok ? [] : ([['the file itself', takes.why?.reason ?? 'refused']] as const)),
      ['file', `${image.class}, ${image.machine}, ${image.byteOrder}, ${image.type}, ${bytes(image.size)}`],
      ...(image.buildId === null ? [] : ([['build ID', code(image.buildId)]] as const)),
      ['guest memory', code(`${kernel.pstart} to ${kernel.pend}`)],
      ['asks for its symbols', xen.pv.bsdSymtab || xen.hvm.bsdSymtab ? 'yes (BSD_SYMTAB)' : 'no'],
    ]),
    noteRows.length === 0 ? el('p', {}, 'It has no Xen notes.') : table('Xen’s notes', ['Note', 'Value'], noteRows),
    el(
      'details',
      {},
      el('summary', {}, plural(segments.length + (unlistedSegments ?? 0), 'loadable segment')),
      table(
        'Segments',
        ['#', 'Flags', 'p_offset', 'p_paddr', 'p_vaddr', 'p_filesz', 'p_memsz', 'p_align'],
        segmentRows.slice(0, MAX_SEGMENT_ROWS),
      ),
    ),
  );
}

const MAX_SEGMENT_ROWS = 100;

/** @param search asks for symbols; it rejects with a sentence for the user */
export function showSymbolSearch(search: (text: string) => Promise<SymbolAnswer>): HTMLElement {
  const input = el('input', {
    id: 'symbol',
    autocomplete: 'off',
    spellcheck: 'false',
    'aria-describedby': 'symbol-help',
  });
  const output = el('div', { 'aria-live': 'polite', id: 'symbols-found' });
  const form = el(
    'form',
    { class: 'search', role: 'search' },
    el(
      'p',
      {},
      el('label', { for: 'symbol' }, 'Name, beginning of a name, or address'),
      input,
      el('small', { id: 'symbol-help' }, 'For example main, vm_ or 0xffffffff80200000'),
    ),
    el('button', { type: 'submit' }, 'Search'),
  );
  let asked = 0;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    asked += 1;
    const own = asked;
    const show = (...nodes: readonly Node[]): void => {
      if (own === asked) output.replaceChildren(...nodes);
    };
    show(el('p', {}, 'Searching …'));
    search(input.value).then(
      (answer) => show(...showSymbols(answer)),
      (error: unknown) => show(el('p', {}, error instanceof Error ? error.message : String(error))),
    );
  });
  return el(
    'section',
    { 'aria-labelledby': 'symbols-title' },
    el('h2', { id: 'symbols-title' }, 'Search its symbols'),
    form,
    output,
  );
}

function showSymbols(answer: SymbolAnswer): readonly Node[] {
  if (answer.by === 'address') {
    const { address, symbol, offset } = answer.address;
    if (symbol === null) return [el('p', {}, `No symbol stands for ${address}.`)];
    const distance = offset === 0 ? '' : ` + ${typeof offset === 'number' ? `0x${offset.toString(16)}` : offset}`;
    return [
      el('p', {}, code(address), ' is ', code(`${symbol.name ?? '(no name)'}${distance}`), '.'),
      listSymbols([symbol]),
    ];
  }
  const { by, symbols, more } = answer;
  if (symbols.length === 0) return [el('p', {}, 'No symbol has this name, and none begins with it.')];
  const what =
    by === 'name' ? plural(symbols.length, 'symbol') : `${plural(symbols.length, 'symbol')} whose names begin so`;
  return [el('p', {}, more ? `The first ${what}.` : `${what}.`), listSymbols(symbols)];
}

const listSymbols = (symbols: readonly SymbolReport[]): HTMLElement =>
  table(
    'Symbols',
    ['Name', 'Value', 'Size', 'Type', 'Binding', 'Section', 'Index'],
    symbols.map(({ name, value, size, type, bind, section, index }) => [
      code(name ?? '(outside the string table)'),
      code(value),
      String(size),
      type,
      bind,
      String(section),
      String(index),
    ]),
  );

export interface Download {
  readonly text: string;
  readonly onClick: () => void;
}

export function showTake(
  downloads: readonly Download[],
  commands: readonly (readonly [label: string, text: string])[],
): HTMLElement {
  return el(
    'section',
    { 'aria-labelledby': 'take-title' },
    el('h2', { id: 'take-title' }, 'Take it with you'),
    el('p', { class: 'actions' }, ...downloads.map(({ text, onClick }) => button(text, onClick))),
    ...commands.flatMap(([label, text]) => [el('h3', {}, label), command(text)]),
  );
}

function command(text: string): HTMLElement {
  const copy = button('Copy', () => {
    navigator.clipboard.writeText(text).then(
      () => (copy.textContent = 'Copied'),
      () => (copy.textContent = 'Not allowed'),
    );
  });
  copy.setAttribute('aria-label', `Copy: ${text}`);
  return el('div', { class: 'command' }, el('pre', { class: 'wrap' }, text), copy);
}

const tableOf = (one: VerifyReport['blob']['symtab']): string =>
  one === null
    ? 'none'
    : `offset ${group(one.offset)}, ${one.size === null ? 'size unknown' : `${group(one.size)} bytes`}`;

export function showBlob({ blob }: VerifyReport): HTMLElement {
  return el(
    'section',
    { 'aria-labelledby': 'blob-title' },
    el('h2', { id: 'blob-title' }, 'What the bytes say'),
    facts([
      ['bytes given', bytes(blob.size)],
      ['size word', blob.sizeWord === null ? 'missing' : `${group(blob.sizeWord)} (0x${blob.sizeWord.toString(16)})`],
      ['end of the blob', blob.end === null ? 'unknown' : `+${group(blob.end)}`],
      ['ELF header', blob.class === null ? 'none' : `${blob.class}, ${blob.byteOrder ?? ''}, ${blob.machine ?? ''}`],
      ['written by', blob.loader ?? 'no known loader'],
      ['section headers', blob.sections === null ? 'unknown' : group(blob.sections)],
      ['symbol table', tableOf(blob.symtab)],
      ['string table', tableOf(blob.strtab)],
    ]),
  );
}
