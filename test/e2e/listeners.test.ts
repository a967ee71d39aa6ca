import { describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import { dialListener, dialSender, openListener, RawListener } from '../support/azure-clients.ts';
import { headerValues, open } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const ID = '1c048eb5-77c4-4b85-96fd-fa526801af35';

describe('a listener that comes in', () => {
  test('gets a 101 that strict clients take, and no message before its first sender', async () => {
    await using relay = await startRelay();
    const answer = await dialListener(relay, 'hyco', {
      id: ID,
      headers: [['Sec-WebSocket-Extensions', 'permessage-deflate; client_max_window_bits']],
    }).answer;
    const control = answer.socket;
    expect(answer.status).toBe(101);
    expect(headerValues(answer, 'connection')).toEqual(['Upgrade']);
    expect(headerValues(answer, 'upgrade')).toEqual(['websocket']);
    expect(headerValues(answer, 'sec-websocket-extensions')).toEqual([]);
    expect(headerValues(answer, 'sec-websocket-protocol')).toEqual([]);
    // What comes first is the answer to our ping: the 101 alone is the registration.
    control?.send('', { opcode: OPCODES.ping });
    expect((await control?.nextFrame())?.opcode).toBe(OPCODES.pong);
  });

  test('is counted, logged and listed until it closes, and its Close is answered at once', async () => {
    await using relay = await startRelay();
    const listener = await openListener(relay, 'hyco', { id: ID });
    expect(await relay.metric('halfway_active_listeners{hybrid_connection="hyco"}')).toBe(1);
    expect(relay.log.lines.join('\n')).toMatch(
      `"NewListenerRegistered","hybridConnection":"hyco","trackingId":"${ID}"`,
    );

    listener.control.sendClose(1000, 'Normal Closure');
    expect(await listener.control.nextClose()).toEqual({ code: 1000, reason: 'Normal Closure' });
    await listener.control.ended();
    expect(await relay.metric('halfway_active_listeners{hybrid_connection="hyco"}')).toBe(0);
    expect(
      await relay.metric('halfway_listener_disconnects_total{reason="closed-by-listener"}'),
    ).toBe(1);
  });

  test('is gone once its connection breaks', async () => {
    await using relay = await startRelay();
    const listener = await openListener(relay);
    await listener.control.reset();
    await until('listener gone', () => relay.server.status().listeners === 0);
    expect(await relay.metric('halfway_listener_disconnects_total{reason="lost"}')).toBe(1);
    const refused = await dialSender(relay).answer;
    expect(refused.status).toBe(404);
  });

  test.each([
    ['header', 'ServiceBusAuthorization', ''],
    ['query', undefined, 'sb-hc-token='],
    ['query, name in capitals', undefined, 'SB-HC-TOKEN='],
  ])('may bring its token in the %s', async (_where, header, parameter) => {
    await using relay = await startRelay();
    const token = relay.token('hyco', { rule: 'listener' });
    const answer = await dialListener(relay, 'hyco', {
      token: '',
      headers: header === undefined ? [] : [[header, token]],
      ...(parameter === '' ? {} : { query: `${parameter}${encodeURIComponent(token)}` }),
    }).answer;
    expect(answer.status).toBe(101);
  });

  test('is judged by the token in its header when there are two', async () => {
    await using relay = await startRelay();
    const good = encodeURIComponent(relay.token());
    const answer = await dialListener(relay, 'hyco', {
      token: relay.token('a'),
      query: `sb-hc-token=${good}`,
    }).answer;
    expect(answer).toMatchObject({ status: 401 });
    expect(answer.reason).toMatch(/^InvalidAudience: /);
  });

  test.each([
    ['capitals in the prefix and the path', '$HC/HYCO'],
    ['an encoded letter', '$hc/%68yco'],
    ['a slash at the end', '$hc/hyco/'],
    ['a suffix', '$hc/hyco/and/more'],
  ])('may name its hybrid connection with %s', async (_what, path) => {
    await using relay = await startRelay();
    const control = new RawListener(
      await open(`${relay.wsUrl}/${path}?sb-hc-action=listen`, {
        headers: [['ServiceBusAuthorization', relay.token()]],
      }),
    );
    const dialling = dialSender(relay);
    await control.acceptNext();
    expect((await dialling.answer).status).toBe(101);
  });

  test('may come again with the id of one that is still there, and both are asked', async () => {
    await using relay = await startRelay();
    const old = await openListener(relay, 'hyco', { id: ID });
    const newer = await openListener(relay, 'hyco', { id: ID });
    expect(relay.server.status().listeners).toBe(2);
    old.control.sendClose(1000);
    await old.control.ended();
    const dialling = dialSender(relay);
    await newer.acceptNext();
    expect((await dialling.answer).status).toBe(101);
  });

  test('gets an id of its own when what it sent is none, and is let in', async () => {
    await using relay = await startRelay();
    await openListener(relay, 'hyco', { id: 'not-a-guid' });
    const line = relay.log.lines.find(one => one.includes('NewListenerRegistered')) ?? '';
    expect(line).toMatch(/"trackingId":"[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}"/);
  });
});

describe('a listener that is refused', () => {
  const ENTITY =
    /TrackingId:[\da-f-]{36}, SystemTracker:sb:\/\/127\.0\.0\.1\/hyco, Timestamp:\d{4}-/;

  test.each([
    [
      'without a token',
      '',
      401,
      /^MissingToken: The authorization header was not found/,
      'token-missing',
    ],
    ['with what is no token', 'garbage', 401, /^MalformedToken: /, 'token-malformed'],
    [
      'with a token that lacks a field',
      'SharedAccessSignature sr=http%3A%2F%2F127.0.0.1%2Fhyco&se=1893456000&skn=root',
      401,
      /^MalformedToken: /,
      'token-malformed',
    ],
    [
      'with a forged signature',
      'SharedAccessSignature sr=http%3A%2F%2F127.0.0.1%2Fhyco&sig=Zm9yZ2Vk&se=1893456000&skn=root',
      401,
      /^InvalidSignature: The token has an invalid signature/,
      'signature-invalid',
    ],
    [
      'with the token of a rule that does not exist',
      'SharedAccessSignature sr=http%3A%2F%2F127.0.0.1%2Fhyco&sig=Zm9yZ2Vk&se=1893456000&skn=nobody',
      401,
      /^InvalidSignature: /,
      'signature-invalid',
    ],
    [
      'with an Entra token',
      'eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln',
      401,
      /^MalformedToken: .*Entra/,
      'token-malformed',
    ],
  ])('%s', async (_how, token, status, reason, label) => {
    await using relay = await startRelay();
    const answer = await dialListener(relay, 'hyco', { token }).answer;
    expect(answer.status).toBe(status);
    expect(answer.reason).toMatch(reason);
    expect(answer.reason).toMatch(ENTITY);
    expect(JSON.parse(answer.body)).toEqual({ error: { code: 4, message: answer.reason } });
    expect(headerValues(answer, 'via')).toEqual([]);
    expect(await relay.metric(`halfway_refusals_total{reason="${label}",role="listener"}`)).toBe(1);
  });

  test('with an expired token, and is told when it expired', async () => {
    await using relay = await startRelay();
    const answer = await dialListener(relay, 'hyco', { token: relay.token('hyco', { ttlSec: -5 }) })
      .answer;
    expect(answer.status).toBe(401);
    expect(answer.reason).toMatch(
      /^ExpiredToken: The token is expired\. Expiration time: '\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ'/,
    );
  });

  test('with a token for another path', async () => {
    await using relay = await startRelay();
    const answer = await dialListener(relay, 'hyco', { token: relay.token('open') }).answer;
    expect(answer.status).toBe(401);
    expect(answer.reason).toMatch(/^InvalidAudience: .*wrong audience/);
  });

  test('with a token that only allows to send', async () => {
    await using relay = await startRelay();
    const token = relay.token('hyco', { rule: 'sender' });
    const answer = await dialListener(relay, 'hyco', { token }).answer;
    expect(answer.status).toBe(403);
    expect(answer.reason).toMatch(/^Authorization failed for specified action: Listen\. /);
  });

  test('at a hybrid connection that lets anybody send but nobody listen', async () => {
    await using relay = await startRelay();
    expect((await dialListener(relay, 'open', { token: '' }).answer).status).toBe(401);
  });

  test('on a path that nothing has: 404 with a good token, 401 with a bad one', async () => {
    await using relay = await startRelay();
    const unknown = await dialListener(relay, 'nohyco').answer;
    expect(unknown.status).toBe(404);
    expect(unknown.reason).toMatch(/^Endpoint does not exist\. TrackingId:.*\/nohyco, /);
    expect((await dialListener(relay, 'nohyco', { token: '' }).answer).status).toBe(401);
    // A longer name is not a suffix.
    expect((await dialListener(relay, 'hycox').answer).status).toBe(404);
  });

  test('with its own id as the tracking id', async () => {
    await using relay = await startRelay();
    const answer = await dialListener(relay, 'hyco', { token: 'x', id: ID }).answer;
    expect(answer.reason).toMatch(`TrackingId:${ID}, `);
  });
});
