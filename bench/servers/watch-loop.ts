/**
 * Loaded into a server with `--import`. On the message `loop` it tells, since the last one: the longest processor time of the
 * main thread between two turns of its event loop, the longest such time on the wall, and the processor time of the whole
 * process. The two are the same on an idle machine; on a busy one only the former says what the service does.
 */
interface Usage {
  readonly user: number;
  readonly system: number;
}

const ms = (before: Usage, after: Usage): number => (after.user - before.user + after.system - before.system) / 1000;

let longest = 0;
let longestWallMs = 0;
let lastTurn = process.threadCpuUsage();
let lastTurnAt = performance.now();
let lastAsked = process.cpuUsage();

function look(): void {
  const now = process.threadCpuUsage();
  longest = Math.max(longest, ms(lastTurn, now));
  lastTurn = now;
  const at = performance.now();
  longestWallMs = Math.max(longestWallMs, at - lastTurnAt);
  lastTurnAt = at;
}

// Fires once in a turn, and is cheap where turns are short.
setInterval(look, 1).unref();

process.on('message', (message) => {
  if (message !== 'loop') return;
  look();
  const now = process.cpuUsage();
  process.send?.({ blockMs: longest, wallMs: longestWallMs, cpuMs: ms(lastAsked, now) });
  longest = 0;
  longestWallMs = 0;
  lastAsked = now;
  lastTurn = process.threadCpuUsage();
});
