/** The parameters of an upload, from the query and the fields of a form, checked against their schema. */
import type { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { Problem } from './problem.ts';

/** Longest value that is told back to the caller. */
const MAX_ECHO_CHARS = 40;

/** How often a repeatable parameter may be given. */
export const MAX_REPEATS = 100;

interface Checker {
  readonly accepts: string;
  /** How often it may be given: once, unless its schema is that of an array. */
  readonly maxValues: number;
  check(value: string): boolean;
}

/** Gathers the parameters of one request. Each is checked when it arrives, so that a bad one is told before the body. */
export class ParameterCollector {
  readonly #checkers: ParameterCheckers;
  readonly #values = new Map<string, string[]>();
  readonly #fields = new Set<string>();

  constructor(checkers: ParameterCheckers) {
    this.#checkers = checkers;
  }

  /** @throws Problem parameter-unknown, parameter-conflict or parameter-invalid */
  addQuery(query: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(query)) {
      if (!this.has(name)) {
        throw new Problem('parameter-unknown', `${quote(name)} is not a parameter of this route. ${this.#known()}`);
      }
      if (Array.isArray(value) && !this.#isRepeatable(name)) {
        throw new Problem('parameter-conflict', `${name} stands more than once in the query.`);
      }
      for (const one of [value].flat()) this.#add(name, one);
    }
  }

  has(name: string): boolean {
    return this.#checkers.has(name);
  }

  /** @throws Problem parameter-conflict or parameter-invalid */
  addField(name: string, value: unknown): void {
    if (this.#fields.has(name) && !this.#isRepeatable(name))
      throw new Problem('parameter-conflict', `${name} stands more than once in the form.`);
    this.#fields.add(name);
    this.#add(name, value);
  }

  #add(name: string, value: unknown): void {
    const checker = this.#checkers.get(name);
    if (checker === undefined || typeof value !== 'string' || !checker.check(value)) {
      throw new Problem('parameter-invalid', `${name} is ${quote(value)}. ${checker?.accepts ?? ''}`);
    }
    const values = this.#values.get(name) ?? [];
    const [before] = values;
    if (checker.maxValues > 1) {
      if (values.length === checker.maxValues) {
        throw new Problem('parameter-invalid', `${name} stands more than ${checker.maxValues} times.`);
      }
    } else if (before !== undefined) {
      if (before === value) return;
      throw new Problem('parameter-conflict', `${name} was given as ${quote(before)} and as ${quote(value)}.`);
    }
    this.#values.set(name, values);
    values.push(value);
  }

  /** What was given under this name; it fits its schema. */
  get(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  /** All that was given under the name of a repeatable parameter: the query first, each in its order. */
  getAll(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  #isRepeatable(name: string): boolean {
    return (this.#checkers.get(name)?.maxValues ?? 1) > 1;
  }

  #known(): string {
    return `Known are ${[...this.#checkers.keys()].join(', ')}.`;
  }
}

export type ParameterCheckers = ReadonlyMap<string, Checker>;

/**
 * The checks of a schema's properties, to be made once. An array is a parameter that may be repeated; it has `maxItems`.
 *
 * @param also what a value that fits its schema must pass besides
 */
export function compileParameters(
  schema: Type.TObject,
  also: Readonly<Record<string, (text: string) => boolean>> = {},
): ParameterCheckers {
  return new Map(
    Object.entries(schema.properties).map(([name, property]: [string, ParameterSchema]) => {
      const { items, maxItems = 1 } = property;
      const one = items ?? property;
      const validator = Compile(one);
      const fits = one.type === 'integer' ? isInteger(validator) : (text: string) => validator.Check(text);
      const passes = also[name] ?? (() => true);
      const accepts = describe({ ...property, ...one });
      return [name, { accepts, maxValues: maxItems, check: (value) => fits(value) && passes(value) }];
    }),
  );
}

type ParameterSchema = Type.TSchema & {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly description?: string;
  readonly items?: ParameterSchema;
  readonly maxItems?: number;
};

const isInteger =
  (validator: { Check(value: unknown): boolean }) =>
  (text: string): boolean =>
    /^\d{1,16}$/.test(text) && validator.Check(Number(text));

function describe(property: ParameterSchema): string {
  if (property.enum !== undefined) return `Accepted are ${property.enum.join(', ')}.`;
  return property.description ?? '';
}

function quote(value: unknown): string {
  if (typeof value !== 'string') return `a value of type ${typeof value}`;
  return JSON.stringify(value.length > MAX_ECHO_CHARS ? `${value.slice(0, MAX_ECHO_CHARS)}…` : value);
}

const MAX_U64 = 2n ** 64n - 1n;

/** Whether a number, `0x` hex or decimal, fits into 64 bits. */
export const isAddress = (text: string): boolean => BigInt(text) <= MAX_U64;
