/** The page: takes a file, hands it to the worker, and shows what that finds out. */
import { PICTURE_CSS } from '../report/picture/theme.ts';
import { Client } from './client.ts';
import { bsdsymsCommand, curlCommand, outputName } from './commands.ts';
import { button, find } from './elements.ts';
import { makeExample } from './example.ts';
import { readFragment, withoutDefaults, writeFragment } from './fragment.ts';
import type { Finding, Order, ParameterTexts, Question } from './messages.ts';
import { parsePasted } from './pasted.ts';
import { type ReadBytes, showPicture } from './picture-view.ts';
import { trustScript } from './trust.ts';
import { judgeBlob, judgeKernel, type Known, type Verdict } from './verdict.ts';
import {
  type Download,
  showBlob,
  showComparison,
  showGuests,
  showKernel,
  showPlace,
  showSymbolSearch,
  showTake,
  showVerdict,
  showWarnings,
} from './views.ts';
import { roughly } from './words.ts';

const fileInput = find('#file', HTMLInputElement);
const blobInput = find('#blob-file', HTMLInputElement);
const parameterForm = find('#parameters', HTMLFormElement);
const verifyForm = find('#verify-form', HTMLFormElement);
const pasted = find('#pasted', HTMLTextAreaElement);
const address = find('#address', HTMLInputElement);
const statusText = find('#status-text', HTMLElement);
const progress = find('#progress', HTMLProgressElement);
const cancel = find('#cancel', HTMLButtonElement);
const results = find('#results', HTMLElement);
const dropping = find('#dropping', HTMLElement);
const example = find('#example', HTMLButtonElement);
const strippedExample = find('#example-stripped', HTMLButtonElement);
const script = find('script[data-worker]', HTMLScriptElement);

const client = new Client(trustScript(script.dataset['worker'] ?? ''), () =>
  endWork('The worker of this page has failed. Reload the page, and please report it.'),
);

const NOTHING: Known = { layout: null, meanings: {}, refused: null, kernel: null, requirements: null };

/** What is shown. */
let known: Known = NOTHING;
let fileName = '';
let fileSize = 0;
/** Whether a kernel is open, that other parameters apply to. */
let isOpen = false;
let picture = '';
/** The example that is open, which nobody has as a file. */
let shownExample: File | null = null;
/** Whether the verdict is to be brought onto the screen: of a file that was chosen, but not after a change of parameters. */
let isAwaited = false;

/** The sections in their order, each made anew when it changes. */
const SECTIONS = [
  'verdict',
  'place',
  'picture',
  'comparison',
  'guests',
  'warnings',
  'kernel',
  'symbols',
  'blob',
  'take',
] as const;
type SectionName = (typeof SECTIONS)[number];
const sections = new Map<SectionName, HTMLElement>();

function put(name: SectionName, section: HTMLElement | null): void {
  const old = sections.get(name);
  if (section === null) {
    old?.remove();
    sections.delete(name);
    return;
  }
  section.dataset['section'] = name;
  sections.set(name, section);
  if (old !== undefined) {
    old.replaceWith(section);
    return;
  }
  const next = SECTIONS.slice(SECTIONS.indexOf(name) + 1).find((later) => sections.has(later));
  const before = next === undefined ? null : (sections.get(next) ?? null);
  results.insertBefore(section, before);
}

function clear(): void {
  known = NOTHING;
  picture = '';
  sections.clear();
  results.replaceChildren();
}

function readForm(): ParameterTexts {
  const entries = [...new FormData(parameterForm)].filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return Object.fromEntries(entries);
}

function fillForm(texts: ParameterTexts): void {
  for (const [name, text] of Object.entries(texts)) {
    const field = parameterForm.elements.namedItem(name);
    if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = text;
    // A value that there is no choice for, as after a typing error.
    if (field instanceof HTMLSelectElement && field.selectedIndex === -1) field.selectedIndex = 0;
  }
}

/** @param isShown whether the page shows the same already, so that only screen readers have to say it */
function say(text: string, isShown = false): void {
  statusText.textContent = text;
  statusText.classList.toggle('hidden', isShown);
}

