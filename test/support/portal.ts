import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Browser, type Page, type Request } from 'playwright-core';
import { build } from 'vite';
import { RestCaller } from './relay-machine.ts';
import { startRelay, type RelayOptions, type TestRelay } from './relay.ts';
import { someFolder } from './some-folder.ts';

export const PORTAL_TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const CHROMIUM = '/usr/bin/chromium';
/** A name of this machine that browsers take for one far away: plain HTTP to it is not secure. */
export const PLAIN_HOST = 'plain.test';
/** A browser that starts on a busy machine. */
const START_MS = 60_000;
const STEP_MS = 15_000;

/** A server with job dispatch, the environment `dev`, and the portal as its sources are now. */
export interface PortalServer extends AsyncDisposable {
  readonly relay: TestRelay;
  readonly admin: RestCaller;
  /** Of the page. */
  readonly url: string;
}

export async function startPortal(options: RelayOptions = {}): Promise<PortalServer> {
  const folder = someFolder();
  await build({
    configFile: join(import.meta.dirname, '../../src/portal/vite.config.ts'),
    logLevel: 'warn',
    build: { outDir: folder.path, emptyOutDir: true },
  });
  const relay = await startRelay(
    { dispatch: true, apiToken: PORTAL_TOKEN, ...options },
    { portalFolder: folder.path },
  );
  const admin = new RestCaller(relay.httpUrl, PORTAL_TOKEN);
  await admin.get('POST', '/environments', { id: 'dev' });
  return {
    relay,
    admin,
    url: `${relay.httpUrl}/$portal/`,
    async [Symbol.asyncDispose]() {
      await relay[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

export async function startChromium(): Promise<Browser> {
  if (!existsSync(CHROMIUM)) {
    throw new Error(
      `There is no ${CHROMIUM}. Install it: apt-get install -y --no-install-recommends chromium`,
    );
  }
  return chromium.launch({
    executablePath: CHROMIUM,
    timeout: START_MS,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      `--host-resolver-rules=MAP ${PLAIN_HOST} 127.0.0.1`,
    ],
  });
}

export interface Visit extends AsyncDisposable {
  readonly page: Page;
  /** All that the browser asked for, whoever made it. */
  readonly requests: readonly Request[];
  /** Errors and warnings of the page and its console, and of its content security policy. */
  readonly complaints: readonly string[];
}

/** A browser window of its own: nothing is kept from earlier ones. */
export async function visit(
  browser: Browser,
  url: string,
  look: {
    readonly colorScheme?: 'light' | 'dark';
    readonly viewport?: { readonly width: number; readonly height: number };
  } = {},
): Promise<Visit> {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...look });
  context.setDefaultTimeout(STEP_MS);
  const requests: Request[] = [];
  const complaints: string[] = [];
  context.on('request', request => requests.push(request));
  context.on('weberror', error => complaints.push(String(error.error())));
  context.on('console', message => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  const page = await context.newPage();
  await page.goto(url);
  return { page, requests, complaints, [Symbol.asyncDispose]: () => context.close() };
}

/** As `visit`, signed in, at a place such as `#/dev/runs`. */
export async function signedIn(
  browser: Browser,
  { url }: PortalServer,
  place = '#/dev/machines',
  look: Parameters<typeof visit>[2] = {},
): Promise<Visit> {
  const visited = await visit(browser, url + place, look);
  const { page } = visited;
  await page.getByLabel('API token').fill(PORTAL_TOKEN);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { level: 1 }).filter({ hasNotText: 'Halfway' }).waitFor();
  return visited;
}
