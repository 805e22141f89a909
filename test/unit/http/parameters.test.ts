import { describe, expect, test } from 'vitest';
import { ParameterCollector } from '../../../src/http/parameters.ts';
import { Problem } from '../../../src/http/problem.ts';
import { LOAD_PARAMETERS, type Parameters, Refusal, SYMBOL_PARAMETERS } from '../../../src/parameters.ts';

const collector = (): ParameterCollector<typeof LOAD_PARAMETERS> => new ParameterCollector(LOAD_PARAMETERS);

function problemOf(run: () => unknown): { readonly code: string; readonly detail: string } {
  try {
    run();
  } catch (error) {
    if (error instanceof Problem) return { code: error.code, detail: error.message };
    throw error;
  }
  return { code: 'none', detail: '' };
}

const word = (...values: readonly string[]) => ({
  schema: { enum: values, description: 'A word.' },
  parse: (text: string) => (values.includes(text) ? text : new Refusal('Use another word.')),
});

const limitOf = (value: string): string =>
  problemOf(() => new ParameterCollector(SYMBOL_PARAMETERS).addField('limit', value)).code;

describe('ParameterCollector', () => {
  test('keeps what was given, from the query and from the form', () => {
    const parameters = collector();
    parameters.addQuery({ loadAddress: '0x10' });
    parameters.addField('onBroken', 'load');
    expect(parameters.values).toEqual({ loadAddress: 16n, onBroken: 'load', loader: 'xen-4.8' });
    expect(['loadAddress', 'onBroken', 'loader'].map((name) => parameters.isGiven(name))).toEqual([true, true, false]);
  });

  test('knows its names, and nothing that objects inherit', () => {
    expect(['loadAddress', 'loader', 'onBroken'].every((name) => collector().has(name))).toBe(true);
    for (const name of ['', 'loadaddress', 'constructor', '__proto__', 'toString']) {
      expect(collector().has(name)).toBe(false);
      expect(problemOf(() => collector().addQuery(Object.fromEntries([[name, 'x']]))).code).toBe('parameter-unknown');
    }
  });

  test('lists the names that it knows', () => {
    expect(problemOf(() => collector().addQuery({ nonsense: '1' })).detail).toBe(
      '"nonsense" is not a parameter of this route. Known names: loadAddress, loader, onBroken.',
    );
  });

  test.each([['', '0x', '0xg', '-1', '1.0', '0o7', '1n', '١', '0x10000000000000000', '18446744073709551616']])(
    'refuses addresses that are none: %s',
    (...values) => {
      for (const value of values) {
        const { code, detail } = problemOf(() => collector().addField('loadAddress', value));
        expect([value, code]).toEqual([value, 'parameter-invalid']);
        expect(detail).toContain(JSON.stringify(value));
        expect(detail).toContain('2^64-1');
      }
    },
  );

  test.each([undefined, null, 1, ['1'], {}])('refuses what is no text: %s', (value) => {
    expect(problemOf(() => collector().addField('loadAddress', value)).code).toBe('parameter-invalid');
  });

  test('refuses lists in the query', () => {
    expect(problemOf(() => collector().addQuery({ onBroken: ['load', 'load'] }))).toEqual({
      code: 'parameter-conflict',
      detail: 'onBroken is given more than once in the query.',
    });
  });

  test('refuses two values, and takes the same one from query and form', () => {
    const parameters = collector();
    parameters.addQuery({ onBroken: 'load' });
    parameters.addField('onBroken', 'load');
    expect(parameters.values.onBroken).toBe('load');

    const other = collector();
    other.addQuery({ onBroken: 'load' });
    const { code, detail } = problemOf(() => other.addField('onBroken', 'reject'));
    expect([code, detail]).toEqual(['parameter-conflict', 'onBroken was given as "load" and as "reject".']);
  });

  test('refuses a field that stands twice, even with the same value', () => {
    const parameters = collector();
    parameters.addField('onBroken', 'load');
    const { code, detail } = problemOf(() => parameters.addField('onBroken', 'load'));
    expect([code, detail]).toEqual(['parameter-conflict', 'onBroken is given more than once in the form.']);
  });

  const repeatables = {
    name: { ...word('a', 'b', 'c', 'd'), maxValues: 3 },
    kind: { ...word('x', 'y'), maxValues: 3 },
    limit: word('1', '2'),
  } as const satisfies Parameters;

  test('keeps all values of a repeatable parameter, those of the query first', () => {
    const parameters = new ParameterCollector(repeatables);
    parameters.addQuery({ name: ['a', 'b'], kind: 'y' });
    parameters.addField('name', 'a');
    expect(parameters.values).toEqual({ name: ['a', 'b', 'a'], kind: ['y'], limit: null });
  });

  test('refuses one value too many, and each that does not fit', () => {
    const full = new ParameterCollector(repeatables);
    full.addQuery({ name: ['a', 'b', 'c'] });
    expect(problemOf(() => full.addField('name', 'd'))).toEqual({
      code: 'parameter-invalid',
      detail: 'name is given more than 3 times.',
    });
    const empty = (): ParameterCollector<typeof repeatables> => new ParameterCollector(repeatables);
    expect(problemOf(() => empty().addQuery({ name: ['a', 'b', 'c', 'd'] })).code).toBe('parameter-invalid');
    expect(problemOf(() => empty().addQuery({ name: ['a', ''] })).detail).toBe('name is "". Use another word.');
    expect(problemOf(() => empty().addQuery({ kind: ['x', 'z'] })).code).toBe('parameter-invalid');
  });

  test.each(['1', '1000000', '007'])('takes whole numbers in their range: %s', (text) => {
    expect(limitOf(text)).toBe('none');
  });

  test.each(['0', '1000001', '', ' 1', '+1', '1e1', '0x1', '1.0', '9'.repeat(20)])('refuses others: %s', (text) => {
    expect(limitOf(text)).toBe('parameter-invalid');
  });

  test('quotes long values only in part', () => {
    const { detail } = problemOf(() => collector().addField('loader', 'x'.repeat(10_000)));
    expect(detail.length).toBeLessThan(300);
    expect(detail).toContain(`"${'x'.repeat(40)}…"`);
  });
});
