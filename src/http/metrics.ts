/** What operators can watch (Prometheus). Labels have few values: codes, routes, names from closed lists. */
import { REQUEST_RESULTS, type RequestResult } from '../image/remote/results.ts';
import { REQUIREMENTS, type Requirement } from '../inspect/check.ts';
import { COMPRESSIONS, type Compression } from '../inspect/image-source.ts';
import type { ImageFacts } from '../inspect/load.ts';
import { BROKEN_KINDS, type Broken } from '../xen/broken.ts';
import { PROBLEM_KINDS, type ProblemCode } from './problem.ts';
import { Counter, collectProcessMetrics, Gauge, Histogram, Registry } from './prometheus.ts';
import { UNNAMED } from './tokens.ts';
import type { UploadOptions } from './upload.ts';

const KiB = 1024;
const SIZE_BUCKETS = [
  4 * KiB,
  64 * KiB,
  KiB ** 2,
  4 * KiB ** 2,
  16 * KiB ** 2,
  64 * KiB ** 2,
  256 * KiB ** 2,
  KiB ** 3,
];
const DURATION_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

const STAGES: readonly Broken['stage'][] = ['init', 'segments', 'notes', 'parse', 'load'];
/** What is watched of every route, and of those that take an image. */
const STATUSES = [200, 500];
const UPLOAD_STATUSES = [200, 400, 401, 422, 429, 499, 500, 503];
/** What comes of an upload: the answer; an image that is broken; a request that is refused; a fault of the service, or no room. */
const CLIENT_RESULTS = ['ok', 'broken', 'refused', 'failed'] as const;

function resultOf(status: number): (typeof CLIENT_RESULTS)[number] {
  if (status < 400) return 'ok';
  if (status === 422) return 'broken';
  return status < 500 ? 'refused' : 'failed';
}

/** The images that are usual. The other machines are too many to begin with. */
const USUAL_IMAGES = [
  { class: 'ELF64', machine: 'x86-64' },
  { class: 'ELF32', machine: 'i386' },
  { class: 'none', machine: 'none' },
];

/**
 * Starts series at 0, one for each combination of values. A series that begins with its first event hides that event:
 * `rate` and `increase` of Prometheus see only what changes after the first sample.
 */
