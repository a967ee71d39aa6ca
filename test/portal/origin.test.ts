import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { listen, type Answer, type HttpListener } from '../support/http-listener.ts';
import {
  signedIn,
  startChromium,
  startPortal,
  visit,
  type PortalServer,
} from '../support/portal.ts';

// What a page that a listener serves can do to the portal, in a real browser: nothing where the portal has a host of
// its own, and little where it has not.

const PORTAL_HOST = 'portal.localhost';
const RELAY_URL = 'http://relay.test:8443';

let browser: Browser;

beforeAll(async () => {
  browser = await startChromium();
}, 90_000);

afterAll(() => browser?.close());

/** A listener with bad intentions. */
async function listenWithPages({ relay }: PortalServer): Promise<HttpListener> {
  const listener = await listen(relay, { path: 'open' });
  listener.serve(({ requestTarget }): Answer => {
    const isScript = requestTarget.endsWith('.js');
    return {
      headers: {
        'Content-Type': isScript ? 'text/javascript' : 'text/html',
        'Service-Worker-Allowed': '/',
      },
      body: isScript ? 'addEventListener("fetch", () => {})' : '<!doctype html><title>Bait</title>',
    };
  });
  return listener;
}

/** Tries to take the whole origin over; how that went, and what is there afterwards. */
async function registerWorker(page: Page): Promise<unknown> {
  return page.evaluate(`navigator.serviceWorker.register('/open/worker.js', { scope: '/' })
    .then(() => 'registered', error => error.name)
    .then(async outcome => [outcome, (await navigator.serviceWorker.getRegistrations()).length])`);
}

/** What a page knows of a window that it has opened, and that window of it. */
async function openFrom(page: Page, url: string): Promise<unknown> {
  const popup = page.waitForEvent('popup');
  await page.evaluate(`void (globalThis.opened = open(${JSON.stringify(url)}))`);
  const opened = await popup;
  await opened.waitForURL(url);
  const title = await opened.title();
  const hasOpener = await opened.evaluate('opener !== null');
  return { title, hasOpener, isHeld: await page.evaluate('!globalThis.opened.closed') };
}

describe('a relayed page of the same origin', () => {
  let portal: PortalServer;
  let listener: HttpListener;
  let bait: string;

  beforeAll(async () => {
    portal = await startPortal();
    bait = `${portal.relay.httpUrl}/open/page`;
  }, 90_000);

  afterAll(() => portal?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    listener = await listenWithPages(portal);
  });

  afterEach(() => listener[Symbol.asyncDispose]());

  test('cannot register a service worker, whatever scope it is allowed', async () => {
    await using visited = await visit(browser, bait);
    expect(await registerWorker(visited.page)).toEqual(['TypeError', 0]);
  });

  test('has no handle to a window of the portal that it opened, nor that one to it', async () => {
    await using visited = await visit(browser, bait);
    const ofAnother = await openFrom(visited.page, `${bait}?another`);
    expect(ofAnother).toEqual({ title: 'Bait', hasOpener: true, isHeld: true });
    const ofPortal = await openFrom(visited.page, portal.url);
    expect(ofPortal).toEqual({ title: 'Halfway', hasOpener: false, isHeld: false });
  });

  test('cannot have the portal in a frame', async () => {
    await using visited = await visit(browser, bait);
    const { page, complaints } = visited;
    await page.evaluate(`new Promise(done => {
      const frame = document.createElement('iframe');
      frame.onload = done;
      frame.src = ${JSON.stringify(portal.url)};
      document.body.append(frame);
    })`);
    const seen =
      '(() => { try { return frames[0].document.title } catch ({ name }) { return name } })()';
    expect(await page.evaluate(seen)).toBe('SecurityError');
    expect(complaints.join()).toContain('frame-ancestors');
  });
});

describe('with a host for the portal, a relayed page', () => {
  let portal: PortalServer;
  let listener: HttpListener;
  let bait: string;

  beforeAll(async () => {
    const started = await startPortal({ portalHost: PORTAL_HOST, publicUrl: RELAY_URL });
    portal = { ...started, url: `http://${PORTAL_HOST}:${started.relay.port}/$portal/` };
    bait = `http://localhost:${portal.relay.port}/open/page`;
    listener = await listenWithPages(portal);
  }, 90_000);

  afterAll(async () => {
    await listener?.[Symbol.asyncDispose]();
    await portal?.[Symbol.asyncDispose]();
  });

  test('finds nothing that the portal keeps, in the very tab that was signed in', async () => {
    await using visited = await signedIn(browser, portal);
    const { page } = visited;
    await page.evaluate("localStorage.setItem('kept', 'here')");
    expect(await page.evaluate('sessionStorage.length')).toBeGreaterThan(0);
    await page.goto(bait);
    expect(await page.evaluate('[sessionStorage.length, localStorage.length]')).toEqual([0, 0]);
    await page.goto(portal.url);
    expect(await page.evaluate('localStorage.kept')).toBe('here');
    expect(await page.evaluate('sessionStorage.length')).toBeGreaterThan(0);
  });

  test('may have a service worker, which has nothing of the portal, and cannot read the portal', async () => {
    await using visited = await visit(browser, bait);
    const { page } = visited;
    expect(await registerWorker(page)).toEqual(['registered', 1]);
    const url = JSON.stringify(portal.url);
    expect(await page.evaluate(`fetch(${url}).then(() => 'read', error => error.name)`)).toBe(
      'TypeError',
    );
    const opened = await openFrom(page, portal.url);
    expect(opened).toEqual({ title: 'Halfway', hasOpener: false, isHeld: false });
    await page.goto(portal.url);
    expect(await page.evaluate('navigator.serviceWorker.controller')).toBe(null);
  });

  test('is at the host at which machines register by the command that the portal shows', async () => {
    await using visited = await signedIn(browser, portal, '#/dev/codes');
    const { page } = visited;
    await page.getByRole('button', { name: 'Create a code' }).click();
    await page.getByLabel('Name').fill('Room 7');
    await page.getByRole('button', { name: 'Create code' }).click();
    const command = await page.getByLabel('command to register').first().textContent();
    expect(command).toContain(`--endpoint ${RELAY_URL} --environment dev`);
  });

  test('is not at the host of the portal, nor the portal at its host', async () => {
    await using visited = await visit(browser, bait.replace('localhost', PORTAL_HOST));
    const { page } = visited;
    expect(await page.content()).toContain('This host serves the web portal only');
    await page.goto(portal.url.replace(PORTAL_HOST, 'localhost'));
    expect(await page.content()).toContain(`The web portal is at ${PORTAL_HOST}/$portal/`);
  });
});
