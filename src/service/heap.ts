/**
 * Tunes the collector for images, which are held outside the JavaScript heap.
 *
 * By default V8 starts a collection whenever buffers have grown by 64 MiB. Each one marks the whole heap and frees nothing,
 * which for a large image costs a third of the throughput (docs/performance.md). With this flag buffers count like other
 * memory.
 */
import { setFlagsFromString } from 'node:v8';

/** Call it before there is anything to collect. */
export function tuneHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
