/** A strict reader of the text format of Prometheus (exposition format 0.0.4). */

import { send } from './http.ts';
import type { Service } from './service.ts';

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly name: string;
  readonly labels: Labels;
  readonly value: number;
}

interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

interface OpenFamily extends Family {
  type: string;
  samples: Sample[];
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/;
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)/y;
const VALUE = /^(?:[+-]Inf|NaN|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
};

export class Exposition {
  readonly families: ReadonlyMap<string, Family>;

  /** @throws Error that shows the line which is not as the format has it */
  constructor(text: string) {
    if (!text.endsWith('\n')) throw new Error('the last line has no end');
    const families = new Map<string, OpenFamily>();
    const seen = new Set<string>();
    let family: OpenFamily | undefined;
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const help = HELP.exec(line);
      const type = TYPE.exec(line);
      if (help !== null) {
        const [, name = '', words = ''] = help;
        if (families.has(name)) throw new Error(`twice: ${line}`);
        family = { name, help: words, type: '', samples: [] };
        families.set(name, family);
      } else if (type !== null) {
        const [, name, kind = ''] = type;
        if (family === undefined || family.name !== name || family.type !== '') throw new Error(`misplaced: ${line}`);
        family.type = kind;
      } else {
        if (family === undefined || family.type === '') throw new Error(`before its TYPE: ${line}`);
        const sample = readSample(line);
        const suffixes = SUFFIXES[family.type] ?? [''];
        const { name } = family;
        if (!suffixes.some((suffix) => sample.name === name + suffix)) throw new Error(`misplaced: ${line}`);
        const series = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).map(String).sort())}`;
        if (seen.has(series)) throw new Error(`twice: ${line}`);
        seen.add(series);
        family.samples.push(sample);
      }
    }
    this.families = families;
  }

  samples(name: string): readonly Sample[] {
    return [...this.families.values()].flatMap(({ samples }) => samples).filter((sample) => sample.name === name);
  }

  /** The sum over all series of this name that have these labels; 0 when there is none. */
  sum(name: string, labels: Labels = {}): number {
    return this.samples(name)
      .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0);
  }

  /** All series of this name that have counted something, the values of their labels joined by blanks. */
  counts(name: string): Record<string, number> {
    const counted = this.samples(name).filter(({ value }) => value > 0);
    return Object.fromEntries(counted.map(({ labels, value }) => [Object.values(labels).join(' '), value]));
  }

  /** The values that a label has anywhere. */
  labelValues(label: string): Set<string> {
    const samples = [...this.families.values()].flatMap((family) => family.samples);
    return new Set(samples.flatMap(({ labels }) => (labels[label] === undefined ? [] : [labels[label]])));
  }
}

function readSample(line: string): Sample {
  const [, name = '', labelText = '', valueText = ''] = SAMPLE.exec(line) ?? [];
  if (name === '' || !VALUE.test(valueText)) throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  for (let at = 0; at < labelText.length; at = LABEL.lastIndex) {
    const [, label = '', value = ''] = LABEL.exec(labelText) ?? [];
    if (label === '' || label in labels) throw new Error(`bad labels: ${line}`);
    labels[label] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
  }
  return { name, labels, value: Number(valueText.replace('Inf', 'Infinity')) };
}

/** What /metrics says now. */
export async function scrape(service: Pick<Service, 'port'>): Promise<Exposition> {
  const answer = await send(service, '/metrics', { headers: { connection: 'close' } });
  if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}: ${answer.text}`);
  return new Exposition(answer.text);
}
