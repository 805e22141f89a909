/** Holds an image by reference against its upload. */
import { randomInt } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { document } from './document.ts';
import { kernel } from './elf-builder.ts';
import { type Answer, json, post, send } from './http.ts';
import { named, type TestOrigin } from './origin.ts';
import { NOTHING_OCCUPIED, occupied, type Service } from './service.ts';

/** What takes an image by reference: what takes a GET and a file. */
export const IMAGE_ROUTES = Object.keys(document.paths).filter(
  (path) => document.paths[path]?.['get'] !== undefined && document.paths[path]['post'] !== undefined,
);

/** Those of the parameters that a route takes. */
function parametersOf(route: string, parameters: Readonly<Record<string, string>>): Record<string, string> {
  const taken = document.paths[route]?.['get']?.parameters?.map(({ name }) => name) ?? [];
  return Object.fromEntries(Object.entries(parameters).filter(([name]) => taken.includes(name)));
}

/** What must be the same of two answers: all but what names the request, the time and the connection. */
function essence({ status, headers, body, text }: Answer): unknown {
  const kept = Object.entries(headers).filter(
    ([name]) =>
      name.startsWith('bsdsyms-') ||
      ['content-type', 'content-length', 'content-disposition', 'repr-digest'].includes(name),
  );
  if (status === 200) return { status, headers: Object.fromEntries(kept), body: body.toString('base64') };
  const { instance: _instance, detail, ...problem } = json({ text });
  // What was empty is a body there, and an image here.
  return { status, problem, ...(problem['code'] === 'no-image' ? {} : { detail }) };
}

/**
 * Sends an image, and names it, on every route.
 *
 * @returns where the answers differ
 */
export async function compareWithUpload(
  service: Service,
  origin: TestOrigin,
  name: string,
  image: Uint8Array,
  parameters: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const url = origin.serve('/image', image, { etag: `"${name.length}-${image.length}-${origin.requests.length}"` });
  const differences: string[] = [];
  for (const route of IMAGE_ROUTES) {
    const given = parametersOf(route, parameters);
    const headers = { 'want-repr-digest': 'sha-256=1' };
    const sent = await post(service, `${route}?${new URLSearchParams(given).toString()}`, image, headers);
    const referred = await send(service, named(route, url, given), { headers });
    const [expected, actual] = [essence(sent), essence(referred)].map((answer) => JSON.stringify(answer));
    if (expected !== actual)
      differences.push(`${name} ${route}: ${actual?.slice(0, 300)} instead of ${expected?.slice(0, 300)}`);
  }
  return differences;
}

/** Versions of one image: other names, other code, another size. Its parts lie in several pages. */
export const VERSIONS: readonly Uint8Array[] = [1, 2, 3].map((value) => {
  const symbols = Array.from({ length: 6000 }, (_, index) => ({ name: `symbol_${value}_${index}`, value }));
  return kernel({ symbols, text: { data: new Uint8Array(200_000 + value * 16).fill(value) }, memsz: 0x100000 }).bytes;
});
const CHANGING_ROUTES = ['/bsdsyms', '/image', '/symbols', '/layout'];
/** How an origin tells versions apart, if not by the size alone. */
const VALIDATORS: readonly ((version: number) => { readonly etag?: string; readonly lastModified?: string })[] = [
  (version) => ({ etag: `"${version}"` }),
  (version) => ({ etag: `W/"${version}"` }),
  (version) => ({ lastModified: `Mon, 01 Jan 2024 00:00:0${version} GMT` }),
  () => ({}),
];

const pick = <T>(list: readonly T[]): T => list[randomInt(list.length)] as T;

/** How often what became of an image that changes while it is read. */
interface ChangeCounts {
  whole: number;
  refused: number;
  cut: number;
  /** Answers that are of no version of the image. */
  mixed: string[];
}

/** Asks for an image that changes, on any route. Every answer must be of one version, refused, or cut off. */
class ChangeWatch {
  readonly counts: ChangeCounts = { whole: 0, refused: 0, cut: 0, mixed: [] };
  readonly #service: Service;
  readonly #expected: ReadonlyMap<string, readonly string[]>;

  private constructor(service: Service, expected: ReadonlyMap<string, readonly string[]>) {
    this.#service = service;
    this.#expected = expected;
  }

  /** @throws Error when a route has the same answer for two versions */
  static async start(service: Service): Promise<ChangeWatch> {
    const expected = new Map<string, string[]>();
    for (const route of CHANGING_ROUTES) {
      const answers: string[] = [];
      for (const version of VERSIONS) answers.push((await post(service, route, version)).body.toString('base64'));
      if (new Set(answers).size !== VERSIONS.length) throw new Error(`${route}: the versions have the same answer`);
      expected.set(route, answers);
    }
    return new ChangeWatch(service, expected);
  }

  async ask(url: string): Promise<void> {
    const route = pick(CHANGING_ROUTES);
    try {
      const answer = await send(this.#service, named(route, url));
      if (answer.status === 409) this.counts.refused += 1;
      else if (answer.status === 200 && this.#expected.get(route)?.includes(answer.body.toString('base64')) === true) {
        this.counts.whole += 1;
      } else {
        this.counts.mixed.push(
          `${route}: ${answer.status} ${answer.status === 200 ? answer.body.length : answer.text.slice(0, 300)}`,
        );
      }
    } catch {
      this.counts.cut += 1;
    }
  }
}

/**
 * Changes an image at random moments while it is asked for: before, between and during the requests to its origin.
 *
 * @param service one with little memory reads more while it answers
 */
export async function changeAtRandom(service: Service, origin: TestOrigin, times: number): Promise<ChangeCounts> {
  const watch = await ChangeWatch.start(service);
  let validators = pick(VALIDATORS);
  let current = 0;
  let until = 0;
  const put = (): void => {
    current = (current + 1) % VERSIONS.length;
    origin.serve('/changing', VERSIONS[current] ?? new Uint8Array(), validators(current));
  };
  origin.misbehaviour = () => {
    until -= 1;
    if (until === 0) put();
    return false;
  };
  for (let time = 0; time < times; time++) {
    validators = pick(VALIDATORS);
    put();
    // After so many requests of this image, or of the next one.
    until = randomInt(1, 9);
    const timer = randomInt(2) === 0 ? setTimeout(put, randomInt(6)) : undefined;
    await watch.ask(`${origin.url}/changing`);
    clearTimeout(timer);
    origin.requests.length = 0;
  }
  return watch.counts;
}

/** The same for a file, which is replaced or written over. */
export async function changeFileAtRandom(service: Service, path: string, times: number): Promise<ChangeCounts> {
  const watch = await ChangeWatch.start(service);
  const put = (): void => {
    const bytes = pick(VERSIONS);
    if (randomInt(2) === 0) {
      writeFileSync(path, bytes);
      return;
    }
    writeFileSync(`${path}.new`, bytes);
    renameSync(`${path}.new`, path);
  };
  put();
  for (let time = 0; time < times; time++) {
    const timers = [randomInt(60), randomInt(120)].map((afterMs) => setTimeout(put, afterMs));
    await watch.ask(`file://${path}`);
    for (const timer of timers) clearTimeout(timer);
  }
  return watch.counts;
}

/** Whether everything that requests occupied has come back. */
export const isIdle = (service: Service): boolean =>
  JSON.stringify(occupied(service)) === JSON.stringify(NOTHING_OCCUPIED);
