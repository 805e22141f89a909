/**
 * Checks what is under deploy/, offline: the manifests against the types of the Kubernetes API, every number against the
 * settings it depends on, and each file with the program that will read it.
 *
 * `-- --all` fails when one of those programs is missing; otherwise it is skipped.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { type Config, EXIT_BAD_CONFIG, loadConfig, SETTINGS } from '../src/config.ts';
import { parsePrefixes, type SourcePrefix } from '../src/image/remote/allow-list.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEPLOY = join(ROOT, 'deploy');
/** What a process needs beside the images it holds: docs/operations.md. */
const PROCESS_BYTES = 896 * 1024 ** 2;
/** What a stop may take beside delay and grace: docs/operations.md. */
const STOP_MS = 4000;
/** What a form may have around an image: src/http/upload.ts. */
const FORM_OVERHEAD_BYTES = 64 * 1024;

const failures: string[] = [];
const skipped: string[] = [];
let checks = 0;

function check(holds: boolean, message: string): void {
  checks += 1;
  if (!holds) failures.push(message);
}

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** The value at a path of names and indexes; undefined where there is none. */
function at(value: Json | undefined, ...path: readonly (string | number)[]): Json | undefined {
  return path.reduce<Json | undefined>((inner, key) => {
    if (typeof inner !== 'object' || inner === null) return undefined;
    return (inner as { readonly [name: string | number]: Json })[key];
  }, value);
}

/** A scalar as text. */
const text = (value: Json | undefined): string => (typeof value === 'string' ? value : JSON.stringify(value ?? null));

const list = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? (value as readonly Json[]) : []);

/** Quantities of Kubernetes and sizes of systemd and nginx, in bytes or units. */
function quantity(value: Json | undefined): number {
  const [, digits, suffix = ''] = /^(\d+)([a-zA-Z]*)$/.exec(text(value)) ?? [];
  const power = ['', 'k', 'm', 'g', 't'].indexOf(suffix.toLowerCase().replace(/i$/, ''));
  return digits === undefined || power === -1 ? Number.NaN : Number(digits) * 1024 ** power;
}

/** `90s`, `500ms`, `10m`, `2min` in milliseconds. */
function duration(time: string | undefined): number {
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000 };
  const [, digits, unit = ''] = /^(\d+)(ms|s|m|min)$/.exec(time ?? '') ?? [];
  return digits === undefined ? Number.NaN : Number(digits) * (units[unit] ?? Number.NaN);
}

function configOf(file: string, env: Readonly<Record<string, string>>): Config {
  checks += 1;
  try {
    return loadConfig(env);
  } catch (error) {
    failures.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    return loadConfig({});
  }
}

