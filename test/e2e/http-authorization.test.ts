// Who may send, which credentials reach a listener, and that none ever shows. Source: azure-relay-protocol.md section 2.
import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import {
  send,
  type HttpAnswer,
  type SendOptions,
  readInformation,
  textOf,
} from '../support/http-sender.ts';
import { LISTEN_KEY, ROOT_KEY, SEND_KEY, startRelay } from '../support/relay.ts';

/** A token put together by hand, with a fault perhaps. */
function handMade(fields: { sr?: string; se?: string; key?: string; skn?: string } = {}): string {
  const {
    sr = 'http%3A%2F%2F127.0.0.1%2Fhyco',
    se = '4102444800',
    key = SEND_KEY,
    skn = 'sender',
  } = fields;
  const signature = createHmac('sha256', key).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(signature)}&se=${se}&skn=${skn}`;
}

describe('where a token may stand', () => {
  const BEARER = 'Bearer application-token';
  test.each<
    [
      string,
      (token: string) => { path: string; headers: Record<string, string> },
      string | undefined,
    ]
  >([
    [
      'ServiceBusAuthorization',
      token => ({ path: '', headers: { ServiceBusAuthorization: token } }),
      undefined,
    ],
    [
      'the query',
      token => ({ path: `?sb-hc-token=${encodeURIComponent(token)}`, headers: {} }),
      undefined,
    ],
    [
      'the query with spaces as plus',
      token => ({
        path: `?sb-hc-token=${encodeURIComponent(token).replaceAll('%20', '+')}`,
        headers: {},
      }),
      undefined,
    ],
    ['Authorization', token => ({ path: '', headers: { Authorization: token } }), undefined],
    [
      'ServiceBusAuthorization, beside the application’s',
      token => ({ path: '', headers: { ServiceBusAuthorization: token, Authorization: BEARER } }),
      BEARER,
    ],
    [
      'the query, beside the application’s',
      token => ({
        path: `?sb-hc-token=${encodeURIComponent(token)}`,
        headers: { Authorization: BEARER },
      }),
      BEARER,
    ],
    [
      'the query, before a bad header',
      token => ({
        path: `?sb-hc-token=${encodeURIComponent(token)}`,
        headers: { ServiceBusAuthorization: 'bad' },
      }),
      undefined,
    ],
  ])(
    '%s: admitted, and the listener sees only the application’s own',
    async (_, place, passedOn) => {
      await using relay = await startRelay();
      await using listener = await listen(relay);
      const token = relay.token('hyco', { rule: 'sender' });
      const { path, headers } = place(token);
      const sent = send(relay, `/hyco${path}`, { token: null, headers });
      const request = await listener.next();
      listener.answer(request);
      expect((await sent).status).toBe(200);
      expect(request.requestHeaders['Authorization']).toBe(passedOn);
      expect(listener.texts.join()).not.toContain('SharedAccessSignature');
      expect(request.requestTarget).toBe('/hyco');
    },
  );

  test('a bad token in the query is not made good by a header', async () => {
    await using relay = await startRelay();
    const answer = await send(relay, '/hyco?sb-hc-token=bad');
    expect(answer.status).toBe(401);
    expect(textOf(answer)).toMatch(/^MalformedToken/);
  });

  test('anonymous senders need none: Authorization passes, the relay’s own fields do not', async () => {
    await using relay = await startRelay();
    await using listener = await listen(relay, { path: 'open' });
    for (const headers of [
      { Authorization: 'SharedAccessSignature sr=x&sig=y&se=1&skn=z' },
      { Authorization: 'Basic dTpw', ServiceBusAuthorization: 'expired rubbish' },
    ]) {
      const sent = send(relay, '/open?sb-hc-token=rubbish&a=1', { token: null, headers });
      const request = await listener.next();
      listener.answer(request);
      expect((await sent).status).toBe(200);
      expect(request.requestHeaders['Authorization']).toBe(headers.Authorization);
      expect(request.requestHeaders).not.toHaveProperty('ServiceBusAuthorization');
      expect(request.requestHeaders).not.toHaveProperty('Servicebusauthorization');
      expect(request.requestTarget).toBe('/open?a=1');
    }
  });

  test('routing headers choose the listener and do not reach it', async () => {
    await using relay = await startRelay();
    const ids = ['1c048eb5-77c4-4b85-96fd-fa526801af35', '2c048eb5-77c4-4b85-96fd-fa526801af35'];
    await using one = await listen(relay, { id: ids[0] ?? '' });
    await using two = await listen(relay, { id: ids[1] ?? '' });
    one.serve(request => ({ body: `one ${JSON.stringify(request.requestHeaders)}` }));
    two.serve(request => ({ body: `two ${JSON.stringify(request.requestHeaders)}` }));
    for (let i = 0; i < 5; i += 1) {
      const only = await send(relay, '/hyco', {
        headers: { 'Microsoft-Relay-AllowedListeners': ids[0] },
      });
      expect(only.body.toString()).toMatch(/^one /);
      expect(only.body.toString()).not.toMatch(/microsoft-relay/i);
      const but = await send(relay, '/hyco', {
        headers: { 'Microsoft-Relay-DisallowedListeners': ids[0] },
      });
      expect(but.body.toString()).toMatch(/^two /);
    }
    const none = await send(relay, '/hyco', {
      headers: { 'Microsoft-Relay-DisallowedListeners': ids.join(', ') },
    });
    expect(none.status).toBe(404);
    expect(textOf(none)).toMatch(/AllowedListeners\/DisallowedListeners criteria/);
  });

  test('two listeners share the requests', async () => {
    await using relay = await startRelay();
    await using one = await listen(relay);
    await using two = await listen(relay);
    one.serve(() => ({ body: 'one' }));
    two.serve(() => ({ body: 'two' }));
    const seen = new Set<string>();
    for (let i = 0; i < 40; i += 1) seen.add((await send(relay, '/hyco')).body.toString());
    expect(seen).toEqual(new Set(['one', 'two']));
  });
});

describe('refusals', () => {
  const FOREVER_AGO = '1000000000';
  test.each<[string, SendOptions, string, number, RegExp, string]>([
    ['no token', { token: null }, '/hyco', 401, /^MissingToken: /, 'token-missing'],
    [
      'a token that is none',
      { token: 'nonsense' },
      '/hyco',
      401,
      /^MalformedToken: /,
      'token-malformed',
    ],
    [
      'an Entra token',
      { token: 'eyJhbGciOiJub25lIn0.e30.' },
      '/hyco',
      401,
      /^MalformedToken: /,
      'token-malformed',
    ],
    [
      'a forged token',
      { token: handMade({ key: ROOT_KEY }) },
      '/hyco',
      401,
      /^InvalidSignature: The token has an invalid signature/,
      'signature-invalid',
    ],
    [
      'a rule that does not exist',
      { token: handMade({ skn: 'nobody' }) },
      '/hyco',
      401,
      /^InvalidSignature: /,
      'signature-invalid',
    ],
    [
      'an expired token',
      { token: handMade({ se: FOREVER_AGO }) },
      '/hyco',
      401,
      /^ExpiredToken: The token is expired\. Expiration time: /,
      'token-expired',
    ],
    [
      'another host’s token',
      { token: handMade({ sr: 'http%3A%2F%2Fother%2Fhyco' }) },
      '/hyco',
      401,
      /^InvalidAudience: /,
      'audience-wrong',
    ],
    [
      'another path’s token',
      { token: handMade({ sr: 'http%3A%2F%2F127.0.0.1%2Fhyc' }) },
      '/hyco',
      401,
      /^InvalidAudience: /,
      'audience-wrong',
    ],
    [
      'a listener’s token',
      { token: handMade({ key: LISTEN_KEY, skn: 'listener' }) },
      '/hyco',
      403,
      /^Authorization failed for specified action: Send/,
      'right-missing',
    ],
    [
      'an unknown path with a good token',
      { token: handMade({ sr: 'http%3A%2F%2F127.0.0.1%2F' }) },
      '/none',
      404,
      /^Endpoint does not exist/,
      'endpoint-unknown',
    ],
    [
      'an unknown path without one',
      { token: null },
      '/none',
      401,
      /^MissingToken: /,
      'token-missing',
    ],
    [
      'no listener',
      { token: handMade() },
      '/hyco',
      404,
      /^There are no listeners connected for the endpoint/,
      'no-listener',
    ],
  ])('%s', async (_, options, path, status, text, reason) => {
    await using relay = await startRelay();
    const uuid = '5d1d5b55-0c2f-4c0f-9a0e-3d8a6f1f7e21';
    const answer = await send(relay, `${path}?sb-hc-id=${uuid}&secret=in-the-query`, {
      ...options,
      method: 'POST',
      body: 'a body that nobody takes',
    });
    expect(answer.status).toBe(status);
    expect(answer.phrase).toMatch(text);
    expect(answer.phrase).toMatch(
      new RegExp(
        `TrackingId:${uuid}, SystemTracker:sb://127\\.0\\.0\\.1${path}, Timestamp:\\d{4}-`,
      ),
    );
    expect(answer.phrase).not.toContain('in-the-query');
    expect(answer.headers['content-type']).toBe('application/json');
    expect(answer.headers['www-authenticate']).toBe(
      status === 401 ? 'SharedAccessSignature' : undefined,
    );
    expect(answer.headers).not.toHaveProperty('via');
    expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { message: answer.phrase } });
    expect(await relay.metric(`halfway_refusals_total{reason="${reason}",role="http"}`)).toBe(1);
    const logged = relay.log.lines.filter(line => line.includes('"event":"Refused"'));
    expect(logged).toHaveLength(1);
    expect(JSON.parse(logged[0] ?? '')).toMatchObject({
      reason,
      role: 'http',
      code: status,
      trackingId: uuid,
      path: path.slice(1),
      remoteIp: '127.0.0.1',
    });
    expect(relay.server.status().senders).toBe(0);
  });

  test('HEAD gets the refusal without its body', async () => {
    await using relay = await startRelay();
    const answer = await send(relay, '/hyco', { method: 'HEAD', token: null });
    expect(answer.status).toBe(401);
    expect(answer.body.length).toBe(0);
    expect(Number(answer.headers['content-length'])).toBeGreaterThan(100);
  });
});

