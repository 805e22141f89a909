/**
 * Bundles the page that the service serves at `/` (src/page): scripts, style, icon and the document, which names the others
 * by their hashes. `npm run build` writes them; a service that runs from source bundles them when a browser first asks.
 *
 *     node scripts/bundle-page.ts dist/page
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { LOADERS } from '../src/xen/loaders/bsdsyms.ts';

const PAGE = new URL('../src/page/', import.meta.url);
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  readonly version: string;
};

/** One script with all that it imports. The worker must not import anything, nor the page load anything later. */
async function bundle(name: string): Promise<string> {
  const build = await rolldown({
    input: fileURLToPath(new URL(`${name}.ts`, PAGE)),
    platform: 'browser',
    tsconfig: false,
    // A warning is a fault: a module of Node that is left out, or an import that does not exist.
    onLog(_level, { message }) {
      throw new Error(`src/page/${name}.ts: ${message}`);
    },
  });
  const { output } = await build.generate({ format: 'es', minify: true });
  await build.close();
  const [chunk, ...others] = output;
  if (others.length > 0) throw new Error(`src/page/${name}.ts: more than one file came out of it`);
  return chunk.code;
}

const read = (name: string): string => readFileSync(new URL(name, PAGE), 'utf8');

const withHash = (name: string, text: string): string => {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return name.replace(/\.(\w+)$/, `-${hash}.$1`);
};

/** All files of the page, by name; `index.html` is the document. */
export async function bundlePage(): Promise<ReadonlyMap<string, string>> {
  const [main, worker] = await Promise.all([bundle('main'), bundle('worker')]);
  const assets: readonly (readonly [string, string])[] = [
    ['main.js', main],
    ['worker.js', worker],
    ['style.css', read('style.css').replaceAll(/^\s+/gm, '')],
    ['icon.svg', read('icon.svg')],
  ];
  const files = new Map<string, string>();
  let document = read('index.html');
  for (const [name, text] of assets) {
    const hashed = withHash(name, text);
    files.set(hashed, text);
    document = document.replaceAll(`%${name}%`, hashed);
  }
  const loaders = LOADERS.map((loader) => `<option>${loader}</option>`).join('');
  document = document.replaceAll('%loaders%', loaders).replaceAll('%version%', version);
  return files.set('index.html', document);
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) throw new Error('name the folder to write to');
  // Files of an older build have other names.
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of await bundlePage()) writeFileSync(join(folder, name), text);
}
