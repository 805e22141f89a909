/** The core against the reference's measured answers. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Recorded } from '../../src/elf/recorder.ts';
import { BROKEN_KINDS, type BrokenCode } from '../../src/xen/broken.ts';
import { type LoadResult, load } from '../support/load.ts';
import {
  type BsdsymsVector,
  describeVector,
  hex,
  imageOf,
  loadAddressOf,
  type Range,
  readBsdsymsVectors,
} from '../support/vectors.ts';

const vectors = readBsdsymsVectors();

/** Hand-made (h) and notes (n) images by class and byte order, real toolchains' (t), mutations (m). */
const groups = Map.groupBy(vectors, ({ name }) => /^[hn]_\d\d[bl]e|^[a-z]/.exec(name)?.[0] ?? 'other');

describe('the vectors', () => {
  test('are all there', () => {
    expect(vectors).toHaveLength(4947);
    expect([...groups.keys()].toSorted()).toEqual(
      ['h', 'n']
        .flatMap((kind) => ['32be', '32le', '64be', '64le'].map((machine) => `${kind}_${machine}`))
        .toSpliced(4, 0, 'm')
        .concat('t'),
    );
  });

  test.each([...groups])('%s: the core answers as the reference', async (_group, cases) => {
    const mismatches = [];
    for (const vector of cases) {
      const actual = answer(await load(imageOf(vector), { loadAddress: loadAddressOf(vector) }));
      const expected = expectedAnswer(vector);
      const refusal = refusalProblem(vector, actual.refusal);
      if (refusal !== null || JSON.stringify(actual.measured) !== JSON.stringify(expected)) {
        mismatches.push({ case: describeVector(vector), refusal, actual: actual.measured, expected });
      }
    }
    expect(mismatches).toEqual([]);
  });

  test('hold refusals of every kind', () => {
    const tooLarge = vectors.filter(({ expect: { region, blob } }) => region !== null && blob === null);
    const silent = vectors.filter(({ expect: { init, region, broken } }) => init === 'ok' && !region && !broken);
    expect({ tooLarge: tooLarge.length, silent: silent.length }).toEqual({ tooLarge: 210, silent: 1046 });
  });
});

interface Measured {
  readonly init: string;
  readonly broken: { readonly stage: string; readonly reason: string | null } | null;
  readonly kernel: Range | null;
  /** Null when refused: the core does not tell of regions that it does not fill. */
  readonly region: Range | null;
  readonly blob: BsdsymsVector['expect']['blob'];
}

interface Answer {
  readonly measured: Measured;
  readonly refusal: BrokenCode | null;
}

function expectedAnswer({ expect: { init, broken, kernel, region, blob } }: BsdsymsVector): Measured {
  return {
    init,
    broken: broken && { stage: broken.stage, reason: broken.reason },
    kernel: kernel && { pstart: kernel.pstart, pend: kernel.pend },
    region: region && blob && { pstart: region.pstart, pend: region.pend },
    blob: blob && { length: blob.length, sizeWord: blob.sizeWord, sha256: blob.sha256 },
  };
}

function answer(result: LoadResult): Answer {
  const nothing = { broken: null, kernel: null, region: null, blob: null };
  switch (result.outcome) {
    case 'not-elf':
      return { measured: { init: 'not-elf', ...nothing }, refusal: null };
    case 'init-failed': {
      const { code, recorded } = result.failure;
      return { measured: { init: code, ...nothing, broken: inReferenceWords(recorded) }, refusal: null };
    }
    case 'refused':
    case 'loaded': {
      const kernel = { pstart: hex(result.kernel.pstart), pend: hex(result.kernel.pend) };
      const measured = { init: 'ok', broken: inReferenceWords(result.recorded), kernel, region: null, blob: null };
      if (result.outcome === 'refused') return { measured, refusal: result.broken.code };
      const { plan, blob } = result;
      const sha256 = createHash('sha256').update(blob).digest('hex');
      return {
        measured: {
          ...measured,
          region: { pstart: hex(plan.pstart), pend: hex(plan.xenReservedEnd) },
          blob: { length: blob.length, sizeWord: plan.sizeWord, sha256 },
        },
        refusal: null,
      };
    }
  }
}

const inReferenceWords = (recorded: Recorded | null): Measured['broken'] =>
  recorded && { stage: recorded.stage, reason: BROKEN_KINDS[recorded.code].reason };

/** What is wrong with the code of a refusal. The reference only records some; for the others the core has its own. */
function refusalProblem(
  { expect: { init, region, blob, broken } }: BsdsymsVector,
  code: BrokenCode | null,
): string | null {
  const refused = init === 'ok' && blob === null;
  if (refused !== (code !== null)) return refused ? 'was not refused' : `was refused: ${code}`;
  if (code === null) return null;
  const own: readonly BrokenCode[] =
    region === null ? ['strtab-link-invalid', 'load-address-unusable'] : ['region-too-large', 'load-address-unusable'];
  const right = broken === null ? own.includes(code) : BROKEN_KINDS[code].reason === broken.reason;
  return right ? null : `was refused for another reason: ${code}`;
}
