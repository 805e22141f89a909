/** Images in folders under Node's permission model, with the options of the container and of the systemd unit. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { post, problem, send, verdict } from '../support/http.ts';
import { named } from '../support/origin.ts';
import { Processes } from '../support/process.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8').replaceAll('\\\n', ' ');
const image = kernel({ symbols: 9 }).bytes;

const command = JSON.parse(/^CMD (\[[^\]]*\])$/m.exec(read('Dockerfile'))?.[1] ?? '[]') as readonly string[];
const unit = /^ExecStart=(.*)$/m.exec(read('deploy/systemd/bsdsyms.service'))?.[1]?.split(/\s+/) ?? [];
/** What the operator adds for a folder: an option in NODE_OPTIONS. */
const added = /^Environment="NODE_OPTIONS=(.*)"$/m.exec(read('deploy/systemd/references.conf'))?.[1] ?? '';

const processes = new Processes();
let directory: TemporaryDirectory;
afterEach(async () => {
  await processes.endAll();
  directory.remove();
});

// Node 24 lets every program use the network.
describe.skipIf(!process.allowedNodeEnvironmentFlags.has('--allow-net'))('the options of', () => {
  test.each([
    ['the Dockerfile', command, '/app', '/spool'],
    ['the systemd unit', unit, '/opt/bsdsyms', '/var/cache/bsdsyms'],
  ])('%s', async (_name, line, app, spool) => {
    directory = new TemporaryDirectory();
    const [spoolDir, shared, elsewhere] = ['spool', 'kernels', 'elsewhere'].map((name) => directory.file(name));
    if (spoolDir === undefined || shared === undefined || elsewhere === undefined) throw new Error('no folders');
    for (const folder of [spoolDir, shared, elsewhere]) mkdirSync(folder);
    writeFileSync(join(shared, 'vmlinux'), image);
    writeFileSync(join(elsewhere, 'vmlinux'), image);
    symlinkSync('vmlinux', join(shared, 'link'));
    symlinkSync(join(elsewhere, 'vmlinux'), join(shared, 'link-out'));

    const options = line
      .filter((word) => word.startsWith('--'))
      .map((option) => option.replace(`=${app}`, `=${ROOT}`).replace(`=${spool}`, `=${spoolDir}`));
    expect(options).toContain('--permission');
    const service = processes.start(
      {
        BSDSYMS_SPOOL_DIR: spoolDir,
        // Uploads are spooled, so that the folder for that is used as well.
        BSDSYMS_MEMORY_BUDGET_BYTES: '0',
        // The folder beside it is listed, but Node may not read it.
        BSDSYMS_IMAGE_SOURCES: `file://${shared}/,file://${elsewhere}/`,
        NODE_OPTIONS: added.replace('/srv/kernels', shared),
      },
      options,
    );
    const listening = await service.listening();
    const ask = (path: string) => send(listening, named('/bsdsyms', `file://${path}`));

    const sent = await post(listening, '/bsdsyms', image);
    const referred = await ask(join(shared, 'vmlinux'));
    expect([sent.status, referred.status, referred.body.equals(sent.body)]).toEqual([200, 200, true]);
    expect((await ask(join(shared, 'link'))).status).toBe(200);
    expect(verdict(await ask(join(shared, 'link-out')))).toEqual(problem(403, 'source-not-allowed'));
    expect(verdict(await ask(join(directory.path, 'vmlinux')))).toEqual(problem(403, 'source-not-allowed'));
    expect(verdict(await ask(join(elsewhere, 'vmlinux')), 'ERR_ACCESS_DENIED')).toEqual(problem(424, 'source-refused'));
  });
});