describe('runtime information', () => {
  test('is refused in the form that .NET reads', async () => {
    await using relay = await startRelay();
    for (const [path, token, status] of [
      ['hyco', undefined, 401],
      ['open', undefined, 401],
      ['hyco', relay.token('hyco', { rule: 'sender' }), 403],
      ['none', relay.token('none'), 404],
    ] as const) {
      const answer = await readInformation(relay, path, token);
      expect(answer.status, `${path} ${status}`).toBe(status);
      expect(answer.headers['content-type']).toMatch(/^application\/xml/);
      expect(answer.body.toString()).toMatch(
        new RegExp(`^<Error><Code>${status}</Code><Detail>.*TrackingId:.*</Detail></Error>$`),
      );
    }
  });
});

test('no token and no key shows in logs, metrics, errors or the status page', async () => {
  await using relay = await startRelay({ logLevel: 'debug' });
  await using listener = await listen(relay);
  const token = relay.token('hyco', { rule: 'sender' });
  const answers: HttpAnswer[] = [];
  listener.serve(() => ({ body: 'fine' }));
  const query = encodeURIComponent(token);
  for (const [path, options] of [
    ['/hyco', { token }],
    [`/hyco?sb-hc-token=${query}`, { token: null }],
    [`/hyco?sb%2Dhc-token=${query}`, { token: null }],
    [`/none?sb-hc-token=${query}`, { token: null }],
    [`/hyco/%2e%2e?sb-hc-token=${query}`, { token: null }],
    [`/$hc/hyco?sb-hc-token=${query}`, { token: null }],
    ['/hyco', { token: `${token}x` }],
    ['/hyco', { token: null, headers: { Authorization: `x${token}` } }],
  ] as const) {
    answers.push(await send(relay, path, options));
  }
  listener.control.send(JSON.stringify({ renewToken: { token: `${token}x` } }));
  const shown = [
    ...relay.log.lines,
    await (await fetch(`${relay.adminUrl}/metrics`)).text(),
    await (await fetch(`${relay.adminUrl}/status`)).text(),
    ...answers.map(
      ({ phrase, rawHeaders, body }) => `${phrase} ${rawHeaders.join()} ${body.toString()}`,
    ),
  ].join('\n');
  const signature = /sig=([^&]+)/.exec(token)?.[1] ?? 'no signature';
  for (const secret of [signature, decodeURIComponent(signature), ROOT_KEY, SEND_KEY, LISTEN_KEY]) {
    expect(shown).not.toContain(secret);
  }
});