function begin(order: Exclude<Order, Question>, text: string): void {
  clear();
  say(text);
  progress.removeAttribute('value');
  progress.hidden = false;
  cancel.hidden = false;
  results.setAttribute('aria-busy', 'true');
  client.begin(order, {
    onFinding: show,
    onProgress({ what, done, total }) {
      progress.max = total;
      progress.value = done;
      say(`${what}: ${roughly(done)} of ${roughly(total)}`);
    },
    onEnd: endWork,
  });
}

/** @param failure a sentence, or null */
function endWork(failure: string | null): void {
  progress.hidden = true;
  cancel.hidden = true;
  results.removeAttribute('aria-busy');
  const verdict = sections.get('verdict');
  // It has grown meanwhile.
  if (isAwaited && verdict !== undefined) bringOnScreen(verdict);
  isAwaited = false;
  const headline = results.querySelector('h2')?.textContent ?? null;
  if (failure === null && headline !== null) say(`Done: ${headline}`, true);
  else say(failure ?? 'Cancelled.');
}

function open(file: File, isExample = false): void {
  fileName = file.name;
  shownExample = isExample ? file : null;
  isAwaited = true;
  fileSize = file.size;
  isOpen = true;
  begin({ kind: 'open', file, parameters: withoutDefaults(readForm()) }, `Reading ${file.name} …`);
}

function reload(): void {
  if (isOpen) begin({ kind: 'load', parameters: withoutDefaults(readForm()) }, `Reading ${fileName} …`);
}

function verify(file: Blob, name: string): void {
  fileName = name;
  fileSize = file.size;
  isOpen = false;
  isAwaited = true;
  begin({ kind: 'verify', file, address: address.value }, `Reading ${name} …`);
}

function show(finding: Finding): void {
  switch (finding.kind) {
    case 'opened':
      isOpen = true;
      return;
    case 'layout':
      known = { ...known, layout: finding.report, meanings: finding.meanings };
      picture = finding.picture;
      showLayout();
      break;
    case 'refused':
      known = { ...known, refused: finding };
      put('place', showPlace(finding));
      break;
    case 'kernel':
      known = { ...known, kernel: finding.report };
      put('kernel', showKernel(finding.report));
      break;
    case 'check':
      known = { ...known, requirements: finding.requirements };
      break;
    case 'verified':
      isOpen = false;
      putVerdict(judgeBlob(finding.report), []);
      put('guests', showGuests(finding.report.guests));
      put('blob', showBlob(finding.report));
      return;
  }
  const verdict = judgeKernel(known);
  if (verdict !== null) putVerdict(verdict, listActions());
}

function putVerdict(verdict: Verdict, actions: readonly HTMLElement[]): void {
  const section = showVerdict(verdict, describeFile(), actions);
  put('verdict', section);
  if (isAwaited) bringOnScreen(section);
}

/** On a small screen the verdict is below what the file was chosen with. */
function bringOnScreen(section: HTMLElement): void {
  requestAnimationFrame(() => section.scrollIntoView({ block: 'nearest' }));
}

const describeFile = (): string => `${fileName}, ${roughly(fileSize)}`;

function listActions(): HTMLElement[] {
  if (known.refused?.canLoad !== true) return [];
  return [button('Continue as Xen does', () => apply({ ...readForm(), onBroken: 'load' }))];
}

const readBytes: ReadBytes = async (of, offset, length) =>
  (await client.ask({ kind: 'bytes', of, offset, length }, 'bytes')).bytes;

function showLayout(): void {
  const { layout, meanings } = known;
  if (layout === null) return;
  put('picture', showPicture({ layout, picture, kernel: () => known.kernel, readBytes }));
  put('comparison', showComparison(layout.comparison, layout.bsdsyms.loader));
  if (layout.guests !== undefined) put('guests', showGuests(layout.guests));
  put('warnings', showWarnings(layout.warnings, meanings));
  put(
    'symbols',
    showSymbolSearch(async (text) => (await client.ask({ kind: 'symbols', text }, 'symbols')).answer),
  );
  put('take', showTake(listDownloads(), listCommands()));
}

function listDownloads(): Download[] {
  const name = fileName;
  const ask = (question: { readonly kind: 'blob' | 'picture' }, product: 'blob' | 'picture'): void => {
    client.ask(question, 'file').then(
      ({ file }) => save(file, outputName(name, product)),
      (error: unknown) => say(error instanceof Error ? error.message : String(error)),
    );
  };
  return [
    { text: 'Symbol blob', onClick: () => ask({ kind: 'blob' }, 'blob') },
    {
      text: 'Layout (JSON)',
      onClick: () =>
        save(new Blob([JSON.stringify(known.layout)], { type: 'application/json' }), outputName(name, 'layout')),
    },
    { text: 'Picture (SVG)', onClick: () => ask({ kind: 'picture' }, 'picture') },
    ...listExample(),
  ];
}

