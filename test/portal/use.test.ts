import { randomUUID } from 'node:crypto';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { JobAtMachine } from '../support/job-at-machine.ts';
import {
  PORTAL_TOKEN,
  signedIn,
  startChromium,
  startPortal,
  visit,
  type PortalServer,
} from '../support/portal.ts';
import { connectionTo, RelayMachine } from '../support/relay-machine.ts';

// How the page can be used: by the keyboard alone, in the dark, on a telephone, and left open in a tab.

let portal: PortalServer;
let browser: Browser;
let machine: RelayMachine;

beforeAll(async () => {
  [portal, browser] = await Promise.all([startPortal(), startChromium()]);
  machine = await RelayMachine.register(portal.admin, 'desk-keys');
  await machine.connect();
}, 90_000);

afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  await browser?.close();
  await portal?.[Symbol.asyncDispose]();
});

const TABS_MAX = 60;

/** Goes forward by the Tab key until something of this name has the focus. Everything on the way must show it. */
async function tabTo(page: Page, name: string): Promise<void> {
  for (let tabs = 0; tabs < TABS_MAX; tabs += 1) {
    await page.keyboard.press('Tab');
    const focused = page.locator(':focus');
    if ((await focused.count()) === 0) continue;
    const outline = await focused.evaluate(
      element => `${element.ownerDocument.defaultView?.getComputedStyle(element).outlineStyle}`,
    );
    expect(outline).not.toBe('none');
    const labels = await page.evaluate(LABEL_OF_FOCUSED);
    if (labels === name) return;
  }
  throw new Error(`"${name}" is not reached by the Tab key`);
}

const IS_INSIDE =
  "document.activeElement === document.body || document.activeElement.closest('dialog') !== null";

const LABEL_OF_FOCUSED = `(() => {
  const at = document.activeElement;
  return (at.labels?.[0]?.textContent ?? at.ariaLabel ?? at.textContent).trim();
})()`;

/** After a step to another page the next Tab goes on from its title. */
async function arrived(page: Page, title: string | RegExp): Promise<void> {
  await page.getByRole('heading', { level: 1, name: title }).and(page.locator(':focus')).waitFor();
}

test('the keyboard alone signs in, creates a connection, runs a job with it and stops it', async () => {
  // One of its own: what is there does not depend on an earlier try.
  const name = `keys-${randomUUID().slice(0, 8)}`;
  await using keys = await RelayMachine.register(portal.admin, name);
  await keys.connect();
  await using visited = await visit(browser, `${portal.url}#/dev/machines`);
  const { page, complaints } = visited;
  await page.getByLabel('API token').waitFor();
  expect(await page.evaluate(LABEL_OF_FOCUSED)).toBe('API token');
  await page.keyboard.type(PORTAL_TOKEN);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: name }).waitFor();
  await tabTo(page, name);
  await page.keyboard.press('Enter');
  await arrived(page, name);

  // A dialog keeps the focus inside, Escape closes it, and the button that opened it has the focus again.
  await tabTo(page, 'Run a job');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  for (let tabs = 0; tabs < 6; tabs += 1) {
    await page.keyboard.press('Tab');
    // What is not in the dialog is the browser's own.
    expect(await page.evaluate(IS_INSIDE)).toBe(true);
  }
  await page.keyboard.press('Escape');
  // Closed it has no role any more; gone it is when the page knows.
  await page.locator('dialog').waitFor({ state: 'detached' });
  expect(await page.evaluate(LABEL_OF_FOCUSED)).toBe('Run a job');
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Create a connection' }).focus();
  await page.keyboard.press('Enter');

  await arrived(page, 'Create a connection');
  await page.getByText('Sealed to the key').waitFor();
  await tabTo(page, 'Name');
  await page.keyboard.type('By keys');
  await tabTo(page, 'Account');
  await page.keyboard.type('svc');
  await tabTo(page, 'Password');
  await page.keyboard.type('secret of the keyboard');
  await page.keyboard.press('Enter');
  await arrived(page, 'By keys');

  const atMachine = JobAtMachine.next(keys, portal.relay.httpUrl);
  await tabTo(page, 'Run a job');
  await page.keyboard.press('Enter');
  await arrived(page, 'Start a run');
  await tabTo(page, 'Name of the job');
  await page.keyboard.type('typed');
  await tabTo(page, 'Script');
  await page.keyboard.type('sleep 100');
  await tabTo(page, 'Start run');
  await page.keyboard.press('Enter');
  const job = await atMachine;
  await arrived(page, /^typed\s+Running/);
  await tabTo(page, 'Kill…');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await tabTo(page, 'Kill run');
  await page.keyboard.press('Enter');
  expect(await job.cancelled()).toMatchObject({ mode: 'kill' });
  await job.end('Cancelled');
  await page.getByRole('heading', { name: /^typed\s+Cancelled/ }).waitFor();
  expect(complaints).toEqual([]);
});

