/** Baseline (e): writes `bytes` zeros to a file in `directory` in 1 MiB writes and tells how long that took. */
import { randomUUID } from 'node:crypto';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';

const [directory = '', bytes = '0'] = process.argv.slice(2);
const path = join(directory, `bench-${randomUUID()}`);
const file = await open(path, 'wx');
await unlink(path);
const piece = Buffer.alloc(1024 * 1024, 1);
const started = performance.now();
for (let rest = Number(bytes); rest > 0; rest -= piece.length) await file.write(piece, 0, Math.min(rest, piece.length));
process.send?.({ seconds: (performance.now() - started) / 1000 });
await file.close();