/** Every name that looks like a setting is one. */
function checkNames(): void {
  const known = new Set<string>(Object.values(SETTINGS).map(({ name }) => name));
  // The one that Kubernetes would make, which deployment.yaml warns of.
  known.add('BSDSYMS_SERVICE_HOST');
  for (const entry of readdirSync(DEPLOY, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const content = readFileSync(join(entry.parentPath, entry.name), 'utf8');
    for (const [name] of content.matchAll(/\bBSDSYMS_[A-Z_]+/g)) {
      check(known.has(name), `${entry.name}: there is no setting ${name}`);
    }
  }
}

// --- Kubernetes

/** Where kubernetes-types declares the kinds of an API version. */
const MODULES: Readonly<Record<string, string>> = {
  v1: 'core/v1',
  'apps/v1': 'apps/v1',
  'autoscaling/v2': 'autoscaling/v2',
  'networking.k8s.io/v1': 'networking/v1',
  'policy/v1': 'policy/v1',
};

interface Manifest {
  readonly file: string;
  readonly content: Json;
}

function readManifests(directory = 'kubernetes'): Manifest[] {
  const files = readdirSync(join(DEPLOY, directory)).filter(
    (file) => file.endsWith('.yaml') && file !== 'kustomization.yaml',
  );
  return files.flatMap((file) =>
    parseAllDocuments(read(`deploy/${directory}/${file}`)).map((document) => {
      for (const error of document.errors) failures.push(`${file}: ${error.message}`);
      return { file, content: document.toJS() as Json };
    }),
  );
}

/** Lets the compiler compare the manifests, as literals, with the types: it also finds members that do not exist. */
function checkTypes(manifests: readonly Manifest[]): void {
  const cache = join(ROOT, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const directory = mkdtempSync(join(cache, 'check-deploy-'));
  try {
    const source = manifests.map(({ file, content }, index) => {
      const apiVersion = text(at(content, 'apiVersion'));
      const declared = MODULES[apiVersion];
      check(declared !== undefined, `${file}: ${apiVersion} is not among the API versions that are checked`);
      const type = `import('kubernetes-types/${declared}').${text(at(content, 'kind'))}`;
      return `// ${file}\nexport const manifest${index}: ${type} = ${JSON.stringify(content, null, 1)};\n`;
    });
    const file = join(directory, 'manifests.ts');
    writeFileSync(file, source.join('\n'));
    const options =
      '--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --pretty false --types'.split(' ');
    const compiler = join(ROOT, 'node_modules', '.bin', 'tsc');
    const { status, stdout, stderr } = spawnSync(compiler, [...options, 'node', '--ignoreConfig', file], {
      cwd: directory,
      encoding: 'utf8',
    });
    check(status === 0, `the manifests are not what the Kubernetes API has:\n${stdout}${stderr}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function checkKustomization(manifests: readonly Manifest[]): void {
  const committed = read('deploy/kubernetes/kustomization.yaml');
  const { version } = JSON.parse(read('package.json')) as { readonly version: string };
  const kustomization = parse(committed) as Json;
  const resources = list(at(kustomization, 'resources'));
  for (const resource of resources) {
    check(existsSync(join(DEPLOY, 'kubernetes', text(resource))), `kustomization.yaml: there is no ${text(resource)}`);
  }
  for (const file of new Set(manifests.map((manifest) => manifest.file))) {
    check(committed.includes(`- ${file}\n`), `kustomization.yaml: ${file} is not named`);
  }
  check(
    at(kustomization, 'images', 0, 'newTag') === version,
    `kustomization.yaml: newTag is not the version ${version}`,
  );
}

function checkDeployment(manifests: readonly Manifest[]): void {
  const find = (kind: string): Json | undefined =>
    manifests.find(({ content }) => at(content, 'kind') === kind)?.content;
  const deployment = find('Deployment');
  const pod = at(deployment, 'spec', 'template', 'spec');
  const container = at(pod, 'containers', 0);
  const variables = list(at(container, 'env')).map((entry) => [text(at(entry, 'name')), text(at(entry, 'value'))]);
  const env = Object.fromEntries(variables) as Record<string, string>;
  const config = configOf('deployment.yaml', env);
  const mounts = new Map(
    list(at(container, 'volumeMounts')).map((mount) => [at(mount, 'name'), at(mount, 'mountPath')]),
  );
  const volume = (name: string): Json | undefined =>
    list(at(pod, 'volumes')).find((entry) => at(entry, 'name') === name);

  // The pod is as closed as it can be.
  const security = at(container, 'securityContext');
  check(at(security, 'readOnlyRootFilesystem') === true, 'deployment.yaml: the root file system can be written');
  check(at(security, 'allowPrivilegeEscalation') === false, 'deployment.yaml: privileges can be gained');
  check(at(security, 'capabilities', 'drop', 0) === 'ALL', 'deployment.yaml: capabilities are kept');
  check(at(pod, 'securityContext', 'runAsNonRoot') === true, 'deployment.yaml: it may run as root');
  check(
    at(pod, 'securityContext', 'seccompProfile', 'type') === 'RuntimeDefault',
    'deployment.yaml: no seccomp profile',
  );
  check(at(pod, 'automountServiceAccountToken') === false, 'deployment.yaml: it has a service account token');
  check(at(pod, 'enableServiceLinks') === false, 'deployment.yaml: service links would be taken for settings');

  const sleepSeconds = Number(at(container, 'lifecycle', 'preStop', 'sleep', 'seconds') ?? 0);
  const stopSeconds = sleepSeconds + (config.shutdownDelayMs + config.shutdownGraceMs + STOP_MS) / 1000;
  const graceSeconds = Number(at(pod, 'terminationGracePeriodSeconds'));
  check(
    graceSeconds > stopSeconds,
    `deployment.yaml: it is killed after ${graceSeconds} s, but may take ${stopSeconds} s to stop`,
  );
  check(config.shutdownGraceMs >= config.uploadTimeoutMs, 'deployment.yaml: an upload may take longer than the grace');

  const limits = at(container, 'resources', 'limits');
  const memory = quantity(at(limits, 'memory'));
  check(
    memory >= config.memoryBudgetBytes + config.workers * PROCESS_BYTES,
    `deployment.yaml: the memory limit ${memory} has no room for the budget and the process`,
  );
  const spool = quantity(at(volume('spool'), 'emptyDir', 'sizeLimit'));
  check(spool === config.spoolBudgetBytes, `deployment.yaml: sizeLimit ${spool} is not BSDSYMS_SPOOL_BUDGET_BYTES`);
  check(
    quantity(at(limits, 'ephemeral-storage')) > spool,
    'deployment.yaml: ephemeral-storage has no room for spool and log',
  );
  check(mounts.get('spool') === config.spoolDir, 'deployment.yaml: the spool is not mounted at BSDSYMS_SPOOL_DIR');
  check(
    config.tokensFile?.startsWith(`${text(mounts.get('tokens'))}/`) === true,
    'deployment.yaml: the tokens are not mounted at BSDSYMS_TOKENS_FILE',
  );

  // One port under one name.
  const ports = list(at(container, 'ports'));
  check(at(ports[0], 'containerPort') === config.port, `deployment.yaml: containerPort is not PORT ${config.port}`);
  const annotations = at(deployment, 'spec', 'template', 'metadata', 'annotations');
  check(
    at(annotations, 'prometheus.io/port') === String(config.port),
    'deployment.yaml: Prometheus would ask another port',
  );
  const name = at(ports[0], 'name');
  check(
    at(find('Service'), 'spec', 'ports', 0, 'targetPort') === name,
    'service.yaml: targetPort is not the port of the container',
  );
  const allowed = at(find('NetworkPolicy'), 'spec', 'ingress', 0, 'ports', 0, 'port');
  check(allowed === name, 'network-policy.yaml: the port is not that of the container');
  const probes: readonly [string, string][] = [
    ['startupProbe', '/healthz'],
    ['livenessProbe', '/healthz'],
    ['readinessProbe', '/readyz'],
  ];
  for (const [probe, path] of probes) {
    const action = at(container, probe, 'httpGet');
    check(at(action, 'path') === path && at(action, 'port') === name, `deployment.yaml: ${probe} does not ask ${path}`);
  }
  const readiness = at(container, 'readinessProbe');
  const noticedMs = 1000 * (Number(at(readiness, 'periodSeconds')) * Number(at(readiness, 'failureThreshold')) + 2);
  check(
    noticedMs <= config.shutdownDelayMs,
    'deployment.yaml: the listener closes before readiness is seen to be gone',
  );

  // One set of labels.
  const labels = JSON.stringify(at(deployment, 'spec', 'template', 'metadata', 'labels'));
  const selectors: readonly [string, Json | undefined][] = [
    ['deployment.yaml', at(deployment, 'spec', 'selector', 'matchLabels')],
    ['service.yaml', at(find('Service'), 'spec', 'selector')],
    ['pod-disruption-budget.yaml', at(find('PodDisruptionBudget'), 'spec', 'selector', 'matchLabels')],
    ['network-policy.yaml', at(find('NetworkPolicy'), 'spec', 'podSelector', 'matchLabels')],
    ...list(at(pod, 'topologySpreadConstraints')).map((constraint): [string, Json | undefined] => [
      'deployment.yaml: topologySpreadConstraints',
      at(constraint, 'labelSelector', 'matchLabels'),
    ]),
  ];
  for (const [file, selector] of selectors) {
    check(JSON.stringify(selector) === labels, `${file}: the selector is not the labels of the pods`);
  }
  for (const { file, content } of manifests.filter((manifest) => manifest.file.startsWith('hpa-'))) {
    check(
      at(content, 'spec', 'scaleTargetRef', 'name') === at(deployment, 'metadata', 'name'),
      `${file}: it scales something else`,
    );
    const target = at(content, 'spec', 'metrics', 0, 'pods', 'target', 'averageValue');
    check(
      target === undefined || Number(target) < config.maxUploads,
      `${file}: it scales when uploads are refused already`,
    );
  }
}

// --- images by reference, which are off until an operator adds these files

/** The prefixes that a file lists; none, and a failure, when the service would not start with them. */
function prefixesOf(file: string, sources: string): readonly SourcePrefix[] {
  checks += 1;
  try {
    const prefixes = parsePrefixes(loadConfig({ BSDSYMS_IMAGE_SOURCES: sources }).imageSources);
    check(prefixes.length > 0, `${file}: nothing may be named`);
    return prefixes;
  } catch (error) {
    failures.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    return [];
  }
}

/** What a component adds to the deployment, and what it lets out. */
function checkReferences(manifests: readonly Manifest[]): void {
  const file = 'references/kustomization.yaml';
  const component = parse(read(`deploy/kubernetes/${file}`)) as Json;
  const own = readManifests('kubernetes/references');
  const find = (among: readonly Manifest[], kind: string): Json | undefined =>
    among.find(({ content }) => at(content, 'kind') === kind)?.content;
  const deployment = find(manifests, 'Deployment');
  checkTypes(own);

  check(at(component, 'kind') === 'Component', `${file}: it is no component`);
  const named = list(at(component, 'resources')).map(text);
  for (const resource of named) {
    check(existsSync(join(DEPLOY, 'kubernetes/references', resource)), `${file}: there is no ${resource}`);
  }
  for (const { file: manifest } of own) check(named.includes(manifest), `${file}: ${manifest} is not named`);
  const patch = at(component, 'patches', 0);
  check(
    at(patch, 'target', 'kind') === 'Deployment' && at(patch, 'target', 'name') === at(deployment, 'metadata', 'name'),
    `${file}: it patches another deployment`,
  );
  const operation = at(parse(text(at(patch, 'patch'))) as Json, 0);
  const path = text(at(operation, 'path'));
  const parent = path.split('/').slice(1, -1);
  check(
    at(operation, 'op') === 'add' && path.endsWith('/env/-') && Array.isArray(at(deployment, ...parent)),
    `${file}: ${path} is no list of the deployment`,
  );
  check(at(operation, 'value', 'name') === 'BSDSYMS_IMAGE_SOURCES', `${file}: it sets something else`);
  const prefixes = prefixesOf(file, text(at(operation, 'value', 'value')));

  // Without the component nothing may be named, and nothing goes out.
  for (const off of ['kubernetes/deployment.yaml', 'systemd/bsdsyms.service']) {
    check(!/^[^#]*BSDSYMS_IMAGE_SOURCES/m.test(read(`deploy/${off}`)), `${off}: images may be named by default`);
  }
  check(
    list(at(parse(read('deploy/kubernetes/kustomization.yaml')) as Json, 'components')).length === 0,
    'kustomization.yaml: images may be named by default',
  );
  const closed = at(find(manifests, 'NetworkPolicy'), 'spec');
  check(
    list(at(closed, 'policyTypes')).includes('Egress') && list(at(closed, 'egress')).length === 0,
    'network-policy.yaml: something goes out by default',
  );

  const policy = at(find(own, 'NetworkPolicy'), 'spec');
  const where = 'references/network-policy.yaml';
  check(JSON.stringify(at(policy, 'policyTypes')) === '["Egress"]', `${where}: it is about more than what goes out`);
  check(
    JSON.stringify(at(policy, 'podSelector', 'matchLabels')) ===
      JSON.stringify(at(deployment, 'spec', 'template', 'metadata', 'labels')),
    `${where}: the selector is not the labels of the pods`,
  );
  const rules = list(at(policy, 'egress'));
  for (const rule of rules) {
    const peers = list(at(rule, 'to'));
    // Without peers or ports a rule is about all of them.
    check(peers.length > 0 && list(at(rule, 'ports')).length > 0, `${where}: a rule lets everything out`);
    for (const peer of peers) {
      const cidr = at(peer, 'ipBlock', 'cidr');
      check(cidr === undefined || Number(text(cidr).split('/')[1]) >= 8, `${where}: ${text(cidr)} is half the world`);
    }
  }
  const open = new Set(rules.flatMap((rule) => list(at(rule, 'ports')).map((port) => at(port, 'port'))));
  check(open.has(53), `${where}: names cannot be resolved`);
  for (const { protocol, host } of prefixes) {
    const port = Number(/:(\d+)$/.exec(host)?.[1] ?? (protocol === 'https:' ? 443 : 80));
    check(open.has(port), `${where}: port ${port} of ${host} is closed`);
  }
}

/** The folder of a prefix stands in all places, and Node and systemd let it be read. */
function checkReferencesUnit(): void {
  const file = 'references.conf';
  const added = read(`deploy/systemd/${file}`);
  check(/^\[Service\]$/m.test(added), `${file}: it has no section`);
  const value = (pattern: RegExp): string => pattern.exec(added)?.[1] ?? '';
  const prefixes = prefixesOf(file, value(/^Environment=BSDSYMS_IMAGE_SOURCES=(.*)$/m));
  const folders = prefixes.filter(({ protocol }) => protocol === 'file:').map(({ pathname }) => pathname);
  check(folders.length > 0, `${file}: it has no folder to show`);
  const options = value(/^Environment="NODE_OPTIONS=(.*)"$/m).split(' ');
  const readable = value(/^ReadOnlyPaths=(.*)$/m).split(' ');
  for (const folder of folders.map((path) => path.replace(/\/$/, ''))) {
    check(options.includes(`--allow-fs-read=${folder}`), `${file}: Node may not read ${folder}`);
    check(readable.includes(folder), `${file}: ${folder} is not among ReadOnlyPaths`);
  }
  check(
    options.every((option) => option.startsWith('--allow-fs-read=')),
    `${file}: more than reading is allowed`,
  );
}

// --- the other files

function checkUnit(): void {
  const file = 'bsdsyms.service';
  const unit = read(`deploy/systemd/${file}`).replaceAll('\\\n', ' ');
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  const env = Object.fromEntries(
    [...unit.matchAll(/^Environment=(\w+)=(.*)$/gm)].map(([, name = '', given = '']) => [name, given]),
  );
  const config = configOf(file, env);
  check(
    duration(value('TimeoutStopSec')) > config.shutdownDelayMs + config.shutdownGraceMs + STOP_MS,
    `${file}: TimeoutStopSec is shorter than the stop may take`,
  );
  check(
    quantity(value('MemoryMax')) >= config.memoryBudgetBytes + config.workers * PROCESS_BYTES,
    `${file}: MemoryMax has no room for the budget and the process`,
  );
  check(config.spoolDir === `/var/cache/${value('CacheDirectory')}`, `${file}: the spool is not the cache directory`);
  const start = value('ExecStart');
  const flags = [
    '--permission',
    '--allow-net',
    '--allow-worker',
    `--allow-fs-write=${config.spoolDir}`,
    `--allow-fs-read=${config.spoolDir}`,
  ];
  for (const flag of flags) {
    check(start.split(/\s+/).includes(flag), `${file}: node is started without ${flag}`);
  }
  const lasting = value('RestartPreventExitStatus').split(' ');
  // Of systemd: the program cannot be executed.
  const EXIT_EXEC = 203;
  const badOption = spawnSync(process.execPath, ['--no-such-option']).status ?? Number.NaN;
  for (const status of [EXIT_BAD_CONFIG, badOption, EXIT_EXEC]) {
    check(lasting.includes(String(status)), `${file}: it is started again after status ${status}, which stays`);
  }
  const burst = Number(value('StartLimitBurst'));
  check(
    burst > 0 && duration(value('StartLimitIntervalSec')) > 2 * burst * duration(value('RestartSec')),
    `${file}: a start that fails at once is never given up`,
  );
  const installer = read('deploy/systemd/install.sh');
  check(
    installer.includes(value('WorkingDirectory')),
    `install.sh: it does not install into ${value('WorkingDirectory')}`,
  );
  const image = /^FROM node:(\d+)/m.exec(read('Dockerfile'))?.[1];
  check(installer.includes(`wanted=${image}\n`), 'install.sh: it wants another Node than the Dockerfile');
  check(!start.includes('--allow-child-process') || config.workers !== 1, `${file}: one process needs no children`);
}

function checkDockerfile(): void {
  const dockerfile = read('Dockerfile');
  const command = JSON.parse(/^CMD (\[[^\]]*\])$/m.exec(dockerfile.replaceAll('\\\n', ' '))?.[1] ?? '[]') as string[];
  const spool = /BSDSYMS_SPOOL_DIR=(\S+)/.exec(dockerfile)?.[1] ?? '';
  for (const flag of [
    '--permission',
    '--allow-net',
    '--allow-worker',
    '--allow-fs-read=/app',
    `--allow-fs-read=${spool}`,
    `--allow-fs-write=${spool}`,
  ]) {
    check(command.includes(flag), `Dockerfile: node is started without ${flag}`);
  }
  // Otherwise the image for another processor would need emulation.
  check(!/^RUN /m.test(dockerfile.split(/^FROM /m).at(-1) ?? ''), 'Dockerfile: the last stage runs something');
  check(
    command.filter((flag) => flag.startsWith('--allow-fs-write')).length === 1,
    'Dockerfile: more than the spool can be written',
  );
}

function checkBalancers(): void {
  const config = loadConfig({});
  const haproxy = read('deploy/haproxy/haproxy.cfg');
  const nginx = read('deploy/nginx/nginx.conf');
  const timeout = (name: string): number =>
    duration(new RegExp(`^\\s+timeout ${name} (\\w+)$`, 'm').exec(haproxy)?.[1]);
  const directive = (name: string): string => new RegExp(`^\\s+${name} (\\S+);$`, 'm').exec(nginx)?.[1] ?? '';
  const places = config.maxUploads + config.maxQueuedUploads;

  check(
    timeout('client') > config.stallTimeoutMs,
    'haproxy.cfg: timeout client is shorter than BSDSYMS_STALL_TIMEOUT_MS',
  );
  check(
    timeout('server') > config.uploadTimeoutMs,
    'haproxy.cfg: timeout server is shorter than BSDSYMS_UPLOAD_TIMEOUT_MS',
  );
  check(timeout('http-keep-alive') < config.keepAliveTimeoutMs, 'haproxy.cfg: timeout http-keep-alive is too long');
  check(
    Number(/ maxconn (\d+)$/m.exec(haproxy.split('default-server')[1] ?? '')?.[1]) <= places,
    'haproxy.cfg: maxconn is too many',
  );
  check(/httpchk GET \/readyz$/m.test(haproxy), 'haproxy.cfg: /readyz is not asked');

  const form = config.maxImageBytes + FORM_OVERHEAD_BYTES;
  check(
    quantity(directive('client_max_body_size')) >= form,
    'nginx.conf: client_max_body_size is less than the largest form',
  );
  check(directive('proxy_request_buffering') === 'off', 'nginx.conf: uploads would be buffered');
  check(
    duration(directive('client_body_timeout')) > config.stallTimeoutMs,
    'nginx.conf: client_body_timeout is too short',
  );
  check(
    duration(directive('proxy_send_timeout')) > config.stallTimeoutMs,
    'nginx.conf: proxy_send_timeout is too short',
  );
  check(
    duration(directive('proxy_read_timeout')) > config.uploadTimeoutMs,
    'nginx.conf: proxy_read_timeout is too short',
  );
  check(
    duration(directive('keepalive_timeout')) < config.keepAliveTimeoutMs,
    'nginx.conf: keepalive_timeout is too long',
  );
  for (const [, connections] of nginx.matchAll(/max_conns=(\d+)/g)) {
    check(Number(connections) <= places, 'nginx.conf: max_conns is more than the service has places');
  }
}

// --- the programs themselves

/** @param complaint what a program writes of a file that it takes all the same */
function run(
  program: string,
  versionOption: string,
  options: readonly string[],
  what: string,
  complaint?: string,
): void {
  if (spawnSync(program, [versionOption]).error !== undefined) {
    skipped.push(`${what} (no ${program})`);
    return;
  }
  const { status, stdout, stderr } = spawnSync(program, options, { encoding: 'utf8' });
  const isClean = complaint === undefined || !`${stdout}${stderr}`.includes(complaint);
  check(status === 0 && isClean, `${program} does not accept ${what}:\n${stdout}${stderr}`);
}

/** The expressions of the dashboard as rules, which promtool can check. */
function dashboardRules(): string {
  const expressions = [...read('deploy/grafana/dashboard.json').matchAll(/"expr": ("(?:[^"\\]|\\.)*")/g)];
  check(expressions.length > 0, 'dashboard.json: there are no expressions');
  const rules = expressions.map(([, quoted = '""'], index) => {
    const expr = (JSON.parse(quoted) as string).replaceAll('$__rate_interval', '5m').replaceAll('$__range', '1h');
    return { record: `panel:expression${index}`, expr };
  });
  return JSON.stringify({ groups: [{ name: 'dashboard', rules }] });
}

function runPrograms(): void {
  const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-deploy-'));
  try {
    run('haproxy', '-v', ['-c', '-f', join(DEPLOY, 'haproxy/haproxy.cfg')], 'haproxy.cfg');
    const nginx = join(directory, 'nginx.conf');
    writeFileSync(nginx, read('deploy/nginx/nginx.conf').replace(/^pid .*$/m, `pid ${join(directory, 'nginx.pid')};`));
    run('nginx', '-v', ['-t', '-q', '-c', nginx], 'nginx.conf');
    run('promtool', '--version', ['check', 'rules', join(DEPLOY, 'prometheus/alerts.yml')], 'alerts.yml');
    run('promtool', '--version', ['test', 'rules', join(DEPLOY, 'prometheus/alerts.test.yml')], 'alerts.test.yml');
    // JSON is YAML.
    const dashboard = join(directory, 'dashboard.yml');
    writeFileSync(dashboard, dashboardRules());
    run('promtool', '--version', ['check', 'rules', dashboard], 'dashboard.json');
    const unit = join(directory, 'bsdsyms.service');
    // The program and the files need not be on this machine.
    writeFileSync(unit, read('deploy/systemd/bsdsyms.service').replace('/usr/bin/node', process.execPath));
    mkdirSync(`${unit}.d`);
    writeFileSync(join(`${unit}.d`, 'references.conf'), read('deploy/systemd/references.conf'));
    run('systemd-analyze', '--version', ['verify', unit], 'bsdsyms.service with references.conf', directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const manifests = readManifests();
checkNames();
checkTypes(manifests);
checkKustomization(manifests);
checkDeployment(manifests);
checkReferences(manifests);
checkUnit();
checkReferencesUnit();
checkDockerfile();
checkBalancers();
runPrograms();
if (process.argv.includes('--all')) failures.push(...skipped.map((what) => `not checked: ${what}`));
for (const failure of failures) process.stderr.write(`${failure}\n`);
process.stdout.write(
  `deploy: ${checks} checks, ${failures.length} failed${skipped.map((what) => `; skipped ${what}`).join('')}\n`,
);
if (failures.length > 0) process.exitCode = 1;
