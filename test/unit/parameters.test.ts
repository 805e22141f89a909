import * as fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { describe, expect, test } from 'vitest';
import { parameterSchema } from '../../src/http/schemas.ts';
import {
  FLAT_PARAMETERS,
  findSymbolConflict,
  KERNEL_PARAMETERS,
  LAYOUT_PARAMETERS,
  LOAD_PARAMETERS,
  type Parameter,
  ParameterReader,
  type Parameters,
  quote,
  Refusal,
  SYMBOL_PARAMETERS,
  suggestName,
  toSymbolQuery,
  VERIFY_PARAMETERS,
} from '../../src/parameters.ts';

const { parse: parseAddress } = LOAD_PARAMETERS.loadAddress;

describe('addresses', () => {
  test.each([
    ['0', 0n],
    ['1', 1n],
    ['0x0', 0n],
    ['0X0a', 10n],
    ['0x0000000000001129', 0x1129n],
    ['0xffffffffffffffff', 2n ** 64n - 1n],
    ['18446744073709551615', 2n ** 64n - 1n],
  ])('%s is read', (text, address) => {
    expect(parseAddress(text)).toBe(address);
  });

  test('are read as they are written, or refused', () => {
    const written = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(written, fc.integer({ min: 1, max: 4 }), (value, zeros) => {
        expect(parseAddress(`0x${value.toString(16)}`)).toBe(value);
        expect(parseAddress(value.toString())).toBe(value);
        expect(parseAddress(`${'0'.repeat(zeros)}${value}`)).toBeInstanceOf(Refusal);
        expect(parseAddress(value.toString(16).padStart(17, '0'))).toBeInstanceOf(Refusal);
      }),
    );
  });

  test('that are refused are spelled right in the advice, whenever there is such a spelling', () => {
    const written = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(written, fc.integer({ min: 8, max: 20 }), (value, width) => {
        const text = value.toString(16).padStart(width, '0');
        const parsed = parseAddress(text);
        fc.pre(parsed instanceof Refusal);
        const spellings = parsed.advice.match(/\b(?:0x[0-9a-f]+|\d+)\b/g) ?? [];
        expect(spellings.map((spelling) => parseAddress(spelling))).toContain(value);
      }),
    );
  });

  test('of a hostile length are refused in a few words', () => {
    for (const text of ['9'.repeat(100_000), '0'.repeat(100_000), `0x${'f'.repeat(100_000)}`]) {
      const parsed = parseAddress(text);
      expect(parsed instanceof Refusal && parsed.advice.length < 200).toBe(true);
    }
  });
});

const TABLES: Readonly<Record<string, Parameters>> = {
  LAYOUT_PARAMETERS,
  KERNEL_PARAMETERS,
  FLAT_PARAMETERS,
  SYMBOL_PARAMETERS,
  VERIFY_PARAMETERS,
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
  fc.constantFrom(...all.flatMap(([, { schema }]) => schema.enum ?? [])),
);

/** What fits a schema and is refused all the same: what a schema cannot say. */
const isBeyondSchema = ({ schema }: Parameter, value: string): boolean =>
  schema.pattern === undefined ? schema.minLength !== undefined && value.includes('\0') : BigInt(value) >= 2n ** 64n;
const accepts = (parameter: Parameter, value: string): boolean => !(parameter.parse(value) instanceof Refusal);

describe.each(all)('%s', (_, parameter) => {
  const { schema } = parameter;

  test('accepts what its documented schema does', () => {
    const documented = Compile(parameterSchema({ parameter }));
    const isNumber = schema.type === 'integer';
    fc.assert(
      fc.property(text, (value) => {
        const read = isNumber ? (/^\d+$/.test(value) ? Number(value) : null) : value;
        const fits = documented.Check({ parameter: parameter.maxValues === undefined ? read : [read] });
        expect(accepts(parameter, value)).toBe(fits && !isBeyondSchema(parameter, value));
      }),
    );
  });

  test('accepts its default, its examples and what it lists', () => {
    const { default: fallback = [], examples = [], enum: listed = [] } = schema;
    const values = [fallback, examples, listed].flat();
    expect(values.filter((value) => !accepts(parameter, value))).toEqual([]);
    expect(parameter.fallback).toBe(schema.default);
  });

  test('says what is accepted, in sentences', () => {
    const parsed = parameter.parse('\0'.repeat(2000));
    const advice = parsed instanceof Refusal ? parsed.advice : '';
    expect(advice).toMatch(/^[A-Z].*\.$/);
    for (const value of schema.enum ?? []) expect(advice).toContain(value);
  });
});

