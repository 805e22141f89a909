/** Holds an image by reference against its upload. */
import { randomInt } from 'node:crypto';
import { type Answer, json, post, send } from './http.ts';
import { named, type TestOrigin } from './origin.ts';
import { NOTHING_OCCUPIED, occupied, type Service } from './service.ts';

export const IMAGE_ROUTES = ['/bsdsyms', '/layout', '/kernel', '/image', '/symbols'] as const;

/** What must be the same of two answers: all but what names the request, the time and the connection. */
function essence({ status, headers, body, text }: Answer): unknown {
  const kept = Object.entries(headers).filter(
    ([name]) =>
      name.startsWith('bsdsyms-') ||
      ['content-type', 'content-length', 'content-disposition', 'repr-digest'].includes(name),
  );
  if (status === 200) return { status, headers: Object.fromEntries(kept), body: body.toString('base64') };
  const { instance: _instance, ...problem } = json({ text });
  return { status, problem };
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
    const query = route === '/bsdsyms' ? `?${new URLSearchParams(parameters).toString()}` : '';
    const headers = { 'want-repr-digest': 'sha-256=1' };
    const sent = await post(service, `${route}${query}`, image, headers);
    const referred = await send(service, named(route, url, route === '/bsdsyms' ? parameters : {}), { headers });
    const [expected, actual] = [essence(sent), essence(referred)].map((answer) => JSON.stringify(answer));
    // An empty body is told as one, an empty file as one.
    if (expected !== actual)
      differences.push(`${name} ${route}: ${actual?.slice(0, 300)} instead of ${expected?.slice(0, 300)}`);
  }
  return differences;
}

/** How often what became of an image that changes while it is read. */
interface ChangeCounts {
  whole: number;
  refused: number;
  cut: number;
  /** Answers that are of no version of the image. */
  mixed: string[];
}

/**
 * Changes an image at random moments while its blob is asked for: before, between and during the requests to its origin.
 * Every answer must be of one version, refused, or cut off.
 */
export async function changeAtRandom(
  service: Service,
  origin: TestOrigin,
  versions: readonly Uint8Array[],
  times: number,
): Promise<ChangeCounts> {
  const counts: ChangeCounts = { whole: 0, refused: 0, cut: 0, mixed: [] };
  const blobs: string[] = [];
  for (const version of versions) blobs.push((await post(service, '/bsdsyms', version)).body.toString('base64'));
  if (new Set(blobs).size !== versions.length) throw new Error('the versions have the same blob');
  let current = 0;
  let until = 0;
  const put = (): void => {
    current = (current + 1) % versions.length;
    origin.serve('/changing', versions[current] ?? new Uint8Array(), { etag: `"${current}"` });
  };
  origin.misbehaviour = () => {
    until -= 1;
    if (until === 0) put();
    return false;
  };
  put();
  for (let time = 0; time < times; time++) {
    // After so many requests of this image, or of the next one.
    until = randomInt(1, 9);
    const timer = randomInt(2) === 0 ? setTimeout(put, randomInt(6)) : undefined;
    try {
      const answer = await send(service, named('/bsdsyms', `${origin.url}/changing`));
      if (answer.status === 409) counts.refused += 1;
      else if (answer.status === 200 && blobs.includes(answer.body.toString('base64'))) counts.whole += 1;
      else counts.mixed.push(`${answer.status} ${answer.status === 200 ? answer.body.length : answer.text}`);
    } catch {
      counts.cut += 1;
    }
    clearTimeout(timer);
  }
  return counts;
}

/** Whether everything that requests occupied has come back. */
export const isIdle = (service: Service): boolean =>
  JSON.stringify(occupied(service)) === JSON.stringify(NOTHING_OCCUPIED);
