/** Loaded into a process with `--import`: on SIGUSR2 it writes all modules that were loaded so far, as one line of JSON: URLs, and Node's names of its own. */
import { registerHooks } from 'node:module';

const loaded: string[] = [];
registerHooks({
  load(url, context, nextLoad) {
    loaded.push(url);
    return nextLoad(url, context);
  },
});
process.on('SIGUSR2', () => {
  const builtin = Reflect.get(process, 'moduleLoadList') as readonly string[];
  process.stderr.write(`${JSON.stringify([...loaded, ...builtin])}\n`);
});
