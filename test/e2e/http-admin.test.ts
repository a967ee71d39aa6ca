// Health on both ports, and what the admin port tells to whom.
import { describe, expect, test } from 'vitest';
import { REFUSALS } from '../../src/protocol/refusals.ts';
import { listen } from '../support/http-listener.ts';
import { rawExchange, send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const ADMIN_TOKEN = 'a-long-enough-admin-token';

describe('health', () => {
  test('is told on both ports, to GET and HEAD, without credentials', async () => {
    await using relay = await startRelay({ adminToken: ADMIN_TOKEN });
    for (const url of [`${relay.adminUrl}/`, `${relay.httpUrl}/$`]) {
      for (const name of ['healthz', 'readyz']) {
        const response = await fetch(`${url}${name}`);
        expect(response.status, `${url}${name}`).toBe(200);
        expect(response.headers.get('cache-control')).toBe('no-store');
      }
    }
    const connection = 'Host: h\r\nConnection: close\r\n\r\n';
    const text = await rawExchange(relay, `HEAD /$healthz HTTP/1.1\r\n${connection}`);
    expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    // What came after the blank line would be taken for the next answer.
    expect(text.split('\r\n\r\n')[1]).toBe('');
  });

  test('a degraded data plane is ready, and says so', async () => {
    await using relay = await startRelay({ dataPlane: 'messages' });
    expect(await (await fetch(`${relay.httpUrl}/$readyz`)).json()).toEqual({
      status: 'ready',
      reasons: ['degraded: whole messages only, as configured'],
    });
  });

  test('a draining relay is alive, not ready, and tells senders to try again', async () => {
    const relay = await startRelay({ drainDelayMs: 0, drainTimeoutMs: 5_000 });
    await using listener = await listen(relay);
    const held = send(relay, '/hyco');
    const request = await listener.next();
    const drained = relay.server.drain();
    await until('it drains', async () => (await fetch(`${relay.adminUrl}/readyz`)).status === 503);
    expect(await (await fetch(`${relay.adminUrl}/readyz`)).json()).toMatchObject({
      status: 'not ready',
      reasons: expect.arrayContaining(['draining']),
    });
    expect((await fetch(`${relay.adminUrl}/healthz`)).status).toBe(200);
    expect(await relay.metric('halfway_ready')).toBe(0);
    listener.answer(request, { body: 'finished' });
    expect((await held).body.toString()).toBe('finished');
    listener.control.close();
    await drained;
    await expect(send(relay, '/hyco')).rejects.toThrow('ECONNREFUSED');
  });
});

describe('the admin port with a token', () => {
  test.each(['/metrics', '/status'])('%s is for bearers only', async path => {
    await using relay = await startRelay({ adminToken: ADMIN_TOKEN });
    for (const authorization of [
      undefined,
      'Bearer wrong',
      `bearer ${ADMIN_TOKEN}x`,
      `Basic ${ADMIN_TOKEN}`,
    ]) {
      const response = await fetch(relay.adminUrl + path, {
        headers: authorization === undefined ? {} : { Authorization: authorization },
      });
      expect(response.status, String(authorization)).toBe(401);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
      expect(await response.text()).not.toContain(ADMIN_TOKEN);
    }
    const admitted = await fetch(relay.adminUrl + path, {
      headers: { Authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(admitted.status).toBe(200);
  });
});

describe('metrics', () => {
  test('count what was relayed and refused', async () => {
    await using relay = await startRelay();
    await using listener = await listen(relay);
    listener.serve(({ requestTarget }) => ({
      status: requestTarget.endsWith('missing') ? 404 : 200,
      body: 'four',
    }));
    for (const path of ['/hyco', '/hyco', '/hyco/missing']) {
      await send(relay, path, { method: 'POST', body: 'seven 7' });
    }
    await send(relay, '/hyco', { token: null });
    await send(relay, '/name-that-nobody-gave');
    const hyco = 'hybrid_connection="hyco"';
    expect(await relay.metric(`halfway_active_listeners{${hyco}}`)).toBe(1);
    expect(await relay.metric(`halfway_active_connections{${hyco},kind="http"}`)).toBe(0);
    expect(
      await relay.metric(`halfway_transferred_bytes_total{${hyco},direction="to_listener"}`),
    ).toBe(21);
    expect(
      await relay.metric(`halfway_transferred_bytes_total{${hyco},direction="to_sender"}`),
    ).toBe(12);
    expect(await relay.metric(`halfway_listener_connections_total{${hyco},result="success"}`)).toBe(
      1,
    );
    expect(await relay.metric(`halfway_sender_connections_total{${hyco},result="success"}`)).toBe(
      3,
    );
    expect(
      await relay.metric(
        'halfway_sender_connections_total{hybrid_connection="",result="client_error"}',
      ),
    ).toBe(2);
    expect(
      await relay.metric('halfway_http_request_duration_seconds_count{code_class="2xx"}'),
    ).toBe(2);
    expect(
      await relay.metric('halfway_http_request_duration_seconds_count{code_class="4xx"}'),
    ).toBe(1);
    expect(await relay.metric('halfway_refusals_total{reason="token-missing",role="http"}')).toBe(
      1,
    );
    const text = await (await fetch(`${relay.adminUrl}/metrics`)).text();
    expect(text).not.toContain('nobody-gave');
  });

  test('have every refusal from the start, at zero', async () => {
    await using relay = await startRelay();
    const response = await fetch(`${relay.adminUrl}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    for (const reason of Object.keys(REFUSALS)) {
      expect(text).toContain(`halfway_refusals_total{reason="${reason}",role="http"} 0\n`);
    }
  });

  test('give at most so many hybrid connections a label of their own', async () => {
    await using relay = await startRelay({ entityLabelsMax: 1 });
    await using one = await listen(relay);
    await using other = await listen(relay, { path: 'a' });
    const text = await (await fetch(`${relay.adminUrl}/metrics`)).text();
    const labels = new Set(
      [...text.matchAll(/hybrid_connection="([^"]*)"/g)].map(match => match[1]),
    );
    labels.delete('');
    expect(labels.size).toBe(2);
    expect(labels).toContain('_other');
    expect(one.requests.size + other.requests.size).toBe(0);
  });
});

describe('status', () => {
  test('is JSON for programs', async () => {
    await using relay = await startRelay({ nodeId: 'node-7' });
    await using listener = await listen(relay);
    const held = send(relay, '/hyco');
    const request = await listener.next();
    const response = await fetch(`${relay.adminUrl}/status`, {
      headers: { Accept: 'application/json' },
    });
    const status = await response.json();
    expect(status).toMatchObject({
      node: 'node-7',
      ready: true,
      listeners: 1,
      senders: 1,
      waitingSenders: 0,
    });
    expect(status).toHaveProperty('hybridConnections');
    expect(status).toMatchObject({
      hybridConnections: expect.arrayContaining([
        expect.objectContaining({
          namespace: 'tests',
          name: 'hyco',
          listeners: 1,
          requests: 1,
          pairs: 0,
        }),
      ]),
    });
    listener.answer(request);
    await held;
  });

  test('is HTML for people, without scripts, and escapes names', async () => {
    await using relay = await startRelay(
      { nodeId: 'node-7' },
      {
        namespaces: [
          {
            name: '<b>&"',
            hosts: [],
            authorizationRules: [],
            hybridConnections: [
              {
                name: 'hyco',
                requiresClientAuthorization: true,
                userMetadata: '',
                authorizationRules: [],
              },
            ],
          },
        ],
      },
    );
    const response = await fetch(`${relay.adminUrl}/status`, { headers: { Accept: 'text/html' } });
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
    const page = await response.text();
    expect(page).toContain('node-7');
    expect(page).toContain('&lt;b&gt;&amp;&quot;/hyco');
    expect(page).not.toMatch(/<script|<b>/);
  });

  test('anything else on the admin port is 404', async () => {
    await using relay = await startRelay();
    for (const path of ['/', '/hyco', '/$hc/hyco']) {
      expect((await fetch(relay.adminUrl + path)).status).toBe(404);
    }
    expect((await fetch(`${relay.adminUrl}/metrics`, { method: 'POST' })).status).toBe(404);
  });
});
