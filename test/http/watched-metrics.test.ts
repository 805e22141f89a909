/** What alerts and the dashboard look at is in /metrics before the first request, so that they see the first event. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { REQUIREMENTS } from '../../src/inspect/check.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { post } from '../support/http.ts';
import { SOON } from '../support/patience.ts';
import { Processes } from '../support/process.ts';
import { type Exposition, scrape } from '../support/prometheus.ts';
import { startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string }[] }[];
}
interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}

const { groups } = parse(read('deploy/prometheus/alerts.yml')) as Rules;
const { panels } = JSON.parse(read('deploy/grafana/dashboard.json')) as Dashboard;
const EXPRESSIONS: readonly (readonly [string, string])[] = [
  ...groups.flatMap(({ rules }) => rules.map(({ alert, expr }) => [alert, expr] as const)),
  ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
];

/** Labels that Prometheus or Grafana add. */
const OUTSIDE = new Set(['job', 'instance']);
/** `up` is Prometheus' own. */
const SELECTOR = /\b((?:bsdsyms|process|nodejs)_\w+)(?:\{([^}]*)\})?/g;

interface Selector {
  readonly name: string;
  /** The values that each label may have. */
  readonly labels: Readonly<Record<string, readonly string[]>>;
}

function selectorsOf(expression: string): Selector[] {
  return [...expression.matchAll(SELECTOR)].map(([, name = '', matchers = '']) => {
    const labels = [...matchers.matchAll(/(\w+)(=~?|!=|!~)"([^"]*)"/g)].flatMap(
      ([text, label = '', how, values = '']) => {
        if (OUTSIDE.has(label)) return [];
        // A negative one would take in what nobody thought of.
        if (how?.startsWith('!') === true) throw new Error(`${text} in ${expression}`);
        return [[label, values.split('|')] as const];
      },
    );
    return { name, labels: Object.fromEntries(labels) };
  });
}

/** The series that a selector asks for and that are not there. */
const missing = (metrics: readonly Exposition[], { name, labels }: Selector): string[] => {
  const samples = metrics.flatMap((one) => one.samples(name));
  const wanted = Object.entries(labels).reduce<Record<string, string>[]>(
    (partial, [label, values]) => partial.flatMap((one) => values.map((value) => ({ ...one, [label]: value }))),
    [{}],
  );
  return wanted
    .filter(
      (one) => !samples.some((sample) => Object.entries(one).every(([label, value]) => sample.labels[label] === value)),
    )
    .map((one) => `${name} ${JSON.stringify(one)}`);
};

/** The metrics of a service that has had no request yet: alone, and with workers. */
async function startFresh(): Promise<Exposition[]> {
  const ports = [
    (await processes.start({ BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') }).listening()).port,
    (await processes.start({ BSDSYMS_WORKERS: '2' }).listening(2)).port,
  ];
  return Promise.all(ports.map((port) => scrape({ port })));
}

const directory = new TemporaryDirectory();
afterAll(() => directory.remove());
const processes = new Processes();
afterEach(() => processes.endAll());

test('every series that an alert or a panel selects exists from the start', async () => {
  const metrics = await startFresh();
  const selected = EXPRESSIONS.flatMap(([, expression]) => selectorsOf(expression));
  expect(selected.length).toBeGreaterThan(40);
  expect(selected.flatMap((selector) => missing(metrics, selector))).toEqual([]);
});

describe('a fresh service', () => {
  /** That a kind of event has a series at 0, whatever the values of the other labels. */
  test('has a series for every event that it can count', async () => {
    const service = await startService({ LOG_LEVEL: 'silent' });
    const before = await scrape(service);
    const watched = new Set(EXPRESSIONS.flatMap(([, expression]) => selectorsOf(expression).map(({ name }) => name)));
    const stripped = kernel({ symtab: { type: 1 } }).bytes;
    for (const path of ['/bsdsyms', '/layout', '/kernel', '/image', '/symbols', '/verify', '/check']) {
      for (const body of [kernel({ symbols: 3, notes: ASKING_NOTES }).bytes, stripped, 'no ELF', '']) {
        await post(service, path, body);
      }
    }
    await post(service, '/nowhere', '');
    await expect
      .poll(async () => (await scrape(service)).sum('bsdsyms_http_requests_total', { route: 'none' }), SOON)
      .toBe(1);
    const after = await scrape(service);
    await service.close();
    const events = [...after.families.values()]
      .filter(({ name, type }) => type === 'counter' && name.startsWith('bsdsyms_') && watched.has(name))
      .flatMap(({ samples }) => samples)
      // That of a path without a route, and of this test itself.
      .filter(({ value, labels }) => value > 0 && labels['route'] !== 'none');
    expect(events.length).toBeGreaterThan(20);
    const unseen = events.filter(
      ({ name, labels }) =>
        !before.samples(name).some((one) => one.value === 0 && JSON.stringify(one.labels) === JSON.stringify(labels)),
    );
    expect(unseen).toEqual([]);
  });

  test('counts what /check requires, met or not', async () => {
    const service = await startService({ LOG_LEVEL: 'silent' });
    expect((await scrape(service)).samples('bsdsyms_check_requirements_total')).toHaveLength(2 * REQUIREMENTS.length);
    expect((await post(service, '/check', kernel({ symbols: 3, notes: ASKING_NOTES }).bytes)).status).toBe(200);
    expect((await post(service, '/check', kernel({ symbols: 3 }).bytes)).status).toBe(422);
    expect((await scrape(service)).counts('bsdsyms_check_requirements_total')).toMatchObject({
      'symbols true': 2,
      'symbols-requested true': 1,
      'symbols-requested false': 1,
    });
    await service.close();
  });
});

test('routes are watched: all that take an image, and no other', () => {
  const { paths } = parse(read('openapi.yaml')) as { readonly paths: Record<string, { readonly post?: unknown }> };
  const taking = Object.keys(paths).filter((path) => paths[path]?.post !== undefined);
  const selected = EXPRESSIONS.flatMap(([, expression]) => selectorsOf(expression)).flatMap(({ labels }) =>
    labels['route'] === undefined ? [] : [labels['route'].toSorted()],
  );
  expect(selected.length).toBeGreaterThan(4);
  for (const routes of selected) expect(routes).toEqual(taking.toSorted());
});

test('every alert has a test that lets it fire, and counters begin absent in it', () => {
  interface AlertTests {
    readonly tests: readonly {
      readonly input_series: readonly { readonly series: string; readonly values: string }[];
      readonly alert_rule_test: readonly { readonly alertname: string; readonly exp_alerts?: readonly unknown[] }[];
    }[];
  }
  const { tests } = parse(read('deploy/prometheus/alerts.test.yml')) as AlertTests;
  const fired = tests.flatMap(({ alert_rule_test: list }) =>
    list.filter(({ exp_alerts: expected = [] }) => expected.length > 0).map(({ alertname }) => alertname),
  );
  const alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
  expect([...new Set(fired)].toSorted()).toEqual(alerts.toSorted());
  const counters = tests
    .flatMap(({ input_series: series }) => series)
    .filter(({ series }) => /^\w+_(?:total|bucket|count)\b/.test(series));
  expect(counters.length).toBeGreaterThan(15);
  expect(counters.filter(({ values }) => !/^_[ x]/.test(values))).toEqual([]);
});
