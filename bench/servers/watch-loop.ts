/**
 * Loaded into a server with `--import`. On the message `loop` it tells, since the last one: the longest processor time of the
 * main thread between two turns of its event loop, and the processor time of the whole process.
 */
interface Usage {
  readonly user: number;
  readonly system: number;
}

const ms = (before: Usage, after: Usage): number => (after.user - before.user + after.system - before.system) / 1000;

let longest = 0;
let lastTurn = process.threadCpuUsage();
let lastAsked = process.cpuUsage();

function look(): void {
  const now = process.threadCpuUsage();
  longest = Math.max(longest, ms(lastTurn, now));
  lastTurn = now;
}

// Fires once in a turn, and is cheap where turns are short.
setInterval(look, 1).unref();

process.on('message', (message) => {
  if (message !== 'loop') return;
  look();
  const now = process.cpuUsage();
  process.send?.({ blockMs: longest, cpuMs: ms(lastAsked, now) });
  longest = 0;
  lastAsked = now;
  lastTurn = process.threadCpuUsage();
});
