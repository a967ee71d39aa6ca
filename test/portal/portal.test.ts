import { createHmac } from 'node:crypto';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeBase64Url } from '../../src/crypto/base64url.ts';
import { fingerprintOf } from '../../src/crypto/fingerprint.ts';
import { openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { openEnvelope, readCredential } from '../../src/crypto/open-envelope.ts';
import { JobAtMachine } from '../support/job-at-machine.ts';
import {
  PLAIN_HOST,
  PORTAL_TOKEN,
  signedIn,
  startChromium,
  startPortal,
  visit,
  type PortalServer,
} from '../support/portal.ts';
import { connectionTo, RelayMachine } from '../support/relay-machine.ts';
import { spellingsIn } from '../support/spellings.ts';

// The page as people have it: built from its sources, served by a real server, in a real browser, with a
// machine that listens through the relay.

const PASSWORD = 'k7-Grüße & "Küsse"/+=\\ aus dem Tresor';

let portal: PortalServer;
let browser: Browser;

beforeAll(async () => {
  [portal, browser] = await Promise.all([startPortal(), startChromium()]);
}, 90_000);

afterAll(async () => {
  await browser?.close();
  await portal?.[Symbol.asyncDispose]();
});

async function connectedMachine(name: string): Promise<RelayMachine> {
  const machine = await RelayMachine.register(portal.admin, name);
  await machine.connect();
  return machine;
}

async function keyOf(machine: RelayMachine): Promise<OpeningKey> {
  const { d = '' } = machine.keys.encryption.export({ format: 'jwk' });
  const scalar = decodeBase64Url(d);
  if (scalar === undefined) throw new Error('a key without its scalar');
  return openingKeyOf(scalar);
}

async function chooseOption(page: Page, label: string, option: string): Promise<void> {
  await page.getByLabel(label).selectOption({ label: option });
}

describe('signing in', () => {
  test('a wrong token is refused beside its field, with a tracking id, and not kept', async () => {
    await using visited = await visit(browser, portal.url);
    const { page, complaints } = visited;
    await page.getByLabel('API token').fill('hwt_wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    const field = page.getByLabel('API token');
    await page.getByText('This token is not taken').waitFor();
    expect(await field.getAttribute('aria-invalid')).toBe('true');
    expect(await page.getByRole('alert').textContent()).toMatch(
      /TokenInvalid · tracking id [\da-f-]{36}/,
    );
    await page.waitForFunction("document.activeElement.name === 'token'");
    expect(await page.evaluate('sessionStorage.length + localStorage.length')).toBe(0);
    // What the browser itself says of any 401.
    expect(complaints.filter(text => !text.includes('status of 401'))).toEqual([]);
  });

  test('a token opens the pages until the tab signs out, also after a reload', async () => {
    await using visited = await signedIn(browser, portal);
    const { page, requests, complaints } = visited;
    await page.reload();
    await page.getByRole('heading', { name: 'Machines' }).waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API token').waitFor();
    expect(await page.evaluate('sessionStorage.length')).toBe(0);
    const { origin } = new URL(portal.url);
    expect(requests.filter(request => new URL(request.url()).origin !== origin)).toEqual([]);
    expect(requests.filter(request => request.url().includes(PORTAL_TOKEN))).toEqual([]);
    expect(complaints).toEqual([]);
  });
});

describe('connections', () => {
  test('running something on a machine without a connection is refused, and leads to creating one', async () => {
    await using machine = await connectedMachine('desk-without');
    await using visited = await signedIn(browser, portal, `#/dev/machines/${machine.id}`);
    const { page } = visited;
    await page.getByRole('button', { name: 'Run a job' }).click();
    const dialog = page.getByRole('dialog', { name: 'Nothing can run here yet' });
    expect(await dialog.textContent()).toContain('There is none to desk-without yet');
    await dialog.getByRole('link', { name: 'Create a connection' }).click();
    await page.getByRole('heading', { name: 'Create a connection' }).waitFor();
    expect(await page.getByLabel('Target').inputValue()).toBe(`machine:${machine.id}`);
  });

  test('a password leaves the page sealed only, and opens with the key of the machine alone', async () => {
    await using machine = await connectedMachine('desk-sealed');
    const key = await keyOf(machine);
    await using visited = await signedIn(
      browser,
      portal,
      `#/dev/connections/new?target=machine:${machine.id}`,
    );
    const { page, requests, complaints } = visited;
    await page.getByLabel('Name', { exact: true }).fill('Bookkeeping');
    await page.getByLabel('Account', { exact: true }).fill('CONTOSO\\svc-books');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByText(fingerprintOf(key.kid)).waitFor();
    await page.getByText('This browser has not seen it before').waitFor();
    await page.getByRole('button', { name: 'Create connection' }).click();
    await page.getByRole('heading', { name: 'Bookkeeping' }).waitFor();

    const sent = await Promise.all(
      requests.map(async request => ({
        url: request.url(),
        body: request.postDataBuffer() ?? Buffer.of(),
        headers: JSON.stringify(await request.allHeaders()),
      })),
    );
    for (const { url, body, headers } of sent) {
      expect(spellingsIn(body, PASSWORD)).toEqual([]);
      expect(spellingsIn(Buffer.from(url + headers), PASSWORD)).toEqual([]);
      expect(spellingsIn(body, 'svc-books')).toEqual([]);
    }
    // The search finds what is there.
    const made = sent.find(({ body }) => spellingsIn(body, 'Bookkeeping').includes('UTF-8'));
    const { id, envelope } = JSON.parse(made?.body.toString() ?? '{}');
    const holder = {
      tenant: 'default',
      environment: 'dev',
      kind: 'machine',
      id: machine.id,
    } as const;
    const purpose = { type: 'credential', object: 'connection', id, version: 1 } as const;
    const opened = await openEnvelope([key], holder, purpose, envelope);
    if (typeof opened === 'string') throw new Error(opened);
    expect(readCredential(opened)).toEqual({
      domain: 'CONTOSO',
      user: 'svc-books',
      password: PASSWORD,
    });
    expect(spellingsIn(opened, PASSWORD)).toContain('JSON');
    const elsewhere = { ...purpose, version: 2 };
    expect(await openEnvelope([key], holder, elsewhere, envelope)).toBe(
      'CredentialContextMismatch',
    );
    expect(complaints).toEqual([]);

    // New credentials are sealed for the next version; the page knows the key by now.
    await page.getByRole('button', { name: 'New credentials' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('It is the key that this browser sealed to before').waitFor();
    await dialog.getByLabel('Account').fill('svc-books');
    await dialog.getByLabel('Password').fill(`${PASSWORD} 2`);
    await dialog.getByRole('button', { name: 'Seal and save' }).click();
    await page.getByText('version 2, sealed to').waitFor();

    // What a run brings to the machine is that.
    const atMachine = JobAtMachine.next(machine, portal.relay.httpUrl);
    await page.getByRole('link', { name: 'Run a job' }).click();
    await page.getByLabel('Name of the job').fill('book');
    await page.getByLabel('Script').fill('true');
    await page.getByRole('button', { name: 'Start run' }).click();
    const { offer } = await atMachine;
    const brought = await openEnvelope([key], holder, elsewhere, offer.credential ?? envelope);
    if (typeof brought === 'string') throw new Error(brought);
    expect(readCredential(brought)?.password).toBe(`${PASSWORD} 2`);
  });

  test('another key than the one before is warned of, and used only when somebody says so', async () => {
    await using machine = await connectedMachine('desk-changed');
    const place = `#/dev/connections/new?target=machine:${machine.id}`;
    await using visited = await signedIn(browser, portal);
    const { page } = visited;
    const other = 'A'.repeat(43);
    const item = `halfway.key.dev.machine.${machine.id}`;
    await page.evaluate(`localStorage.setItem('${item}', '${other}')`);
    await page.goto(portal.url + place);
    await page.getByText('The key has changed.').waitFor();
    await page.getByText(fingerprintOf(other)).waitFor();
    await page.getByLabel('Name', { exact: true }).fill('Changed');
    await page.getByLabel('Account', { exact: true }).fill('svc');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Create connection' }).click();
    await page.waitForFunction("document.activeElement.name === 'keyIsRight'");
    await page.getByLabel('I have compared this fingerprint').check();
    await page.getByRole('button', { name: 'Create connection' }).click();
    await page.getByRole('heading', { name: 'Changed' }).waitFor();
    expect(await page.evaluate(`localStorage.getItem('${item}')`)).toBe((await keyOf(machine)).kid);
  });

  test('a key that is not what the server calls it is not sealed to', async () => {
    await using machine = await connectedMachine('desk-lied-about');
    const other = await RelayMachine.register(portal.admin, 'desk-of-somebody');
    await using visited = await signedIn(browser, portal);
    const { page } = visited;
    await page.route('**/public-key', async route => {
      const { kid } = await (await route.fetch()).json();
      const foreign = Buffer.from((await keyOf(other)).point).toString('base64url');
      await route.fulfill({ json: { kid, suite: 'p256', point: foreign, fingerprint: 'x' } });
    });
    await page.goto(`${portal.url}#/dev/connections/new?target=machine:${machine.id}`);
    await page.getByText('KeyMismatch').waitFor();
    expect(await page.getByRole('button', { name: 'Create connection' }).isDisabled()).toBe(true);
  });

  test('asking again after a lost answer makes one connection', async () => {
    await using machine = await connectedMachine('desk-lossy');
    const place = `#/dev/connections/new?target=machine:${machine.id}`;
    await using visited = await signedIn(browser, portal, place);
    const { page } = visited;
    const statuses: number[] = [];
    await page.route('**/connections', async route => {
      if (route.request().method() !== 'POST') return route.continue();
      statuses.push((await route.fetch()).status());
      return statuses.length === 1 ? route.abort() : route.continue();
    });
    await page.getByLabel('Name', { exact: true }).fill('Once');
    await page.getByLabel('Account', { exact: true }).fill('svc');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Create connection' }).click();
    await page.getByRole('alert').getByText('The server cannot be reached').waitFor();
    await page.getByRole('button', { name: 'Create connection' }).click();
    await page.getByRole('heading', { name: 'Once' }).waitFor();
    expect(statuses).toEqual([201, 200]);
    const query = `targetKind=machine&targetId=${machine.id}`;
    const list = await portal.admin.get('GET', `/environments/dev/connections?${query}`);
    expect(list['items']).toHaveLength(1);
  });

  test('where the browser has no cryptography the page says so and seals nothing', async () => {
    await using machine = await connectedMachine('desk-plain');
    const plain = { ...portal, url: portal.url.replace('127.0.0.1', PLAIN_HOST) };
    const place = `#/dev/connections/new?target=machine:${machine.id}`;
    await using visited = await signedIn(browser, plain, place);
    const { page, requests, complaints } = visited;
    await page.getByText('Nothing can be sealed on this page.').waitFor();
    expect(await page.getByRole('button', { name: 'Create connection' }).isDisabled()).toBe(true);
    expect(requests.filter(request => request.url().includes('public-key'))).toEqual([]);
    // What the browser says of a header that it takes from secure origins only.
    expect(
      complaints.filter(text => !text.includes('Opener-Policy header has been ignored')),
    ).toEqual([]);
  });

  test('a connection is deleted once its name was typed', async () => {
    await using machine = await connectedMachine('desk-deleted');
    const id = await connectionTo(portal.admin, machine.id);
    await using visited = await signedIn(browser, portal, `#/dev/connections/${id}`);
    const { page } = visited;
    await page.getByRole('button', { name: 'Delete connection…' }).click();
    const button = page.getByRole('button', { name: 'Delete connection', exact: true });
    expect(await button.isDisabled()).toBe(true);
    await page.getByLabel(/^Type/).fill(`at ${machine.id}`);
    await button.click();
    await page.getByRole('heading', { name: 'Connections' }).waitFor();
    const { status } = await portal.admin.call('GET', `/environments/dev/connections/${id}`);
    expect(status).toBe(404);
  });
});

describe('runs', () => {
  test('a run shows its log as it is written, its progress, and its end with outputs', async () => {
    await using machine = await connectedMachine('desk-log');
    const connection = await connectionTo(portal.admin, machine.id);
    const atMachine = JobAtMachine.next(machine, portal.relay.httpUrl);
    const place = `#/dev/runs/new?connection=${connection}`;
    await using visited = await signedIn(browser, portal, place);
    const { page, complaints } = visited;
    await page.getByLabel('Name of the job').fill('count');
    await chooseOption(page, 'What runs', 'A program with arguments');
    await page.getByLabel('Program', { exact: true }).fill('/bin/echo');
    await page.getByLabel('Arguments').fill('one two\n--three');
    await page.getByRole('button', { name: 'Add an input' }).click();
    await page.getByLabel('Name', { exact: true }).fill('month');
    await page.getByLabel('Value').fill('11');
    await page.getByText('Time, priority').click();
    await chooseOption(page, 'Session', 'Attended: in the session of whoever is signed in');
    await chooseOption(page, 'Priority', 'High: before all normal ones');
    await page.getByLabel('Ended after').fill('60');
    await page.getByRole('button', { name: 'Start run' }).click();
    const job = await atMachine;
    expect(job.offer.job.command).toEqual(['/bin/echo', 'one two', '--three']);
    expect(job.offer.inputs).toEqual({ month: 11 });
    expect(job.offer.limits.runSeconds).toBe(60);

    await page.getByRole('heading', { name: /^count\s+Running/ }).waitFor();
    const log = page.getByRole('log', { name: 'Log of the run' });
    await job.log('\u001B[32mfirst line of Übung\u001B[0m\n');
    await log.getByText('first line of Übung').waitFor();
    await job.progress('Reading', 3, 4);
    await page.getByText('Reading').waitFor();
    await job.log('second line\n');
    await log.getByText('second line').waitFor();
    expect(await log.textContent()).toBe('first line of Übung\nsecond line\n');
    await job.end('Succeeded', { rows: 42 });
    await page.getByRole('heading', { name: /^count\s+Succeeded/ }).waitFor();
    await page.getByText('"rows": 42').waitFor();
    await page.getByText('complete', { exact: true }).waitFor();
    expect(await page.getByRole('button', { name: 'Stop…' }).count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  test('a run is stopped at the machine when somebody stops it here', async () => {
    await using machine = await connectedMachine('desk-cancel');
    const connection = await connectionTo(portal.admin, machine.id);
    const atMachine = JobAtMachine.next(machine, portal.relay.httpUrl);
    const run = { ref: 'endless', kind: 'command', command: ['yes'] };
    const asked = { connectionId: connection, mode: 'attended', job: run };
    const { id } = await portal.admin.get('POST', '/environments/dev/runs', asked);
    const job = await atMachine;
    await using visited = await signedIn(browser, portal, `#/dev/runs/${String(id)}`);
    const { page, complaints } = visited;
    await page.getByRole('button', { name: 'Stop…', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Stop run' }).click();
    expect(await job.cancelled()).toEqual({ mode: 'stop', graceSeconds: 10 });
    await page.getByRole('heading', { name: /^endless\s+Cancelling/ }).waitFor();
    await job.end('Cancelled');
    await page.getByRole('heading', { name: /^endless\s+Cancelled/ }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('a run that waits is moved to the top and back, and shows why it waits', async () => {
    const machine = await RelayMachine.register(portal.admin, 'desk-away');
    const connection = await connectionTo(portal.admin, machine.id);
    const ids: string[] = [];
    for (const ref of ['earlier', 'later']) {
      const job = { ref, kind: 'command', command: ['true'] };
      const asked = { connectionId: connection, mode: 'attended', job };
      ids.push(String((await portal.admin.get('POST', '/environments/dev/runs', asked))['id']));
    }
    await using visited = await signedIn(browser, portal, `#/dev/runs/${ids[1]}`);
    const { page } = visited;
    await page.getByRole('button', { name: 'Move to top' }).click();
    await page.getByText('normal, moved to the top').waitFor();
    await page.getByRole('link', { name: 'desk-away' }).first().click();
    const queue = page.getByRole('table', { name: 'Waiting runs' });
    await queue.getByRole('row').nth(1).getByText('later').waitFor();
    await queue.getByRole('link', { name: 'later' }).click();
    await page.getByRole('button', { name: 'Back to its place' }).click();
    await page.getByRole('button', { name: 'Make priority high' }).click();
    await page.getByText('Priority changed').waitFor();
    await page.getByRole('button', { name: 'Cancel…' }).click();
    await page.getByRole('button', { name: 'Cancel run' }).click();
    await page.getByRole('heading', { name: /^later\s+Cancelled/ }).waitFor();
  });
});

describe('machines and groups', () => {
  test('maintenance is switched, and the list says why nothing is given to the machine', async () => {
    await using machine = await connectedMachine('desk-maintained');
    await using visited = await signedIn(browser, portal, `#/dev/machines/${machine.id}`);
    const { page } = visited;
    await page.getByText(fingerprintOf((await keyOf(machine)).kid)).waitFor();
    await page.getByRole('switch', { name: 'Maintenance' }).click();
    await page.getByRole('heading', { name: /^desk-maintained\s+Maintenance/ }).waitFor();
    await page.getByRole('link', { name: 'Machines' }).first().click();
    const row = page.getByRole('row', { name: /desk-maintained/ });
    await row.getByText('Maintenance was switched on').waitFor();
    await row.getByText('Connected').waitFor();
  });

  test('what somebody else changed meanwhile is not undone by an edit that was open', async () => {
    await using machine = await connectedMachine('desk-edited');
    const path = `/environments/dev/machines/${machine.id}`;
    await using visited = await signedIn(browser, portal, `#/dev/machines/${machine.id}`);
    const { page } = visited;
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('Description').fill('mine');
    await portal.admin.get('POST', `${path}:drain`);
    // The page behind the dialog has it by now.
    await page.getByText('It is drained').waitFor();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('alert').getByText('PreconditionFailed').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('Description').fill('mine, after theirs');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('mine, after theirs').waitFor();
  });

  test('an environment that is not there for somebody says so and offers the others', async () => {
    await using visited = await signedIn(browser, portal, '#/dev/machines');
    const { page, complaints } = visited;
    await page.goto(`${portal.url}#/nowhere/machines`);
    await page.getByText('There is no environment “nowhere” for you').waitFor();
    await page.getByLabel('Environment').selectOption('dev');
    await page.getByRole('heading', { name: 'Machines' }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('a group without a key says how it gets one; what the server finds wrong stands at its field', async () => {
    await using visited = await signedIn(browser, portal, '#/dev/groups');
    const { page } = visited;
    await page.getByRole('button', { name: 'Create a group' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name').fill('n'.repeat(101));
    await dialog.getByLabel('Description').fill('d'.repeat(2_001));
    await dialog.getByRole('button', { name: 'Create group' }).click();
    await dialog.getByRole('alert').waitFor();
    await dialog.locator('.fault').nth(1).waitFor();
    for (const label of ['Name', 'Description']) {
      const field = dialog.getByLabel(label);
      expect(await field.getAttribute('aria-invalid')).toBe('true');
      const notes = (await field.getAttribute('aria-describedby')) ?? '';
      expect(await page.locator(`[id="${notes}"]`).textContent()).toMatch(/Invalid length/);
    }
    await dialog.getByLabel('Name').fill('Night shift');
    await dialog.getByLabel('Description').fill('');
    await dialog.getByRole('button', { name: 'Create group' }).click();
    await page.getByRole('heading', { name: /^Night shift\s+Needs a key/ }).waitFor();
    await page.getByText(/^halfway machine join-group [\da-f-]{36}$/).waitFor();
  });

  test('an activation code is shown once, with the command that uses it', async () => {
    await using visited = await signedIn(browser, portal, '#/dev/codes');
    const { page } = visited;
    await page.getByRole('button', { name: 'Create a code' }).click();
    await page.getByLabel('Name').fill('Room 7');
    await page.getByRole('button', { name: 'Create code' }).click();
    const code = await page.getByLabel('activation code', { exact: true }).textContent();
    expect(code).toMatch(/^hwa_[\w-]{27}$/);
    const command = await page.getByLabel('command to register').first().textContent();
    expect(command).toContain(`--endpoint ${portal.relay.httpUrl} --environment dev`);
    await page.getByRole('button', { name: 'Done' }).click();
    await page.getByRole('row', { name: /Room 7/ }).waitFor();
    expect(await page.content()).not.toContain(code);
    await page.getByRole('link', { name: 'Audit' }).click();
    await page.getByText('code.create').first().waitFor();
  });
});

describe('what starts runs by itself', () => {
  test('a schedule starts runs with a connection until it is switched off', async () => {
    await using machine = await connectedMachine('desk-by-the-clock');
    const connection = await connectionTo(portal.admin, machine.id);
    await using visited = await signedIn(browser, portal, '#/dev/schedules');
    const { page, complaints } = visited;
    await page.getByRole('button', { name: 'Create a schedule' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name', { exact: true }).fill('Every morning');
    await dialog.getByLabel('Times', { exact: true }).fill('61 6 * * *');
    await dialog.getByLabel('Connection').selectOption(connection);
    await dialog.getByLabel('Name of the job').fill('morning');
    await dialog.getByLabel('Script').fill('true');
    await dialog.getByText('Time, priority').click();
    await dialog.getByLabel('Session').selectOption('attended');
    await dialog.getByRole('button', { name: 'Create schedule' }).click();
    const times = dialog.getByLabel('Times', { exact: true });
    await dialog.locator('.fault').waitFor();
    expect(await times.getAttribute('aria-invalid')).toBe('true');
    await times.fill('0 6 * * *');
    await dialog.getByRole('button', { name: 'Create schedule' }).click();
    const row = page.getByRole('row', { name: /Every morning/ });
    await row.getByText('0 6 * * *').waitFor();
    await row.getByText(/^in /).waitFor();
    await row.getByRole('switch').click();
    await row.getByText('off', { exact: true }).waitFor();
    await row.getByRole('button', { name: 'Delete…' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
    await row.waitFor({ state: 'detached' });
    // What the browser itself says of the 400.
    expect(complaints.filter(text => !text.includes('status of 400'))).toEqual([]);
  });

  test('a webhook shows its address and its secret once, and a request signed with that starts a run', async () => {
    await using machine = await connectedMachine('desk-by-request');
    const connection = await connectionTo(portal.admin, machine.id);
    const atMachine = JobAtMachine.next(machine, portal.relay.httpUrl);
    await using visited = await signedIn(browser, portal, '#/dev/triggers');
    const { page, complaints } = visited;
    await page.getByRole('button', { name: 'Create a webhook' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name', { exact: true }).fill('On order');
    await dialog.getByLabel('Connection').selectOption(connection);
    await dialog.getByLabel('Name of the job').fill('order');
    await dialog.getByLabel('Script').fill('true');
    await dialog.getByText('Time, priority').click();
    await dialog.getByLabel('Session').selectOption('attended');
    await dialog.getByRole('button', { name: 'Create webhook' }).click();
    const secret = await page.getByLabel('secret of the webhook').first().textContent();
    const address = await page.getByLabel('address of the webhook').first().textContent();
    await page.getByRole('button', { name: 'Done' }).click();
    expect(await page.content()).not.toContain(secret);

    const [id, timestamp, body] = ['msg-1', String(Math.floor(Date.now() / 1_000)), '{}'];
    const key = Buffer.from((secret ?? '').replace('whsec_', ''), 'base64');
    const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
    const { status } = await fetch(address ?? '', {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': `v1,${mac}`,
      },
      body,
    });
    expect(status).toBe(202);
    expect((await atMachine).offer.job.ref).toBe('order');
    expect(complaints).toEqual([]);
  });
});