/** The commands are about a file, which of an example is only here. */
function listExample(): Download[] {
  const file = shownExample;
  return file === null ? [] : [{ text: 'The example kernel', onClick: () => save(file, file.name) }];
}

/** An address of a file is needed until the browser has begun to save it. */
const SAVE_MS = 60_000;

function save(file: Blob, name: string): void {
  const url = URL.createObjectURL(file);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), SAVE_MS);
}

function listCommands(): (readonly [string, string])[] {
  const parameters = withoutDefaults(readForm());
  const base = new URL('.', document.baseURI).href;
  return [
    [
      'The blob, from this service with curl (this uploads the kernel)',
      curlCommand('blob', base, fileName, parameters),
    ],
    ['The layout, likewise', curlCommand('layout', base, fileName, parameters)],
    ['The blob, with the bsdsyms command', bsdsymsCommand('blob', fileName, parameters)],
    ['The layout, likewise', bsdsymsCommand('layout', fileName, parameters)],
  ];
}

/** Takes over parameters: into the form, the address of the page, and what is shown. */
function apply(texts: ParameterTexts): void {
  fillForm(texts);
  const fragment = writeFragment(readForm());
  history.replaceState(null, '', fragment === '' ? location.pathname + location.search : fragment);
  reload();
}

// The same file may be chosen again, after it has changed.
for (const input of [fileInput, blobInput]) input.addEventListener('click', () => (input.value = ''));

// It looks like a button, and Enter presses buttons.
fileInput.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter') return;
  event.preventDefault();
  fileInput.click();
});

fileInput.addEventListener('change', () => {
  const [file] = fileInput.files ?? [];
  if (file !== undefined) open(file);
});

function openExample(name: string, strip: boolean): void {
  // With a type: for one without, browsers make up the end of the name that it is saved under.
  open(new File([makeExample({ strip })], name, { type: 'application/octet-stream' }), true);
}
example.addEventListener('click', () => openExample('example-netbsd', false));
strippedExample.addEventListener('click', () => openExample('example-netbsd.stripped', true));

parameterForm.addEventListener('submit', (event) => {
  event.preventDefault();
  apply(readForm());
});
parameterForm.addEventListener('change', () => apply(readForm()));

verifyForm.addEventListener('submit', (event) => {
  event.preventDefault();
  const [file] = blobInput.files ?? [];
  if (pasted.value.trim() === '' && file !== undefined) {
    verify(file, file.name);
    return;
  }
  const bytes = parsePasted(pasted.value);
  if (bytes === null) {
    clear();
    say(
      'These are no bytes: paste a hexdump whose offsets follow each other, plain hex digits, or base64, or choose a file.',
    );
    pasted.focus();
    return;
  }
  verify(new Blob([bytes]), 'the pasted bytes');
});

cancel.addEventListener('click', () => {
  client.begin({ kind: 'cancel' }, { onFinding() {}, onProgress() {}, onEnd: () => {} });
  endWork('Cancelled.');
});

/** Elements that a drag is over come and go one by one. */
let dragged = 0;
const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
addEventListener('dragenter', (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  dragged += 1;
  dropping.hidden = false;
});
addEventListener('dragleave', (event) => {
  if (!holdsFiles(event)) return;
  dragged -= 1;
  if (dragged <= 0) dropping.hidden = true;
});
addEventListener('dragover', (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
addEventListener('drop', (event) => {
  dragged = 0;
  dropping.hidden = true;
  const [file] = event.dataTransfer?.files ?? [];
  if (file === undefined) return;
  event.preventDefault();
  open(file);
});

addEventListener('hashchange', () => {
  fillForm(readFragment(location.hash));
  reload();
});

// No style of the picture is inline: the policy of the page forbids that.
const pictureStyle = new CSSStyleSheet();
pictureStyle.replaceSync(PICTURE_CSS);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, pictureStyle];

fillForm(readFragment(location.hash));
// Firefox keeps a file chosen over a reload.
const [kept] = fileInput.files ?? [];
if (kept !== undefined) open(kept);
