/** The page of a service in Chromium, and everything that it must not do. */
import { existsSync, mkdirSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { type Service, startService } from '../support/service.ts';

const EXECUTABLES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
/** Kept as artifacts by CI. */
const SCREENSHOTS = new URL('../../screenshots/', import.meta.url);
const PATIENCE_MS = 15_000;

export async function launch(): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? EXECUTABLES.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error('Chromium is missing: apt-get install chromium, or set CHROMIUM');
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--enable-precise-memory-info'],
  });
}

/** A file as `setInputFiles` takes it. */
export const fileOf = (name: string, bytes: Uint8Array): { name: string; mimeType: string; buffer: Buffer } => ({
  name,
  mimeType: 'application/octet-stream',
  buffer: Buffer.from(bytes),
});

/** One page, watched from its first request on. */
export class Visit {
  readonly page: Page;
  readonly origin: string;
  /** Errors of the console, exceptions, and violations of the policy. */
  readonly complaints: string[] = [];
  readonly requests: string[] = [];

  private static async make(
    browser: Browser,
    service: Service,
    options: BrowserContextOptions,
    hash: string,
  ): Promise<Visit> {
    const context = await browser.newContext({ acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const visit = new Visit(page, service.url);
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') visit.complaints.push(message.text());
    });
    page.on('pageerror', (error) => visit.complaints.push(String(error)));
    context.on('request', (request) => visit.requests.push(request.url()));
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    await page.goto(`${service.url}/${hash}`, { waitUntil: 'networkidle' });
    return visit;
  }

  static open = (browser: Browser, service: Service, options: BrowserContextOptions = {}, hash = ''): Promise<Visit> =>
    Visit.make(browser, service, options, hash);

  private constructor(page: Page, origin: string) {
    this.page = page;
    this.origin = origin;
  }

  /** Chooses a file, and waits until all about it is there. */
  async choose(file: ReturnType<typeof fileOf> | string): Promise<void> {
    await this.page.locator('#file').setInputFiles(file);
    await this.settled();
  }

  async settled(): Promise<void> {
    await this.page.locator('#cancel').waitFor({ state: 'hidden' });
  }

  verdict(): Promise<string> {
    return this.page.locator('#verdict-title').innerText();
  }

  tone(): Promise<string | null> {
    return this.page.locator('.verdict').getAttribute('data-tone');
  }

  /** @param isWhole whether with what has to be scrolled to */
  async screenshot(name: string, isWhole = true): Promise<void> {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: new URL(`${name}.png`, SCREENSHOTS).pathname, fullPage: isWhole });
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}

export const startPageService = (): Promise<Service> => startService();
