/** The reference's measured answers through real HTTP, in both modes of upload. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Layout } from '../../src/report/schemas.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { imageForm } from '../support/forms.ts';
import { type Answer, json, post, postForm } from '../support/http.ts';
import { type Service, startService } from '../support/service.ts';
import { type BsdsymsVector, describeVector, imageOf, readBsdsymsVectors } from '../support/vectors.ts';

/** Of each kind of case that many are taken, spread evenly. */
const PER_KIND = 24;
const AT_ONCE = 8;

const all = readBsdsymsVectors();
const kinds = Map.groupBy(all, kindOf);
const chosen = [...kinds.values()].flatMap((cases) => spread(cases, PER_KIND));
/** Images that have symbols at some load address: their string table is not what a refusal is about. */
const linked = new Set(all.filter(({ expect: { region } }) => region !== null).map(({ image }) => image));

let service: Service;
beforeAll(async () => {
  // The limit that the vectors were measured with.
  service = await startService({ BSDSYMS_MAX_BLOB_BYTES: String(1024 * 1024) });
});
afterAll(() => service.close());

describe('the vectors over HTTP', () => {
  test('are of all kinds', () => {
    const outcomes = new Set(chosen.map(outcomeOf));
    expect([...outcomes].sort()).toEqual([...new Set(all.map(outcomeOf))].sort());
    expect(chosen.length).toBeGreaterThan(600);
  });

  test.each([...Map.groupBy(chosen, outcomeOf)])('%s', async (_outcome, cases) => {
    const mismatches: unknown[] = [];
    const rest = cases.entries();
    const work = async (): Promise<void> => {
      for (const [index, vector] of rest) {
        // A raw body without a byte is no image at all, which the reference is never asked about.
        const raw = index % 2 === 0 && vector.image !== '';
        const { actual, expected } = await compare(vector, raw ? 'raw' : 'form');
        if (JSON.stringify(actual) !== JSON.stringify(expected)) {
          mismatches.push({ case: describeVector(vector), actual, expected });
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    expect(mismatches).toEqual([]);
  });
});

type Mode = 'raw' | 'form';
type Measured = Readonly<Record<string, unknown>>;

/** By what the reference says of it, its stage, and the make of its image. */
function kindOf(vector: BsdsymsVector): string {
  const make = /^[hn]_\d\d[bl]e|^[a-z]/.exec(vector.name)?.[0] ?? 'other';
  return `${make} ${vector.expect.broken?.stage ?? ''} ${outcomeOf(vector)}`;
}

function outcomeOf({ expect: { init, broken, region, blob } }: BsdsymsVector): string {
  if (init !== 'ok') return init;
  const verdict = broken === null ? 'clean' : broken.reason;
  if (blob !== null) return `blob, ${verdict}`;
  return `${region === null ? 'no region' : 'region refused'}, ${verdict}`;
}

function spread<T>(items: readonly T[], count: number): T[] {
  const step = Math.max(1, items.length / count);
  return Array.from({ length: Math.min(count, items.length) }, (_, index) => items[Math.floor(index * step)]).filter(
    (item) => item !== undefined,
  );
}

async function compare(vector: BsdsymsVector, mode: Mode): Promise<{ actual: Measured[]; expected: Measured[] }> {
  const { broken, blob } = vector.expect;
  const strict = await ask(vector, mode, 'reject', 'application/octet-stream');
  const lenient = broken === null || blob === null ? [] : [await ask(vector, mode, 'load', 'application/octet-stream')];
  const layout = await ask(vector, mode, 'load', 'application/json');
  const expectedLenient = blob === null ? refusal(vector) : blobAnswer(vector);
  return {
    actual: [...[strict, ...lenient].map((answer) => measureBlob(answer, vector)), measureLayout(layout, vector)],
    expected: [
      broken === null ? expectedLenient : refusal(vector),
      ...lenient.map(() => expectedLenient),
      blob === null ? refusal(vector) : layoutAnswer(vector),
    ],
  };
}

function ask({ image, loadAddress }: BsdsymsVector, mode: Mode, onBroken: string, accept: string): Promise<Answer> {
  const parameters = { onBroken, ...(loadAddress === null ? {} : { loadAddress }) };
  const bytes = imageOf({ image });
  if (mode === 'form') return postForm(service, '/bsdsyms', imageForm(bytes, parameters), { accept });
  return post(service, `/bsdsyms?${new URLSearchParams(parameters).toString()}`, bytes, { accept });
}

function measureBlob(answer: Answer, vector: BsdsymsVector): Measured {
  if (answer.status !== 200) return measureRefusal(answer, vector);
  const { headers, body } = answer;
  return {
    status: 200,
    pstart: headers['bsdsyms-pstart'],
    end: headers['bsdsyms-pend'],
    broken: headers['bsdsyms-broken'] ?? null,
    announced: headers['content-length'],
    length: body.length,
    sizeWord: body.readUInt32LE(0),
    sha256: createHash('sha256').update(body).digest('hex'),
  };
}

function measureLayout(answer: Answer, vector: BsdsymsVector): Measured {
  if (answer.status !== 200) return measureRefusal(answer, vector);
  const { kernel, bsdsyms, broken } = JSON.parse(answer.text) as Layout;
  return {
    status: 200,
    kernel: { pstart: kernel.pstart, pend: kernel.pend },
    region: { pstart: bsdsyms.pstart, pend: bsdsyms.xenReservedEnd },
    end: bsdsyms.pend,
    length: bsdsyms.size,
    sizeWord: bsdsyms.sizeWord,
    broken: broken && { stage: broken.stage, reason: broken.reason },
  };
}

/** Where the reference is silent on what the matter is, one of several codes is taken for the first of them. */
function measureRefusal(answer: Answer, vector: BsdsymsVector): Measured {
  const { code, reason } = json(answer);
  const codes = refusalCodes(vector);
  return { status: answer.status, code: codes.includes(String(code)) ? codes[0] : code, reason };
}

function refusal(vector: BsdsymsVector): Measured {
  const [code = ''] = refusalCodes(vector);
  const kind = Object.entries(BROKEN_KINDS).find(([name]) => name === code)?.[1];
  return { status: 422, code, reason: kind?.reason };
}

/** By the rules on codes: a failure of `init` first, then the reason that the reference recorded, then this service's own. */
function refusalCodes({ image, loadAddress, expect: { init, broken, kernel, region } }: BsdsymsVector): string[] {
  if (init !== 'ok') return [init];
  if (broken !== null) {
    const named = Object.entries(BROKEN_KINDS).find(([, { reason }]) => reason === broken.reason);
    return [named?.[0] ?? `no code for ${broken.reason}`];
  }
  if (region !== null) {
    const wraps = BigInt(region.pend) < BigInt(region.pstart);
    return wraps ? ['load-address-unusable', 'region-too-large'] : ['region-too-large'];
  }
  const address = BigInt(loadAddress ?? kernel?.pend ?? 0);
  if (linked.has(image)) return ['load-address-unusable'];
  // What is rounded up to 2^64 or is 0 is no place for symbols; whether their strings can be found is asked before.
  const unusable = address === 0n || address > 2n ** 64n - 8n;
  return unusable ? ['strtab-link-invalid', 'load-address-unusable'] : ['strtab-link-invalid'];
}

function blobAnswer(vector: BsdsymsVector): Measured {
  const { region, blob, broken } = vector.expect;
  if (blob === null || region === null) throw new Error('the vector has no blob');
  return {
    status: 200,
    pstart: region.pstart,
    end: `0x${(BigInt(region.pstart) + BigInt(blob.length)).toString(16)}`,
    broken: broken === null ? null : refusalCodes(vector)[0],
    announced: String(blob.length),
    length: blob.length,
    sizeWord: blob.sizeWord,
    sha256: blob.sha256,
  };
}

function layoutAnswer({ expect: { kernel, region, blob, broken } }: BsdsymsVector): Measured {
  if (blob === null || region === null || kernel === null) throw new Error('the vector has no layout');
  return {
    status: 200,
    kernel: { pstart: kernel.pstart, pend: kernel.pend },
    region: { pstart: region.pstart, pend: region.pend },
    end: `0x${(BigInt(region.pstart) + BigInt(blob.length)).toString(16)}`,
    length: blob.length,
    sizeWord: blob.sizeWord,
    broken: broken && { stage: broken.stage, reason: broken.reason },
  };
}
