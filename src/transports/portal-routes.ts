import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js';
import { isHostOf } from './portal-guard.ts';
import { endWithoutBody } from './refusal-response.ts';

/** One file of the web portal, in memory. */
export interface PortalFile {
  readonly contentType: string;
  readonly etag: string;
  /** Its name changes with its content, so it may be kept for ever. */
  readonly isImmutable: boolean;
  readonly plain: Uint8Array;
  readonly brotli: Uint8Array | undefined;
  readonly gzip: Uint8Array | undefined;
}

/** By the path below `/$portal/`; the page itself is `''`. */
export type PortalFiles = ReadonlyMap<string, PortalFile>;

const PREFIX = '/$portal';
const PAGE = 'index.html';
/** Vite puts there what has a hash in its name. */
const IMMUTABLE = /^assets\//;
const COMPRESSED = new Set(['.br', '.gz']);

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** All that a page of ours may do; a script that got into it by a record's name could not even load. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self'",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ');

/**
 * No page, not even one of the same origin, has a handle to a window of ours that it has opened. Browsers that do not
 * know the value ignore it, and so does every browser over plain HTTP that is not loopback.
 */
const OPENER_POLICY = 'noopener-allow-popups';

/** Where the build puts the portal, seen from this file: in dist/ beside it, when run from src/ in dist/ too. */
export function portalFolder(): string {
  const isBuilt = import.meta.url.endsWith('.js');
  return fileURLToPath(new URL(isBuilt ? '../portal/' : '../../dist/portal/', import.meta.url));
}

/** Reads the built portal. Undefined when there is none in the folder: then it was not built. */
export function loadPortal(folder: string = portalFolder()): PortalFiles | undefined {
  if (!existsSync(join(folder, PAGE))) return undefined;
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    name => !COMPRESSED.has(extname(name)) && statSync(join(folder, name)).isFile(),
  );
  return new Map(names.map(name => [name === PAGE ? '' : name, fileOf(folder, name)]));
}

function fileOf(folder: string, name: string): PortalFile {
  const plain = readFileSync(join(folder, name));
  const digest = createHash('sha256').update(plain).digest('base64url');
  return {
    contentType: CONTENT_TYPES[extname(name)] ?? 'application/octet-stream',
    etag: `"${digest.slice(0, 22)}"`,
    isImmutable: IMMUTABLE.test(name),
    plain,
    brotli: readIfThere(join(folder, `${name}.br`)),
    gzip: readIfThere(join(folder, `${name}.gz`)),
  };
}

function readIfThere(path: string): Uint8Array | undefined {
  return existsSync(path) ? readFileSync(path) : undefined;
}

/**
 * Adds `/$portal/…`: the web portal's files, and nothing that knows anything. With `hosts` (see `PortalGuard`) they are
 * at these only, and elsewhere is said where.
 */
export function addPortalRoutes(
  app: TemplatedApp,
  files: PortalFiles,
  hosts: readonly string[] = [],
): void {
  const [home] = hosts;
  const route = (response: HttpResponse, request: HttpRequest): void => {
    const isElsewhere = home !== undefined && !isHostOf(hosts, request.getHeader('host'));
    if (isElsewhere) notFound(response, request, `The web portal is at ${home}${PREFIX}/`);
    else answer(response, request, files);
  };
  app.any(PREFIX, route);
  app.any(`${PREFIX}/*`, route);
}

function answer(response: HttpResponse, request: HttpRequest, files: PortalFiles): void {
  const method = request.getMethod();
  const path = request.getUrl().slice(PREFIX.length);
  if (path === '') {
    // Relative, so that it is right behind any proxy.
    response.writeStatus('308 Permanent Redirect').writeHeader('Location', '$portal/');
    response.writeHeader('Cross-Origin-Opener-Policy', OPENER_POLICY).end();
    return;
  }
  if (method !== 'get' && method !== 'head') {
    response.writeStatus('405 Method Not Allowed').writeHeader('Allow', 'GET, HEAD').end();
    return;
  }
  const file = files.get(path.slice(1));
  if (file === undefined) {
    notFound(response, request, 'There is no such file of the portal');
    return;
  }
  const isKnown = request.getHeader('if-none-match').includes(file.etag);
  response.writeStatus(isKnown ? '304 Not Modified' : '200 OK');
  response
    .writeHeader('ETag', file.etag)
    .writeHeader('Vary', 'Accept-Encoding')
    .writeHeader(
      'Cache-Control',
      file.isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    )
    // In a 304, too: a page that was kept before it was said has it from there.
    .writeHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY)
    .writeHeader('Cross-Origin-Opener-Policy', OPENER_POLICY);
  if (isKnown) {
    endWithoutBody(response, undefined);
    return;
  }
  response
    .writeHeader('Content-Type', file.contentType)
    .writeHeader('X-Content-Type-Options', 'nosniff')
    .writeHeader('Referrer-Policy', 'no-referrer');
  const { bytes, encoding } = encoded(file, request.getHeader('accept-encoding'));
  if (encoding !== undefined) response.writeHeader('Content-Encoding', encoding);
  endBody(response, bytes, method);
}

function notFound(response: HttpResponse, request: HttpRequest, text: string): void {
  response
    .writeStatus('404 Not Found')
    .writeHeader('Content-Type', 'text/plain')
    .writeHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY)
    .writeHeader('Cross-Origin-Opener-Policy', OPENER_POLICY);
  endBody(response, Buffer.from(`${text}\n`), request.getMethod());
}

function encoded(
  { plain, brotli, gzip }: PortalFile,
  accepted: string,
): { readonly bytes: Uint8Array; readonly encoding: string | undefined } {
  if (brotli !== undefined && accepts(accepted, 'br')) return { bytes: brotli, encoding: 'br' };
  if (gzip !== undefined && accepts(accepted, 'gzip')) return { bytes: gzip, encoding: 'gzip' };
  return { bytes: plain, encoding: undefined };
}

function accepts(accepted: string, encoding: string): boolean {
  return accepted
    .split(',')
    .map(part => part.trim().split(/\s*;\s*q=/))
    .some(([name, quality = '1']) => name === encoding && Number(quality) > 0);
}

function endBody(response: HttpResponse, bytes: Uint8Array, method: string): void {
  if (method === 'head') endWithoutBody(response, bytes.length);
  else response.end(bytes);
}
