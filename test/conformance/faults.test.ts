/** Single images on which this project and the reference once disagreed, with what the reference answered. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { flattenImage, inspectKernel } from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import type { GuestParameters } from '../../src/xen/notes/guest-parameters.ts';
import { collect } from '../support/load.ts';

interface Fault {
  readonly name: string;
  readonly what: string;
  readonly image?: string;
  readonly imageGzip?: string;
  readonly request?: string;
  /** A list of answers, or the text of one; none where the rule says it. */
  readonly expected?: string | readonly Readonly<Record<string, unknown>>[];
}

const lines = readFileSync(new URL('../vectors/faults/faults.ndjson', import.meta.url), 'utf8')
  .trim()
  .split('\n');
const faults = lines.map((line) => JSON.parse(line) as Fault);
const measured = faults.filter(({ expected }) => expected !== undefined);

const imageOf = ({ image, imageGzip = '' }: Fault): MemorySource =>
  new MemorySource([
    image === undefined ? gunzipSync(Buffer.from(imageGzip, 'base64')) : new Uint8Array(Buffer.from(image, 'base64')),
  ]);

const expectedOf = ({ expected = [] }: Fault): readonly Readonly<Record<string, unknown>>[] =>
  typeof expected === 'string' ? (JSON.parse(expected) as Record<string, unknown>[]) : expected;

const hexOf = (text: string): string => Buffer.from(text, 'latin1').toString('hex');
const ALL_ONES_32 = 0xffff_ffffn;
const ALL_ONES_64 = 2n ** 64n - 1n;
const hex = (value: bigint | null, unset = ALL_ONES_64): string => (value ?? unset).toString(16);

/** A guest's parameters by the reference's short names. */
function abbreviate(guest: GuestParameters): Record<string, unknown> {
  const notes = Object.entries(guest.notes).map(([name, value]) => [
    name,
    typeof value === 'string' ? `s:${hexOf(value)}` : `n:${hex(value)}`,
  ]);
  return {
    ok: guest.ok ? 1 : 0,
    err: guest.error,
    br: guest.broken && BROKEN_KINDS[guest.broken.code].reason,
    notes: Object.fromEntries(notes),
    os: hexOf(guest.guestOs),
    gv: hexOf(guest.guestVersion),
    xv: hexOf(guest.xenVersion),
    ld: hexOf(guest.loader),
    pae: guest.pae,
    bsd: guest.bsdSymtab ? 1 : 0,
    ui: guest.unmappedInitrd ? 1 : 0,
    pr: guest.physReloc ? 1 : 0,
    fs: hex(guest.supportedFeatures),
    fr: hex(guest.requiredFeatures),
    pe: hex(guest.physEntry, ALL_ONES_32),
    pa: hex(guest.physAlign, ALL_ONES_32),
    pmin: hex(guest.physMin),
    pmax: hex(guest.physMax),
    vb: hex(guest.virtBase),
    ve: hex(guest.virtEntry),
    vh: hex(guest.virtHypercall),
    hl: hex(guest.virtHvStartLow),
    p2m: hex(guest.p2mBase),
    po: hex(guest.elfPaddrOffset),
    ks: hex(guest.virtKstart),
    ke: hex(guest.virtKend),
    rs: hex(guest.bsdsyms?.pstart ?? 0n),
    re: hex(guest.bsdsyms?.pend ?? 0n),
  };
}

async function inspect(fault: Fault): Promise<readonly Record<string, unknown>[]> {
  const result = await inspectKernel(imageOf(fault));
  if (!result.ok) throw new Error(result.broken.detail);
  return [abbreviate(result.xen.pv), abbreviate(result.xen.hvm)];
}

async function flatten(fault: Fault): Promise<Record<string, unknown>> {
  const source = imageOf(fault);
  const result = await flattenImage(source, { symbols: 'always', onBroken: 'load' });
  if (!result.ok) throw new Error(result.broken.detail);
  const bytes = await collect(streamExtents(source, result.plan.extents));
  return {
    rc: 0,
    len: bytes.length,
    ps: hex(result.plan.pstart),
    br: result.broken?.reason ?? null,
    h: createHash('sha256').update(bytes).digest('hex').slice(0, 32),
  };
}

describe('the faults', () => {
  test('are all there', () => {
    expect(faults).toHaveLength(20);
    expect(measured).toHaveLength(13);
  });

  test.each(measured)('$name: $what', async (fault) => {
    const expected = expectedOf(fault);
    const isAboutNotes = fault.request?.startsWith('inspectKernel') === true;
    const answers = isAboutNotes ? await inspect(fault) : [await flatten(fault)];
    // Some have the answer for PV only.
    expect(answers.slice(0, expected.length)).toEqual(expected);
  });

  const named = (name: string): Fault => {
    const fault = faults.find((one) => one.name === name);
    if (fault === undefined) throw new Error(`there is no fault ${name}`);
    return fault;
  };

  test('an entry of all ones is unset', async () => {
    const result = await inspectKernel(imageOf(named('all-ones-entry-1')));
    expect(result).toMatchObject({ ok: true, xen: { pv: { virtEntry: null } } });
  });

  test('a string of 4,096 bytes and a NUL is good', async () => {
    const result = await inspectKernel(imageOf(named('string-4096-1')));
    expect(result).toMatchObject({
      ok: true,
      xen: { pv: { broken: null, guestOs: expect.stringMatching(/^.{15}$/) } },
    });
  });

  test('a string that has no NUL where the image ends is out of range', async () => {
    const result = await inspectKernel(imageOf(named('string-4096-2')));
    expect(result).toMatchObject({ ok: true, xen: { pv: { broken: { code: 'out-of-range-access' } } } });
  });

  test.each(faults.filter(({ name }) => name.startsWith('hostile-time')))(
    '$what: the chain is read once',
    async (fault) => {
      const source = imageOf(fault);
      const read = source.read.bind(source);
      let bytesRead = 0;
      source.read = (offset, length) => {
        bytesRead += length;
        return read(offset, length);
      };
      expect(await inspectKernel(source)).toMatchObject({ ok: true });
      expect(bytesRead).toBeLessThan(8 * source.size);
    },
  );
});
