/**
 * Holds images by reference against uploads, for longer than the tests do: `npm run test:references`.
 *
 * All recorded images on every route, byte for byte (`--every N` for one in N); then an image that changes at 10,000 random moments
 * (`--changes N`): half of them with little memory, so that more is read while the answer is sent, and one in fifty as a file.
 */
import { parseArgs } from 'node:util';
import { TestOrigin } from '../test/support/origin.ts';
import {
  changeAtRandom,
  changeFileAtRandom,
  compareWithUpload,
  IMAGE_ROUTES,
  isIdle,
} from '../test/support/references.ts';
import { startService } from '../test/support/service.ts';
import { TemporaryDirectory } from '../test/support/temporary.ts';
import {
  readBsdsymsVectors,
  readCompressedVectors,
  readContainerVectors,
  readFlatImageVectors,
  readHistoricalVectors,
  readNotesVectors,
} from '../test/support/vectors.ts';

const { values } = parseArgs({
  options: { changes: { type: 'string', default: '10000' }, every: { type: 'string', default: '1' } },
});
/** Some vectors ask for flat images of gigabytes. */
const MAX_FLAT_BYTES = String(1024 * 1024);

const origin = await TestOrigin.start();
const directory = new TemporaryDirectory();
const settings = {
  BSDSYMS_IMAGE_SOURCES: `${origin.url}/,file://${directory.path}/`,
  BSDSYMS_MAX_FLAT_BYTES: MAX_FLAT_BYTES,
  LOG_LEVEL: 'silent',
};
const service = await startService(settings);
const tight = await startService({ ...settings, BSDSYMS_MEMORY_BUDGET_BYTES: '65536' });
let failed = false;
const say = (line: string): void => void process.stdout.write(`${line}\n`);

function* cases(): Generator<{
  readonly name: string;
  readonly image: string;
  readonly parameters: Record<string, string>;
}> {
  for (const { name, image, loadAddress } of readBsdsymsVectors()) {
    yield {
      name,
      image,
      parameters: loadAddress === null ? {} : { loadAddress: `0x${loadAddress.replace(/^0x/, '')}` },
    };
  }
  for (const { name, image, loader } of readHistoricalVectors()) yield { name, image, parameters: { loader } };
  for (const { name, image } of [...readNotesVectors(), ...readFlatImageVectors()])
    yield { name, image, parameters: {} };
  for (const { name, file } of [...readContainerVectors(), ...readCompressedVectors()])
    yield { name, image: file, parameters: {} };
}

try {
  let images = 0;
  const seen = new Set<string>();
  const differences: string[] = [];
  for (const { name, image, parameters } of cases()) {
    const key = `${image} ${JSON.stringify(parameters)}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (seen.size % Number(values.every) !== 0) continue;
    differences.push(...(await compareWithUpload(service, origin, name, Buffer.from(image, 'base64'), parameters)));
    origin.requests.length = 0;
    images += 1;
  }
  say(`${images} images on ${IMAGE_ROUTES.length} routes: ${differences.length} differences`);
  for (const difference of differences.slice(0, 20)) say(difference);
  failed ||= differences.length > 0;

  origin.reset();
  const changes = Number(values.changes);
  const ofFiles = Math.floor(changes / 50);
  const half = Math.floor((changes - ofFiles) / 2);
  const runs = [
    ['an origin, room for all', await changeAtRandom(service, origin, half)],
    ['an origin, little memory', await changeAtRandom(tight, origin, changes - ofFiles - half)],
    ['a file', await changeFileAtRandom(service, directory.file('changing'), ofFiles)],
  ] as const;
  for (const [what, { whole, refused, cut, mixed }] of runs) {
    const total = whole + refused + cut + mixed.length;
    say(`${total} changes of ${what}: ${whole} whole, ${refused} refused, ${cut} cut off, ${mixed.length} mixed`);
    for (const answer of mixed.slice(0, 20)) say(answer);
    // Otherwise nothing was tried.
    const isTried = whole > 0 && (refused > 0 || what === 'a file');
    failed ||= mixed.length > 0 || (total >= 100 && !isTried);
  }
  const idle = isIdle(service) && isIdle(tight);
  say(`everything given back: ${idle}`);
  failed ||= !idle;
} finally {
  await service.close();
  await tight.close();
  origin.close();
  directory.remove();
}
process.exitCode = failed ? 1 : 0;
