/** The worker of the page: takes orders, one at a time for the file, and questions in between. */
import { ImageError } from '../inspect/image-error.ts';
import type { Answer, Finding, Numbered, Order, Question, Report } from './messages.ts';
import { Session, Unanswerable } from './session.ts';
import type { Watch } from './unpack-file.ts';

/** What the types of the DOM do not have: the global object of a worker. */
interface WorkerScope {
  postMessage(message: Report): void;
  addEventListener(type: 'message', listener: (event: { readonly data: Numbered<Order> }) => void): void;
}

const scope = globalThis as unknown as WorkerScope;
const session = new Session();

class Cancelled extends Error {}

/** At most so often the worker reports its progress. */
const PROGRESS_MS = 100;
/** The order that is at work on the file; a later one ends it. */
let current = 0;

function watch(id: number): Watch {
  let told = performance.now();
  return {
    interrupt: () => {
      if (id !== current) throw new Cancelled();
    },
    progress: (what, done, total) => {
      if (performance.now() - told < PROGRESS_MS) return;
      told = performance.now();
      scope.postMessage({ id, kind: 'progress', what, done, total });
    },
  };
}

async function find(id: number, findings: AsyncGenerator<Finding, void>): Promise<void> {
  for await (const finding of findings) {
    if (id !== current) throw new Cancelled();
    scope.postMessage({ id, ...finding });
  }
}

function answer(question: Question): Promise<Answer> {
  switch (question.kind) {
    case 'blob':
      return session.blob();
    case 'picture':
      return session.picture();
    case 'bytes':
      return session.bytes(question.of, question.offset, question.length);
    case 'symbols':
      return session.symbols(question.text);
  }
}

async function obey({ id, order }: Numbered<Order>): Promise<void> {
  switch (order.kind) {
    case 'open':
      current = id;
      return find(id, session.open(order.file, order.parameters, watch(id)));
    case 'load':
      current = id;
      return find(id, session.load(order.parameters, watch(id)));
    case 'verify':
      current = id;
      return find(id, session.verify(order.file, order.address, watch(id)));
    case 'cancel':
      current = id;
      return;
    case 'blob':
    case 'picture':
    case 'bytes':
    case 'symbols':
      scope.postMessage({ id, ...(await answer(order)) });
  }
}

function explain(error: unknown): string {
  if (error instanceof Unanswerable || error instanceof ImageError) return error.message;
  if (error instanceof Error && error.name === 'NotReadableError') {
    return 'The browser cannot read the file any more: it has changed, moved, or is not accessible. Choose it again.';
  }
  return `Something went wrong in this page: ${String(error)}. Please report it.`;
}

scope.addEventListener('message', ({ data }) => {
  obey(data).then(
    () => scope.postMessage({ id: data.id, kind: 'done' }),
    (error: unknown) => {
      if (error instanceof Cancelled) scope.postMessage({ id: data.id, kind: 'cancelled' });
      else scope.postMessage({ id: data.id, kind: 'failed', message: explain(error) });
    },
  );
});
