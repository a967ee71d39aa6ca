import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { machineBench } from '../support/machine-bench.ts';
import {
  PORTAL_TOKEN,
  signedIn,
  startChromium,
  startPortal,
  type PortalServer,
} from '../support/portal.ts';

// A group from its first key to its next one, with the machine service at the other end.

let portal: PortalServer;
let browser: Browser;

beforeAll(async () => {
  [portal, browser] = await Promise.all([startPortal(), startChromium()]);
}, 90_000);

afterAll(async () => {
  await browser?.close();
  await portal?.[Symbol.asyncDispose]();
});

test('a group gets its key from a machine, credentials sealed to it, and another key that is sealed to next', async () => {
  await using bench = await machineBench();
  const entrance = { type: 'token', token: PORTAL_TOKEN } as const;
  const wish = { entrance, environment: 'dev' };
  await bench.register('member', wish, portal.relay.httpUrl);
  const group = await portal.admin.get('POST', '/environments/dev/groups', { name: 'Night shift' });
  const groupId = String(group['id']);

  await using visited = await signedIn(browser, portal, `#/dev/groups/${groupId}`);
  const { page, complaints } = visited;
  await page.getByText(`halfway machine join-group ${groupId}`).waitFor();
  const joined = await bench.join('member', groupId);
  await page.getByRole('heading', { name: /^Night shift\s+Active/ }).waitFor();
  await page.getByText(joined.fingerprint).waitFor();
  await page.getByRole('table', { name: 'Machines of the group' }).getByText('member').waitFor();

  await page.getByRole('button', { name: 'Run a job' }).click();
  await page.getByRole('link', { name: 'Create a connection' }).click();
  await page.getByText(joined.fingerprint).waitFor();
  await page.getByLabel('Name', { exact: true }).fill('Of the shift');
  await page.getByLabel('Account', { exact: true }).fill('svc');
  await page.getByLabel('Password').fill('first secret');
  await page.getByRole('button', { name: 'Create connection' }).click();
  await page.getByRole('heading', { name: 'Of the shift' }).waitFor();

  await page.getByRole('link', { name: 'Night shift' }).click();
  await page.getByRole('button', { name: 'Replace the key…' }).click();
  await page.getByRole('button', { name: 'Begin' }).click();
  await page.getByText('halfway machine rotate-group-key').waitFor();
  const next = await bench.rotateGroupKey('member', joined.generatedPassword);
  await page.getByText('The next key is made').waitFor();
  await page.getByText(next.fingerprint).waitFor();
  await page.getByText('All machines have it.').waitFor();
  await page.getByText('1 connections are sealed to the present key.').waitFor();
  await page.getByRole('button', { name: 'Make it the present key' }).click();
  await page.getByRole('alert').getByText('KeyInUse').waitFor();

  // Its owner did not allow machines to seal it anew.
  await page.getByLabel('Suspend the connections that are left').check();
  await page.getByRole('button', { name: 'Make it the present key' }).click();
  await page.getByRole('button', { name: 'Replace the key…' }).waitFor();
  await page.getByText(next.fingerprint).waitFor();

  await page.getByRole('link', { name: 'Connections' }).click();
  await page
    .getByRole('row', { name: /Of the shift/ })
    .getByText('Suspended')
    .waitFor();
  await page.getByRole('link', { name: 'Of the shift' }).click();
  await page.getByRole('button', { name: 'New credentials' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Account').fill('svc');
  await dialog.getByLabel('Password').fill('second secret');
  await dialog.getByText('The key has changed.').waitFor();
  await dialog.getByText(next.fingerprint).waitFor();
  await dialog.getByLabel('I have compared this fingerprint').check();
  await dialog.getByRole('button', { name: 'Seal and save' }).click();
  await page.getByText('version 2, sealed to').waitFor();
  await page.getByText('Suspended.').waitFor({ state: 'detached' });
  // What the browser itself says of the 409.
  expect(complaints.filter(text => !text.includes('status of 409'))).toEqual([]);
});
