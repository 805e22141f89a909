/** Files of a test, and certificates. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class TemporaryDirectory {
  readonly path = mkdtempSync(join(tmpdir(), 'bsdsyms-test-'));
  #files = 0;

  file(name: string): string {
    return join(this.path, name);
  }

  /** Writes a file of a name that was not used before. */
  write(content: string | Uint8Array): string {
    this.#files += 1;
    const path = this.file(`file-${this.#files}`);
    writeFileSync(path, content);
    return path;
  }

  /** Removes all that is in it. */
  empty(): void {
    this.remove();
    mkdirSync(this.path);
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export const hasProgram = (name: string, ...versionArguments: readonly string[]): boolean =>
  spawnSync(name, versionArguments, { stdio: 'ignore' }).status === 0;

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Makes a self-signed certificate for 127.0.0.1. @returns the paths of its files */
export function makeCertificate(directory: TemporaryDirectory, name: string): Certificate {
  const cert = directory.file(`${name}.cert.pem`);
  const key = directory.file(`${name}.key.pem`);
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', [...kind, ...subject, '-keyout', key, '-out', cert], { stdio: 'pipe' });
  return { cert, key };
}
