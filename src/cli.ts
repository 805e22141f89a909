#!/usr/bin/env node
/** Starts the command. Older versions of Node.js must come through here, so that they are told: all else is loaded later. */

/** The major version, as package.json has it. */
const MIN_NODE = 24;

if (Number(process.versions.node.split('.')[0]) < MIN_NODE) {
  process.stderr.write(`bsdsyms: Node.js ${MIN_NODE} or later is needed; this is ${process.versions.node}.\n`);
  process.exit(2);
}

const [, , name, ...rest] = process.argv;
if (name === 'serve' && rest.length === 0) {
  await import('./service/main.ts');
} else {
  const { runCommand } = await import('./cli/main.ts');
  process.exit(await runCommand(process.argv.slice(2), process));
}
