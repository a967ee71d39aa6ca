import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadPortal } from '../../src/transports/portal-routes.ts';
import { send } from '../support/http-sender.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { someFolder } from '../support/some-folder.ts';

const PAGE = '<!doctype html><title>Portal</title>';
const SCRIPT = 'export const text = "a script";\n'.repeat(50);

const folder = someFolder();
let relay: TestRelay;

beforeAll(async () => {
  mkdirSync(join(folder.path, 'assets'));
  writeFileSync(join(folder.path, 'index.html'), PAGE);
  writeFileSync(join(folder.path, 'assets/index-abc.js'), SCRIPT);
  writeFileSync(join(folder.path, 'assets/index-abc.js.br'), brotliCompressSync(SCRIPT));
  writeFileSync(join(folder.path, 'assets/index-abc.js.gz'), gzipSync(SCRIPT));
  relay = await startRelay(
    { dispatch: true, apiToken: 'a-token-of-more-than-thirty-two-characters' },
    { portalFolder: folder.path },
  );
});

afterAll(async () => {
  await relay?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

const ask = (path: string, method = 'GET', headers: Readonly<Record<string, string>> = {}) =>
  send(relay, `/$portal${path}`, { method, headers, token: null });

test('the page comes with headers that let nothing foreign in, and is asked for anew each time', async () => {
  const { status, headers, body } = await ask('/');
  expect(status).toBe(200);
  expect(body.toString()).toBe(PAGE);
  expect(headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'noopener-allow-popups',
  });
  const policy = headers['content-security-policy'];
  expect(policy).toContain("default-src 'self'; script-src 'self'; style-src 'self'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain('unsafe');
});

test('the address without its slash leads to the one with it', async () => {
  const { status, headers } = await ask('');
  expect(status).toBe(308);
  const target = new URL(headers.location ?? '', 'http://relay.example/$portal');
  expect(target.pathname).toBe('/$portal/');
});

test('a file whose name has its hash may be kept for ever', async () => {
  const { headers, body } = await ask('/assets/index-abc.js');
  expect(headers['cache-control']).toBe('public, max-age=31536000, immutable');
  expect(headers['content-type']).toBe('text/javascript; charset=utf-8');
  expect(body.toString()).toBe(SCRIPT);
});

test.each([
  ['br', 'gzip, deflate, br', brotliDecompressSync],
  ['gzip', 'gzip, br;q=0', gunzipSync],
] as const)('a file comes as %s to whoever takes it', async (encoding, accepted, decompress) => {
  const asked = await ask('/assets/index-abc.js', 'GET', { 'accept-encoding': accepted });
  expect(asked.headers['content-encoding']).toBe(encoding);
  expect(asked.headers.vary).toBe('Accept-Encoding');
  expect(asked.body.length).toBeLessThan(SCRIPT.length);
  expect(decompress(asked.body).toString()).toBe(SCRIPT);
});

test('a file that the client has is not sent again', async () => {
  const { headers } = await ask('/');
  const again = await ask('/', 'GET', { 'if-none-match': headers.etag ?? '' });
  expect(again.status).toBe(304);
  expect(again.body.length).toBe(0);
  expect(again.headers['cross-origin-opener-policy']).toBe('noopener-allow-popups');
  const other = await ask('/', 'GET', { 'if-none-match': '"another"' });
  expect(other.status).toBe(200);
});

test('HEAD tells the length, and nothing but reading is allowed', async () => {
  const head = await ask('/', 'HEAD');
  expect([head.status, head.headers['content-length'], head.body.length]).toEqual([
    200,
    String(PAGE.length),
    0,
  ]);
  const post = await ask('/', 'POST');
  expect([post.status, post.headers.allow]).toEqual([405, 'GET, HEAD']);
});

test.each([
  '/nothing',
  '/index.html',
  '/assets/',
  '/../portal/',
  '/assets/index-abc.js.br',
  '/%2e%2e/',
])('%s is no file of the portal', async path => {
  expect((await ask(path)).status).toBe(404);
});

test('loadPortal() finds none in a folder where none was built', () => {
  expect(loadPortal(join(folder.path, 'assets'))).toBeUndefined();
});

test('without job dispatch there is no portal', async () => {
  await using plain = await startRelay({}, { portalFolder: folder.path });
  const { status, body } = await send(plain, '/$portal/', { token: null });
  expect(status).toBeGreaterThanOrEqual(400);
  expect(body.toString()).not.toContain(PAGE);
});