function startAtZero<Label extends string>(
  counter: Counter<Label>,
  values: Readonly<Record<Label, readonly (string | number)[]>>,
): void {
  const combinations = (Object.entries(values) as [Label, readonly (string | number)[]][]).reduce<
    Partial<Record<Label, string | number>>[]
  >((partial, [label, list]) => partial.flatMap((one) => list.map((value) => ({ ...one, [label]: value }))), [{}]);
  for (const labels of combinations) counter.inc(labels, 0);
}

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'route' | 'method' | 'status'>;
  readonly #durations: Histogram<'route'>;
  readonly #imageBytes: Histogram;
  readonly #blobBytes: Histogram;
  readonly #images: Counter<'class' | 'machine' | 'compression'>;
  readonly #broken: Counter<'code' | 'stage'>;
  readonly #refused: Counter<'code'>;
  readonly #clients: Counter<'client' | 'result'>;
  readonly #requirements: Counter<'requirement' | 'met'>;
  readonly #sourceRequests: Counter<'result'>;
  readonly #sourceBytes: Counter<'result'>;

  constructor({ admission, store }: Pick<UploadOptions, 'admission' | 'store'>) {
    const registers = [this.registry];
    collectProcessMetrics(this.registry);
    // Gauges whose names are those of counters. The same gauges exist by type.
    for (const what of ['handles', 'requests', 'resources']) {
      this.registry.removeSingleMetric(`nodejs_active_${what}_total`);
    }
    const gauge = (name: string, help: string, read: () => number): void => {
      this.registry.registerMetric(
        new Gauge({
          name,
          help,
          registers: [],
          collect() {
            this.set(read());
          },
        }),
      );
    };

    this.#requests = new Counter({
      name: 'bsdsyms_http_requests_total',
      help: 'Requests by route, method and status; 499 is a client that went away',
      labelNames: ['route', 'method', 'status'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'bsdsyms_http_request_duration_seconds',
      help: 'Time from the head of a request to the end of its response',
      labelNames: ['route'],
      buckets: DURATION_BUCKETS,
      registers,
    });
    this.#imageBytes = new Histogram({
      name: 'bsdsyms_image_bytes',
      help: 'Uncompressed sizes of the images that arrived whole',
      buckets: SIZE_BUCKETS,
      registers,
    });
    this.#blobBytes = new Histogram({
      name: 'bsdsyms_blob_bytes',
      help: 'Sizes of the symbol blobs that were planned',
      buckets: SIZE_BUCKETS,
      registers,
    });
    this.#images = new Counter({
      name: 'bsdsyms_images_total',
      help: 'Images that arrived whole, by class, machine and compression',
      labelNames: ['class', 'machine', 'compression'],
      registers,
    });
    this.#broken = new Counter({
      name: 'bsdsyms_broken_images_total',
      help: 'Images that did not load cleanly, by code and stage',
      labelNames: ['code', 'stage'],
      registers,
    });
    this.#refused = new Counter({
      name: 'bsdsyms_uploads_refused_total',
      help: 'Uploads that were refused or broken off before the image was looked at, by code',
      labelNames: ['code'],
      registers,
    });
    this.#sourceRequests = new Counter({
      name: 'bsdsyms_source_requests_total',
      help: 'Requests to the origins of images by reference, and files opened for them, by result',
      labelNames: ['result'],
      registers,
    });
    this.#sourceBytes = new Counter({
      name: 'bsdsyms_source_bytes_total',
      help: 'Bytes of images that these requests brought, by result',
      labelNames: ['result'],
      registers,
    });
    this.#requirements = new Counter({
      name: 'bsdsyms_check_requirements_total',
      help: 'What kernels were held against by /check, by requirement and whether it was met',
      labelNames: ['requirement', 'met'],
      registers,
    });
    this.#clients = new Counter({
      name: 'bsdsyms_client_uploads_total',
      help: 'Uploads with a token, by the name of the token or of the entry for its issuer, and what came of them',
      labelNames: ['client', 'result'],
      registers,
    });
    startAtZero(this.#broken, { code: Object.keys(BROKEN_KINDS), stage: STAGES });
    startAtZero(this.#refused, { code: Object.keys(PROBLEM_KINDS) });
    startAtZero(this.#requirements, { requirement: REQUIREMENTS, met: ['true', 'false'] });
    startAtZero(this.#sourceRequests, { result: REQUEST_RESULTS });
    startAtZero(this.#sourceBytes, { result: REQUEST_RESULTS });
    for (const { class: elfClass, machine } of USUAL_IMAGES) {
      startAtZero(this.#images, { class: [elfClass], machine: [machine], compression: ['none', ...COMPRESSIONS] });
    }
    gauge('bsdsyms_uploads_in_flight', 'Uploads under way', () => admission.running);
    gauge('bsdsyms_uploads_queued', 'Uploads that wait for a slot', () => admission.queued);
    gauge('bsdsyms_memory_budget_used_bytes', 'Images held in memory, and what unpacks them', () => store.memory.used);
    gauge('bsdsyms_memory_budget_limit_bytes', 'BSDSYMS_MEMORY_BUDGET_BYTES', () => store.memory.limit);
    gauge('bsdsyms_spool_budget_used_bytes', 'Images in spool files', () => store.spool.budget.used);
    gauge('bsdsyms_spool_budget_limit_bytes', 'BSDSYMS_SPOOL_BUDGET_BYTES', () => store.spool.budget.limit);
  }

  /** Starts what is watched of a route. @param url its pattern @param methods that it takes */
  expect(url: string, methods: ReadonlySet<string>): void {
    // Nobody sends HEAD, but it comes with GET.
    const method = [...methods].filter((name) => name !== 'HEAD');
    startAtZero(this.#requests, { route: [url], method, status: methods.has('POST') ? UPLOAD_STATUSES : STATUSES });
    this.#durations.zero({ route: url });
  }

  /** Starts what is watched of clients. @param names of a closed list: those of tokens, and of entries for issuers */
  expectClients(names: readonly string[]): void {
    startAtZero(this.#clients, { client: names, result: CLIENT_RESULTS });
  }

  /** An upload of somebody with a token is over. */
  client(name: string | null, status: number): void {
    this.#clients.inc({ client: name ?? UNNAMED, result: resultOf(status) });
  }

  /** @param route the pattern of the route, null when there is none */
  request(route: string | null, method: string, status: number, seconds: number): void {
    const label = route ?? 'none';
    this.#requests.inc({ route: label, method, status });
    this.#durations.observe({ route: label }, seconds);
  }

  image({ size, identity }: ImageFacts, compression: Compression | null): void {
    this.#imageBytes.observe(size);
    const machine = identity?.machine ?? 'none';
    this.#images.inc({
      class: identity?.class ?? 'none',
      // A machine without a name has its number in place of one, and there are 65,536 numbers.
      machine: machine.startsWith('0x') ? 'other' : machine,
      compression: compression ?? 'none',
    });
  }

  blob(bytes: number): void {
    this.#blobBytes.observe(bytes);
  }

  broken({ code, stage }: Broken): void {
    this.#broken.inc({ code, stage });
  }

  /** A kernel was held against what is required of it. */
  checked(requirements: readonly Requirement[]): void {
    for (const { name, met } of requirements) this.#requirements.inc({ requirement: name, met: String(met) });
  }

  /** A request to the origin of an image is over. */
  source(result: RequestResult, bytes: number): void {
    this.#sourceRequests.inc({ result });
    this.#sourceBytes.inc({ result }, bytes);
  }

  refused(code: ProblemCode): void {
    this.#refused.inc({ code });
  }
}
