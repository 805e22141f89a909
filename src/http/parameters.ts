/** Gathers the parameters of an upload, from the query and the fields of a form. */
import {
  accepts,
  explainRefusal,
  explainRepetition,
  type GivenParameters,
  type Parameters,
  quote,
} from '../parameters.ts';
import { Problem } from './problem.ts';

/** Gathers the parameters of one request. Each is checked when it arrives, so that a bad one is told before the body. */
export class ParameterCollector implements GivenParameters {
  readonly #parameters: Parameters;
  readonly #values = new Map<string, string[]>();
  readonly #fields = new Set<string>();

  /** @param parameters those of the route */
  constructor(parameters: Parameters) {
    this.#parameters = parameters;
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
    return Object.hasOwn(this.#parameters, name);
  }

  /** @throws Problem parameter-conflict or parameter-invalid */
  addField(name: string, value: unknown): void {
    if (this.#fields.has(name) && !this.#isRepeatable(name))
      throw new Problem('parameter-conflict', `${name} stands more than once in the form.`);
    this.#fields.add(name);
    this.#add(name, value);
  }

  #add(name: string, value: unknown): void {
    const parameter = this.#parameters[name];
    if (parameter === undefined) throw new Error(`${name} was not asked for with has()`);
    if (!accepts(parameter, value)) throw new Problem('parameter-invalid', explainRefusal(name, parameter, value));
    const values = this.#values.get(name) ?? [];
    const [before] = values;
    if (parameter.maxValues !== undefined) {
      if (values.length === parameter.maxValues) {
        throw new Problem('parameter-invalid', explainRepetition(name, parameter));
      }
    } else if (before !== undefined) {
      if (before === value) return;
      throw new Problem('parameter-conflict', `${name} was given as ${quote(before)} and as ${quote(value)}.`);
    }
    this.#values.set(name, values);
    values.push(value);
  }

  /** What was given under this name; it is accepted. */
  get(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  /** All that was given under the name of a repeatable parameter: the query first, each in its order. */
  getAll(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  #isRepeatable(name: string): boolean {
    return this.#parameters[name]?.maxValues !== undefined;
  }

  #known(): string {
    return `Known are ${Object.keys(this.#parameters).join(', ')}.`;
  }
}