const given = <P extends Parameters>(
  parameters: P,
  values: Readonly<Record<string, string | readonly string[]>>,
): ParameterReader<P> => {
  const reader = new ParameterReader(parameters);
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) expect(reader.read(name, one)).toBeNull();
  }
  return reader;
};

describe('values', () => {
  test('have the documented defaults', () => {
    const { values } = given(LAYOUT_PARAMETERS, {});
    expect(values).toEqual({ loader: 'xen-4.8', loadAddress: null, onBroken: 'reject', compareWith: null });
    expect(given(FLAT_PARAMETERS, {}).values).toEqual({ loader: 'xen-4.8', symbols: 'auto', onBroken: 'reject' });
    expect(given(KERNEL_PARAMETERS, {}).values).toEqual({});
  });

  test('are what was given', () => {
    const common = { loader: 'libxc-4.6', onBroken: 'load' } as const;
    const load = given(LAYOUT_PARAMETERS, { ...common, loadAddress: '0x10', compareWith: 'xen-4.6' });
    expect(load.values).toEqual({ ...common, loadAddress: 16n, compareWith: 'xen-4.6' });
    expect(given(FLAT_PARAMETERS, { ...common, symbols: 'never' }).values).toEqual({ ...common, symbols: 'never' });
    expect(given(VERIFY_PARAMETERS, { address: '4096' }).values).toEqual({ address: 4096n });
  });

  test('are refused when they are none, and one that is refused is not kept', () => {
    const reader = given(LOAD_PARAMETERS, {});
    for (const value of [undefined, null, 1, ['load'], {}]) {
      expect(reader.read('onBroken', value)).toEqual({
        code: 'parameter-invalid',
        detail: `onBroken is a value of type ${typeof value}. It must be text.`,
      });
    }
    expect(reader.read('onBroken', 'x'.repeat(100))?.detail).toBe(
      `onBroken is "${'x'.repeat(40)}…". Accepted values: reject, load.`,
    );
    expect([reader.isGiven('onBroken'), reader.values.onBroken]).toEqual([false, 'reject']);
  });

  test('of names that has() does not know are a defect', () => {
    expect(() => given(LOAD_PARAMETERS, {}).read('constructor', 'x')).toThrow('has()');
  });
});

const query = (values: Readonly<Record<string, string | readonly string[]>>, limit: number | null): unknown =>
  toSymbolQuery(given(SYMBOL_PARAMETERS, values).values, limit);

const conflict = (...names: string[]): string | null => findSymbolConflict((name) => names.includes(name));

describe('a query for symbols', () => {
  test('is by name, by address, or for a page', () => {
    expect(query({ name: ['a', 'b'] }, 5)).toEqual({ names: ['a', 'b'] });
    expect(query({ address: ['0x10', '7'] }, 5)).toEqual({ addresses: [16n, 7n] });
    const page = { after: 0, types: [], binds: [], prefix: '' };
    expect(query({}, 5)).toEqual({ page: { ...page, limit: 5 } });
    expect(query({}, null)).toEqual({ page: { ...page, limit: null } });
    expect(query({ type: ['FUNC'], bind: 'WEAK', prefix: 'x', limit: '7', after: '3' }, 5)).toEqual({
      page: { after: 3, limit: 7, types: [2], binds: [2], prefix: 'x' },
    });
  });

  test('is of one kind', () => {
    for (const names of [[], ['name'], ['address'], ['type', 'limit']]) expect(conflict(...names)).toBeNull();
    expect(conflict('name', 'after')).toMatch(/^name and after exclude each other\. /);
    expect(conflict('limit', 'address')).toMatch(/^address and limit exclude each other\. /);
  });
});

test('names that differ only in case or hyphens are suggested', () => {
  expect(suggestName('load-address', ['loader', 'loadAddress'])).toBe('It is spelled loadAddress.');
  expect(suggestName('--LoadAddress', ['--loader', '--loadAddress'])).toBe('It is spelled --loadAddress.');
  expect(suggestName('load', ['loader', 'loadAddress'])).toBe('Known names: loader, loadAddress.');
  expect(suggestName('load', [])).toBe('There are none.');
});

test('what is repeated to the caller is short, and marked as what it is', () => {
  expect(quote('a"b')).toBe('"a\\"b"');
  expect(quote('x'.repeat(41))).toBe(`"${'x'.repeat(40)}…"`);
  expect(quote(undefined)).toBe('a value of type undefined');
});
