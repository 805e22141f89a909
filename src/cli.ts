#!/usr/bin/env node
/** Starts the command. Older versions of Node.js must come through here, so that they are told: all else is loaded later. */

/** As package.json has it. */
const MIN_NODE = [22, 18] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1])) {
  process.stderr.write(
    `bsdsyms: Node.js ${MIN_NODE.join('.')} or later is needed; this is ${process.versions.node}.\n`,
  );
  process.exit(2);
}

const [, , name, ...rest] = process.argv;
if (name === 'serve' && rest.length === 0) {
  await import('./service/main.ts');
} else {
  const { runCommand } = await import('./cli/main.ts');
  process.exit(await runCommand(process.argv.slice(2), process));
}
