#!/usr/bin/env node
/** Starts the command. All else is imported later, so that older versions of Node.js get as far as the message below. */

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