test('colours follow the system, and text stands out from its ground in both', async () => {
  const grounds: number[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    await using visited = await signedIn(browser, portal, `#/dev/machines/${machine.id}`, {
      colorScheme,
    });
    const { page } = visited;
    await page.getByRole('heading', { name: 'Access' }).waitFor();
    const { ground, contrasts } = await page.evaluate<{
      readonly ground: number;
      readonly contrasts: readonly (readonly [string, number])[];
    }>(CONTRASTS);
    grounds.push(ground);
    expect(contrasts.length).toBeGreaterThan(20);
    expect(contrasts.filter(([, contrast]) => contrast < 4.5)).toEqual([]);
  }
  const [light = 0, dark = 1] = grounds;
  expect(light).toBeGreaterThan(0.8);
  expect(dark).toBeLessThan(0.05);
});

/** Of every element with text of its own: its contrast by WCAG 2, with the nearest ground that is opaque. */
const CONTRASTS = `(() => {
  const channel = value => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(part => channel(Number(part) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = element => {
    const { backgroundColor } = getComputedStyle(element);
    const isClear = backgroundColor.startsWith('rgba(') && backgroundColor.endsWith(', 0)');
    return isClear ? groundOf(element.parentElement) : backgroundColor;
  };
  const texts = [...document.querySelectorAll('body *')].filter(
    element =>
      [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim() !== '') &&
      element.getClientRects().length > 0 &&
      !element.disabled,
  );
  const contrasts = texts.map(element => {
    const [one, other] = [getComputedStyle(element).color, groundOf(element)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return [element.textContent.trim(), contrast];
  });
  return { ground: luminance(groundOf(document.body)), contrasts };
})()`;

test('nothing is wider than a narrow screen', async () => {
  const connection = await connectionTo(portal.admin, machine.id);
  await using visited = await signedIn(browser, portal, '#/dev/machines', {
    viewport: { width: 360, height: 740 },
  });
  const { page } = visited;
  const places = [
    'machines',
    `machines/${machine.id}`,
    'groups',
    'connections',
    `connections/${connection}`,
    `connections/new?target=machine:${machine.id}`,
    'runs',
    'runs/new',
    'schedules',
    'triggers',
    'codes',
    'audit',
  ];
  for (const place of places) {
    await page.goto(`${portal.url}#/dev/${place}`);
    await page.waitForLoadState('networkidle');
    expect([place, await page.evaluate('document.documentElement.scrollWidth')]).toEqual([
      place,
      360,
    ]);
  }
});

test('a tab that nobody sees asks for nothing, and goes on when it is seen', async () => {
  await using visited = await visit(browser, `${portal.url}#/dev/machines`);
  const { page, requests } = visited;
  await page.clock.install();
  await page.getByLabel('API token').fill(PORTAL_TOKEN);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('link', { name: 'desk-keys' }).waitFor();
  const show = async (isHidden: boolean): Promise<void> => {
    await page.evaluate(
      `Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));`,
    );
    await page.waitForLoadState('networkidle');
  };
  const asked = (): number => requests.filter(request => request.url().includes('$api')).length;
  const seen = asked();
  await page.clock.runFor(30_000);
  await page.waitForLoadState('networkidle');
  expect(asked()).toBeGreaterThan(seen);
  await show(true);
  const hidden = asked();
  await page.clock.runFor(300_000);
  expect(asked()).toBe(hidden);
  await show(false);
  expect(asked()).toBeGreaterThan(hidden);
});
