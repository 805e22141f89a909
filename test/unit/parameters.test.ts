import * as fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { describe, expect, test } from 'vitest';
import { parameterSchema } from '../../src/http/schemas.ts';
import {
  accepts,
  explainRefusal,
  FLAT_PARAMETERS,
  findSymbolConflict,
  type GivenParameters,
  isAddress,
  KERNEL_PARAMETERS,
  LOAD_PARAMETERS,
  type Parameter,
  type Parameters,
  SYMBOL_PARAMETERS,
  toFlatRequest,
  toLoadRequest,
  toSymbolQuery,
} from '../../src/parameters.ts';

describe('isAddress', () => {
  test.each(['0', '1', '0x0', '0xffffffffffffffff', '18446744073709551615'])('%s fits', (text) => {
    expect(isAddress(text)).toBe(true);
  });

  test.each(['0x10000000000000000', '18446744073709551616', '99999999999999999999'])('%s does not', (text) => {
    expect(isAddress(text)).toBe(false);
  });
});

const TABLES: Readonly<Record<string, Parameters>> = {
  LOAD_PARAMETERS,
  KERNEL_PARAMETERS,
  FLAT_PARAMETERS,
  SYMBOL_PARAMETERS,
};
const all = Object.entries(TABLES).flatMap(([table, parameters]) =>
  Object.entries(parameters).map(([name, parameter]): [string, Parameter] => [`${name} of ${table}`, parameter]),
);
const text = fc.oneof(
  fc.string(),
  fc.bigInt({ min: 0n, max: 2n ** 65n }).map(String),
  fc.bigInt({ min: 0n, max: 2n ** 65n }).map((value) => `0x${value.toString(16)}`),
  fc.nat().map(String),
  fc.string({ minLength: 1000, maxLength: 1050 }),
  fc.constantFrom('0', '1', '007', '1000000', '1000001', '9007199254740991', '9007199254740992', '1e3', '-1', '+1'),
  fc.constantFrom(...all.flatMap(([, parameter]) => parameter.enum ?? [])),
);

describe.each(all)('%s', (_, parameter) => {
  test('accepts what its documented schema does and its check lets pass', () => {
    const { check: passes = () => true, type } = parameter;
    const documented = Compile(parameterSchema({ parameter }));
    const read = (value: string): unknown => {
      if (type !== 'integer') return value;
      return /^\d+$/.test(value) ? Number(value) : null;
    };
    fc.assert(
      fc.property(text, (value) => {
        const given = parameter.maxValues === undefined ? read(value) : [read(value)];
        expect(accepts(parameter, value)).toBe(documented.Check({ parameter: given }) && passes(value));
      }),
    );
  });

  test('accepts its default, its examples and what it lists', () => {
    const { default: fallback = [], examples = [], enum: listed = [] } = parameter;
    const values = [fallback, examples, listed].flat();
    expect(values.filter((value) => !accepts(parameter, value))).toEqual([]);
  });

  test.each([undefined, null, 1, ['load'], {}])('does not accept what is no text: %s', (value) => {
    expect(accepts(parameter, value)).toBe(false);
  });

  test('says what is accepted', () => {
    const sentence = explainRefusal('it', parameter, 'x'.repeat(100));
    expect(sentence).toMatch(/^it is "x{40}…"\. /);
    for (const value of parameter.enum ?? [parameter.description]) expect(sentence).toContain(value);
  });
});

const limits = { maxBlobBytes: 1, maxFlatBytes: 2 };
const given = (values: Readonly<Record<string, string | readonly string[]>>): GivenParameters => {
  const lists = new Map(Object.entries(values).map(([name, value]) => [name, [value].flat()]));
  return { get: (name) => lists.get(name)?.[0], getAll: (name) => lists.get(name) ?? [] };
};

describe('requests', () => {
  test('have the documented defaults', () => {
    const load = toLoadRequest(given({}), limits);
    expect(load).toEqual({
      loader: 'xen-4.8',
      loadAddress: null,
      onBroken: 'reject',
      compareWith: null,
      maxBlobBytes: 1,
    });
    expect([load.loader, load.onBroken]).toEqual([LOAD_PARAMETERS.loader.default, LOAD_PARAMETERS.onBroken.default]);
    const flat = toFlatRequest(given({}), limits);
    expect(flat).toEqual({ loader: 'xen-4.8', symbols: 'auto', onBroken: 'reject', ...limits });
    expect(flat.symbols).toBe(FLAT_PARAMETERS.symbols.default);
  });

  test('have what was given', () => {
    const common = { loader: 'libxc-4.6', onBroken: 'load' } as const;
    expect(toLoadRequest(given({ ...common, loadAddress: '0x10' }), limits)).toMatchObject({
      ...common,
      loadAddress: 16n,
    });
    expect(toFlatRequest(given({ ...common, symbols: 'never' }), limits)).toMatchObject({
      ...common,
      symbols: 'never',
    });
  });

  test('of symbols are by name, by address, or for a page', () => {
    expect(toSymbolQuery(given({ name: ['a', 'b'] }), 5)).toEqual({ names: ['a', 'b'] });
    expect(toSymbolQuery(given({ address: ['0x10', '7'] }), 5)).toEqual({ addresses: [16n, 7n] });
    const page = { after: 0, types: [], binds: [], prefix: '' };
    expect(toSymbolQuery(given({}), 5)).toEqual({ page: { ...page, limit: 5 } });
    expect(toSymbolQuery(given({}), null)).toEqual({ page: { ...page, limit: null } });
    expect(toSymbolQuery(given({ type: ['FUNC'], bind: 'WEAK', prefix: 'x', limit: '7', after: '3' }), 5)).toEqual({
      page: { after: 3, limit: 7, types: [2], binds: [2], prefix: 'x' },
    });
  });

  test('of symbols are of one kind', () => {
    for (const values of [{}, { name: ['a', 'b'] }, { address: '1' }, { type: 'FUNC', limit: '1' }]) {
      expect(findSymbolConflict(given(values))).toBeNull();
    }
    expect(findSymbolConflict(given({ name: 'a', after: '1' }))).toMatch(/^name and after exclude each other\. /);
    expect(findSymbolConflict(given({ limit: '1', address: '1' }))).toMatch(/^address and limit exclude each other\. /);
  });
});
