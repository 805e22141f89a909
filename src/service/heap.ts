/**
 * Tunes the collector for images, which are held outside the JavaScript heap.
 *
 * By default V8 collects whenever buffers have grown by 64 MiB, and each time marks the whole heap without finding
 * anything: for a large image that costs a third of its throughput (docs/performance.md). With this flag buffers count
 * like other memory.
 */
import { setFlagsFromString } from 'node:v8';

/** To be called before there is anything to collect. */
export function tuneHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
