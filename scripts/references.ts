/**
 * Holds images by reference against uploads, for longer than the tests do: `node scripts/references.ts`.
 *
 * All recorded images on every route, byte for byte (`--every N` for one in N); then an image that changes at 10,000 random moments (`--changes N`).
 */
import { parseArgs } from 'node:util';
import { kernel } from '../test/support/elf-builder.ts';
import { TestOrigin } from '../test/support/origin.ts';
import { changeAtRandom, compareWithUpload, isIdle } from '../test/support/references.ts';
import { type Service, startService } from '../test/support/service.ts';
import {
  readBsdsymsVectors,
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
const service: Service = await startService({
  BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
  BSDSYMS_MAX_FLAT_BYTES: MAX_FLAT_BYTES,
  LOG_LEVEL: 'silent',
});
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
  for (const { name, file } of readContainerVectors()) yield { name, image: file, parameters: {} };
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
  say(`${images} images on five routes: ${differences.length} differences`);
  for (const difference of differences.slice(0, 20)) say(difference);
  failed ||= differences.length > 0;

  origin.reset();
  const versions = [1, 2, 3].map((value) => {
    const symbols = Array.from({ length: 6000 }, (_, index) => ({ name: `symbol_${value}_${index}`, value }));
    return kernel({ symbols, text: { data: new Uint8Array(200_000).fill(value) }, memsz: 0x100000 }).bytes;
  });
  const { whole, refused, cut, mixed } = await changeAtRandom(service, origin, versions, Number(values.changes));
  say(`${values.changes} changes: ${whole} whole, ${refused} refused, ${cut} cut off, ${mixed.length} mixed`);
  failed ||= mixed.length > 0 || whole === 0 || refused === 0;
  const idle = isIdle(service);
  say(`everything given back: ${idle}`);
  failed ||= !idle;
} finally {
  await service.close();
  origin.close();
}
process.exitCode = failed ? 1 : 0;
