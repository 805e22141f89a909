/** `/`: a page for browsers, and an index of the routes for everything else. */
import accepts from 'accepts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { JSON_TYPE } from '../negotiation.ts';
import { loadPage, type PageCoding, type PageFile } from '../page-files.ts';
import { Problem } from '../problem.ts';

/** What there is, by path. A test holds this to `openapi.yaml`. */
const ROUTES: Readonly<Record<string, string>> = {
  '/bsdsyms': 'the symbol blob of a kernel',
  '/layout': 'where its symbols lie, and what guests make of them',
  '/check': 'one verdict on a kernel, for a build',
  '/kernel': 'segments, notes, whether Xen would start it',
  '/image': 'the kernel as it lies in guest memory',
  '/symbols': 'its symbols, by name or address',
  '/verify': 'what guests make of a symbol blob',
  '/problems': 'what the codes of problems mean',
  '/problems/{code}': 'what one code means',
  '/healthz': 'whether the process is alive',
  '/readyz': 'whether uploads are taken',
  '/version': 'what runs here, and within which limits',
  '/openapi.yaml': 'all routes, as OpenAPI',
  '/openapi.json': 'the same as JSON',
  '/metrics': 'metrics for Prometheus',
};

const HTML_TYPE = 'text/html';

/**
 * The page runs its own scripts and styles and nothing else, and opens no connection: what it reads of a file cannot leave the
 * browser. It may not be framed, and text becomes a script or markup in one module only (src/page/trust.ts).
 */
const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "worker-src 'self'",
  "connect-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types bsdsyms',
].join('; ');

/** A worker has the policy that its own script comes with. It loads nothing. */
const ASSET_POLICY =
  "default-src 'none'; connect-src 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const COMMON_HEADERS = {
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

const PAGE_HEADERS = {
  ...COMMON_HEADERS,
  'Content-Security-Policy': PAGE_POLICY,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()',
  // It is small, and must name the scripts of the service that answers.
  'Cache-Control': 'no-cache',
};

const ASSET_HEADERS = {
  ...COMMON_HEADERS,
  'Content-Security-Policy': ASSET_POLICY,
  // Their names change with their contents.
  'Cache-Control': 'public, max-age=31536000, immutable',
  Vary: 'Accept-Encoding',
};

/** @param isOn whether there is a page; without it `/` is the index for everyone */
export function pageRoutes(app: FastifyInstance, isOn: boolean, version: string): void {
  const index = { name: 'bsdsyms', version, openapi: '/openapi.yaml', routes: ROUTES };

  app.get('/', async (request, reply) => {
    const wantsPage = isOn && accepts(request.raw).type([JSON_TYPE, HTML_TYPE]) === HTML_TYPE;
    const page = wantsPage ? await loadDocument(request) : null;
    reply.header('Vary', isOn ? 'Accept, Accept-Encoding' : 'Accept');
    if (page === null) return reply.header('Cache-Control', 'no-cache').send(index);
    return sendFile(request, reply.headers(PAGE_HEADERS), page);
  });

  if (!isOn) return;
  app.get<{ Params: { readonly file: string } }>('/page/:file', async (request, reply) => {
    const { file: name } = request.params;
    const file = name === DOCUMENT ? undefined : (await loadPage()).get(name);
    if (file === undefined) {
      throw new Problem('not-found', 'The page has no such file. It may be one of another version: reload the page.');
    }
    return sendFile(request, reply.headers(ASSET_HEADERS), file);
  });
}

const DOCUMENT = 'index.html';

/** The document; null where it cannot be made, as from source without development dependencies. */
async function loadDocument({ log }: FastifyRequest): Promise<PageFile | null> {
  try {
    return (await loadPage()).get(DOCUMENT) ?? null;
  } catch (error) {
    log.warn({ err: error }, 'the page cannot be made; browsers get the index of routes');
    return null;
  }
}

async function sendFile(request: FastifyRequest, reply: FastifyReply, file: PageFile): Promise<FastifyReply> {
  const coding = chooseCoding(request);
  const tag = `"${file.hash}${coding === 'identity' ? '' : `-${coding}`}"`;
  reply.header('ETag', tag).type(file.type);
  if (matches(request.headers['if-none-match'], tag)) return reply.code(304).send();
  if (coding !== 'identity') reply.header('Content-Encoding', coding);
  return reply.send(await file.coded(coding));
}

/** The smallest one that the client takes; browsers list all of them alike. */
function chooseCoding({ raw }: FastifyRequest): PageCoding {
  const accepted = accepts(raw).encodings();
  return (['br', 'gzip'] as const).find((coding) => accepted.includes(coding)) ?? 'identity';
}

/** Weak comparison (RFC 9110, section 13.1.2). */
const matches = (header: string | undefined, tag: string): boolean =>
  header !== undefined && header.split(',').some((one) => ['*', tag, `W/${tag}`].includes(one.trim()));
