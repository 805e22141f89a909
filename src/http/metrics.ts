/** What operators can watch (Prometheus). Labels have few values: codes, routes, names from closed lists. */
import { REQUEST_RESULTS, type RequestResult } from '../image/remote/results.ts';
import type { Compression } from '../inspect/image-source.ts';
import type { ImageFacts } from '../inspect/load.ts';
import type { Broken } from '../xen/broken.ts';
import type { ProblemCode } from './problem.ts';
import { Counter, collectProcessMetrics, Gauge, Histogram, Registry } from './prometheus.ts';
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

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'route' | 'method' | 'status'>;
  readonly #durations: Histogram<'route'>;
  readonly #imageBytes: Histogram;
  readonly #blobBytes: Histogram;
  readonly #images: Counter<'class' | 'machine' | 'compression'>;
  readonly #broken: Counter<'code' | 'stage'>;
  readonly #refused: Counter<'code'>;
  readonly #sourceRequests: Counter<'result'>;
  readonly #sourceBytes: Counter<'result'>;

  constructor({ admission, store }: Pick<UploadOptions, 'admission' | 'store'>) {
    const registers = [this.registry];
    collectProcessMetrics(this.registry);
    // Gauges whose names claim to be counters; the same by type stands beside them.
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
    // Alerts compare them, so they are there before the first request.
    for (const result of REQUEST_RESULTS) {
      this.#sourceRequests.inc({ result }, 0);
      this.#sourceBytes.inc({ result }, 0);
    }
    gauge('bsdsyms_uploads_in_flight', 'Uploads under way', () => admission.running);
    gauge('bsdsyms_uploads_queued', 'Uploads that wait for a place', () => admission.queued);
    gauge('bsdsyms_memory_budget_used_bytes', 'Images held in memory, and what unpacks them', () => store.memory.used);
    gauge('bsdsyms_memory_budget_limit_bytes', 'BSDSYMS_MEMORY_BUDGET_BYTES', () => store.memory.limit);
    gauge('bsdsyms_spool_budget_used_bytes', 'Images in spool files', () => store.spool.budget.used);
    gauge('bsdsyms_spool_budget_limit_bytes', 'BSDSYMS_SPOOL_BUDGET_BYTES', () => store.spool.budget.limit);
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
      // A machine without a name is told by its number, of which there are 65,536.
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

  /** A request to the origin of an image is over. */
  source(result: RequestResult, bytes: number): void {
    this.#sourceRequests.inc({ result });
    this.#sourceBytes.inc({ result }, bytes);
  }

  refused(code: ProblemCode): void {
    this.#refused.inc({ code });
  }
}
