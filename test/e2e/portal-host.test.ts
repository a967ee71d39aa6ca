// What keeps the web portal apart from what listeners serve: a host of its own, or at least no service workers.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dialListener, dialSender } from '../support/azure-clients.ts';
import { listen } from '../support/http-listener.ts';
import { send, textOf, type HttpAnswer, type SendOptions } from '../support/http-sender.ts';
import { dial } from '../support/raw-websocket.ts';
import { NAMESPACE, startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { someFolder } from '../support/some-folder.ts';

const PAGE = '<!doctype html><title>Portal</title>';
const PORTAL = 'portal.example.com';
const TOKEN = 'a-token-of-more-than-thirty-two-characters';
const RELAY = 'relay.example.com';
const ELSEWHERE =
  'This host serves the web portal only: nothing is relayed here, use another host of this relay';

const folder = someFolder();

beforeAll(() => writeFileSync(join(folder.path, 'index.html'), PAGE));

afterAll(() => folder[Symbol.dispose]());

function startWithPortal(options: RelayOptions = {}): Promise<TestRelay> {
  return startRelay({ dispatch: true, apiToken: TOKEN, ...options }, { portalFolder: folder.path });
}

const ask = (relay: TestRelay, host: string, path: string, options: SendOptions = {}) =>
  send(relay, path, { token: null, ...options, headers: { host, ...options.headers } });

describe('a host of the portal', () => {
  let relay: TestRelay;

  beforeAll(async () => {
    relay = await startWithPortal({ portalHost: `${PORTAL},other.example.org` });
  });

  afterAll(() => relay?.[Symbol.asyncDispose]());

  test.each([PORTAL, `${PORTAL}:8443`, 'Portal.Example.COM.', 'other.example.org'])(
    'serves the portal, as %s',
    async host => {
      const { status, body } = await ask(relay, host, '/$portal/');
      expect([status, body.toString()]).toEqual([200, PAGE]);
      expect((await ask(relay, host, '/$portal')).status).toBe(308);
    },
  );

  test.each(['/$portal/', '/$portal'])('is named where %s is asked for elsewhere', async path => {
    const { status, body } = await ask(relay, RELAY, path, {
      headers: { 'x-forwarded-host': PORTAL },
    });
    expect([status, body.toString()]).toEqual([404, `The web portal is at ${PORTAL}/$portal/\n`]);
  });

  test('relays no request, and all others do', async () => {
    await using listener = await listen(relay, { path: 'open' });
    listener.serve(() => ({ body: 'from the listener' }));
    const hosts = [PORTAL, 'PORTAL.example.com.:1'];
    for (const host of hosts) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const refused = await ask(relay, host, '/open');
      expect(textOf(refused)).toBe(ELSEWHERE);
      expect([refused.status, refused.headers.via]).toEqual([404, undefined]);
    }
    const relayed = await ask(relay, RELAY, '/open', { headers: { 'x-forwarded-host': PORTAL } });
    expect(relayed.body.toString()).toBe('from the listener');
    const worker = await ask(relay, RELAY, '/open', { headers: { 'service-worker': 'script' } });
    expect(worker.body.toString()).toBe('from the listener');
    expect(
      await relay.metric('halfway_refusals_total{reason="portal-host",role="http"}'),
    ).toBeGreaterThanOrEqual(hosts.length);
  });

  test('lets nobody open a WebSocket, nor go without one', async () => {
    const headers = [['Host', PORTAL]] as const;
    const at = { without: ['host'], headers };
    const refused = await Promise.all([
      dialListener(relay, 'open', at).answer,
      dialSender(relay, 'open', at).answer,
      dial(`${relay.wsUrl}/$poll/0123456789abcdef0123456789abcdef`, at).answer,
      dial(`${relay.wsUrl}/$portal/`, at).answer,
    ]);
    for (const { status, reason } of refused) {
      expect(status).toBe(404);
      expect(reason).toContain(ELSEWHERE);
    }
    const opening = '/$hc/open?sb-hc-action=listen&sb-hc-transport=poll';
    for (const [method, path] of [
      ['POST', opening],
      ['GET', '/$poll/0123456789abcdef0123456789abcdef'],
      ['GET', '/open?api-version=2016-07'],
      ['GET', '/%24portal/'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const answer = await ask(relay, PORTAL, path, {
        method,
        headers: { 'X-PROCESS-AT': 'ServiceBus' },
      });
      expect([answer.status, textOf(answer)]).toEqual([404, ELSEWHERE]);
    }
  });

  test.each(['/$healthz', '/$readyz', '/$api/v1/endpoints'])(
    'and every other host answer %s',
    async path => {
      expect((await ask(relay, PORTAL, path)).status).toBe(200);
      expect((await ask(relay, RELAY, path)).status).toBe(200);
    },
  );
});

test('a host of the portal tells machines where they are to register, and no other host does', async () => {
  const machineHost = async (host: string, options: RelayOptions): Promise<unknown> => {
    await using relay = await startWithPortal({ portalHost: PORTAL, ...options });
    const { body } = await ask(relay, host, '/$api/v1/endpoints');
    return JSON.parse(body.toString()).machineHost;
  };
  const publicUrl = `https://${RELAY}:8443`;
  expect(await machineHost(PORTAL, { publicUrl })).toBe(`${RELAY}:8443`);
  expect(await machineHost(RELAY, { publicUrl })).toBeUndefined();
  expect(await machineHost(PORTAL, {})).toBeUndefined();
});

test('a host of the portal names the host of the namespace for machines, at the port that was asked', async () => {
  const namespaces = [{ ...NAMESPACE, hosts: [RELAY] }];
  const options = { dispatch: true, portalHost: PORTAL };
  await using relay = await startRelay(options, { portalFolder: folder.path, namespaces });
  for (const port of ['', ':8443']) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    const { body } = await ask(relay, PORTAL + port, '/$api/v1/endpoints');
    expect(JSON.parse(body.toString()).machineHost).toBe(RELAY + port);
  }
});

test('a cookie opens nothing, whatever it holds: listeners can set some', async () => {
  await using relay = await startWithPortal();
  const bearer = `Bearer ${TOKEN}`;
  const me = (headers: Readonly<Record<string, string>>): Promise<HttpAnswer> =>
    ask(relay, RELAY, '/$api/v1/me', { headers });
  const cookie = `halfway.token=${TOKEN}; token=${TOKEN}; authorization=${bearer}`;
  expect((await me({ cookie })).status).toBe(401);
  expect((await me({ cookie, authorization: bearer })).status).toBe(200);
});

test('a host is kept for the portal also where the portal was not built', async () => {
  await using relay = await startRelay(
    { dispatch: true, portalHost: PORTAL },
    { portalFolder: join(folder.path, 'none') },
  );
  expect(textOf(await ask(relay, PORTAL, '/open'))).toBe(ELSEWHERE);
});

describe('without a host of its own for the portal', () => {
  test('no script of a service worker is relayed, and the answer says what to do', async () => {
    await using relay = await startWithPortal();
    await using listener = await listen(relay, { path: 'open' });
    listener.serve(() => ({ body: 'from the listener' }));
    const refused = await ask(relay, RELAY, '/open/sw.js', {
      headers: { 'Service-Worker': 'script' },
    });
    expect(refused.status).toBe(403);
    expect(textOf(refused)).toMatch(/^Service workers are not relayed here.*--portal-host$/);
    expect((await ask(relay, RELAY, '/open/sw.js')).body.toString()).toBe('from the listener');
  });

  test('service workers are relayed where there is no portal', async () => {
    await using relay = await startRelay();
    await using listener = await listen(relay, { path: 'open' });
    listener.serve(() => ({ body: 'from the listener' }));
    const relayed = await ask(relay, RELAY, '/open/sw.js', {
      headers: { 'Service-Worker': 'script' },
    });
    expect(relayed.body.toString()).toBe('from the listener');
  });
});
