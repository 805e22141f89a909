/** Gathers the parameters of an upload, from the query and the fields of a form. */
import { ParameterReader, type Parameters, type ParameterValues, quote, suggestName } from '../parameters.ts';
import { Problem } from './problem.ts';

/** Gathers the parameters of one request. Each is parsed as it arrives, so that a bad one is refused before the body is read. */
export class ParameterCollector<P extends Parameters> {
  readonly #reader: ParameterReader<P>;
  readonly #fields = new Set<string>();

  /** @param parameters those of the route */
  constructor(parameters: P) {
    this.#reader = new ParameterReader(parameters);
  }

  get names(): readonly string[] {
    return this.#reader.names;
  }

  get values(): ParameterValues<P> {
    return this.#reader.values;
  }

  has(name: string): boolean {
    return this.#reader.has(name);
  }

  isGiven(name: string): boolean {
    return this.#reader.isGiven(name);
  }

  /** @throws Problem parameter-unknown, parameter-conflict or parameter-invalid */
  addQuery(query: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(query)) {
      if (!this.has(name)) {
        const detail = `${quote(name)} is not a parameter of this route. ${suggestName(name, this.names)}`;
        throw new Problem('parameter-unknown', detail);
      }
      if (Array.isArray(value) && !this.#reader.isRepeatable(name)) {
        throw new Problem('parameter-conflict', `${name} is given more than once in the query.`);
      }
      for (const one of [value].flat()) this.#add(name, one);
    }
  }

  /**
   * @param name one that `has` knows
   * @throws Problem parameter-conflict or parameter-invalid
   */
  addField(name: string, value: unknown): void {
    if (this.#fields.has(name) && !this.#reader.isRepeatable(name)) {
      throw new Problem('parameter-conflict', `${name} is given more than once in the form.`);
    }
    this.#fields.add(name);
    this.#add(name, value);
  }

  #add(name: string, value: unknown): void {
    const fault = this.#reader.read(name, value);
    if (fault !== null) throw new Problem(fault.code, fault.detail);
  }
}
