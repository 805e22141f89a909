/** `POST /layout?compareWith=`: what another loader does differently. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SHT_SYMTAB } from '../../src/elf/format.ts';
import type { Layout } from '../../src/report/schemas.ts';
import { kernel } from '../support/elf-builder.ts';
import { json, post, problem, verdict } from '../support/http.ts';
import { type Service, startService } from '../support/service.ts';

const { bytes } = kernel({ symbols: 10 });

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.close());

async function compare(image: Uint8Array, query: string): Promise<NonNullable<Layout['comparison']>> {
  const answer = await post(service, `/layout?${query}`, image);
  expect(answer.status).toBe(200);
  const { comparison } = json(answer) as unknown as Layout;
  if (comparison === undefined) throw new Error('there is no comparison');
  return comparison;
}

test('without it there is no comparison', async () => {
  expect(json(await post(service, '/layout', bytes))).not.toHaveProperty('comparison');
});

test('a loader is identical with itself', async () => {
  const { identical, differences, loader } = await compare(bytes, 'compareWith=xen-4.8');
  expect([identical, differences, loader]).toEqual([true, [], 'xen-4.8']);
});

test('what differs is named, with where it is in both', async () => {
  const comparison = await compare(bytes, 'compareWith=xen-4.6');
  const { bsdsyms } = json(await post(service, '/layout?loader=xen-4.6', bytes)) as unknown as Layout;
  expect(comparison).toMatchObject({
    loader: 'xen-4.6',
    broken: null,
    size: bsdsyms.size,
    identical: false,
    unlisted: 0,
  });
  const by = new Map(comparison.differences.map((one) => [one.what, one]));
  expect(by.get('size word')).toMatchObject({ kind: 'changed', range: { offset: 0, size: 4 } });
  const header = by.get('ELF header');
  expect(header?.fields.map(({ name }) => name)).toEqual(['e_shnum', 'e_shstrndx']);
  expect(header?.fields[0]).toEqual({ name: 'e_shnum', value: '0x3', other: '0x5' });
  const symtab = bsdsyms.sections.find(({ type }) => type === 'SYMTAB');
  expect(by.get('symbol table')).toMatchObject({
    kind: 'moved',
    range: { offset: 264 },
    otherRange: { offset: symtab?.offset, size: symtab?.size },
  });
  expect(comparison.differences.filter(({ kind }) => kind === 'added').map(({ what }) => what)).toContain(
    'section header 1 (PROGBITS)',
  );
});

test('a loader that does not load the image says why', async () => {
  const comparison = await compare(kernel({ class: 'ELF32' }).bytes, 'compareWith=xen-4.7');
  expect(comparison).toMatchObject({ broken: { code: 'loader-unsupported-class' }, size: null, identical: false });
});

test('it is for the layout only, and for loaders that there are', async () => {
  expect(verdict(await post(service, '/bsdsyms?compareWith=xen-4.6', bytes))).toEqual(
    problem(400, 'parameter-unknown'),
  );
  expect(verdict(await post(service, '/layout?compareWith=xen-4.5', bytes))).toEqual(problem(400, 'parameter-invalid'));
});

test('of thousands of sections the first thousand differences are listed', async () => {
  const many = kernel({ before: Array.from({ length: 3000 }, () => ({ name: 'x' })) });
  const comparison = await compare(many.bytes, 'loader=xen-4.6&compareWith=libxc-4.6');
  expect(comparison.differences).toHaveLength(1000);
  expect(comparison.unlisted).toBeGreaterThan(1900);
});

describe('an image with a symbol table in section 0, which xen-4.7 takes and xen-4.8 does not', () => {
  const { section } = kernel({ symbols: 10 });
  const nullSection = {
    sh_type: SHT_SYMTAB,
    sh_link: section('.strtab').index,
    sh_offset: section('.symtab').offset,
    sh_size: 24,
  };
  /** The other symbol table claims more than the image has. */
  const { bytes: twoFaced } = kernel({ symbols: 10, nullSection, symtab: { header: { sh_size: 2 ** 20 } } });
  const reason = { code: 'out-of-range-access', stage: 'load' };

  test('is refused by either as it is when asked alone', async () => {
    expect((await post(service, '/layout?loader=xen-4.7', twoFaced)).status).toBe(200);
    expect(verdict(await post(service, '/layout', twoFaced))).toEqual(problem(422, 'out-of-range-access'));
  });

  test('what xen-4.8 records is not held against xen-4.7', async () => {
    const comparison = await compare(twoFaced, 'onBroken=load&compareWith=xen-4.7');
    expect(comparison).toMatchObject({ loader: 'xen-4.7', broken: null, identical: false });
    expect(comparison.differences).not.toEqual([]);
  });

  test('xen-4.8 refuses it, unless broken images are to be loaded', async () => {
    const refused = await compare(twoFaced, 'loader=xen-4.7&compareWith=xen-4.8');
    expect(refused).toMatchObject({ broken: reason, size: null, identical: false, differences: [] });
    const loaded = await compare(twoFaced, 'loader=xen-4.7&compareWith=xen-4.8&onBroken=load');
    expect(loaded).toMatchObject({ broken: null, identical: false });
  });
});
