import { describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import { dialSender, joinPair, openListener } from '../support/azure-clients.ts';
import { dial, headerValues, open } from '../support/raw-websocket.ts';
import { LISTEN_KEY, startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

describe('a sender', () => {
  test('is let in when its listener dials, both with a 101 that strict clients take', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay, 'hyco', {
      headers: [['Sec-WebSocket-Extensions', 'permessage-deflate']],
    });
    const accept = await control.nextAccept();
    const dialled = await dial(accept.address).answer;
    const answer = await dialling.answer;
    for (const one of [answer, dialled]) {
      expect(one.status).toBe(101);
      expect(headerValues(one, 'connection')).toEqual(['Upgrade']);
      expect(headerValues(one, 'upgrade')).toEqual(['websocket']);
      expect(headerValues(one, 'sec-websocket-extensions')).toEqual([]);
      expect(headerValues(one, 'sec-websocket-protocol')).toEqual([]);
    }
  });

  test('is not answered before its listener dials', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay);
    let isAnswered = false;
    void dialling.answer.then(() => (isAnswered = true));
    const accept = await control.nextAccept();
    // A whole exchange with the relay on another connection: time enough for an early answer.
    await fetch(`${relay.httpUrl}/$healthz`);
    expect(isAnswered).toBe(false);
    await open(accept.address);
    expect((await dialling.answer).status).toBe(101);
  });

  test.each([
    ['no query', ''],
    ['only its own parameters', 'a=b'],
    ['a valueless sb-hc-action', 'sb-hc-action'],
    ['the action in capitals', 'SB-HC-ACTION=Connect'],
  ])('connects with %s', async (_what, query) => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay, 'hyco', { query });
    await control.acceptNext();
    const answer = await dialling.answer;
    expect(answer.status).toBe(101);
  });

  test('may bring its token in the query, and the listener does not see it', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const token = relay.token('hyco', { rule: 'sender' });
    const query = `sb-hc-action=connect&sb-hc-token=${encodeURIComponent(token)}&mine=1`;
    const dialling = dialSender(relay, 'hyco', { token: '', query });
    const text = await control.control.nextText();
    expect(text).not.toMatch(/SharedAccessSignature|sb-hc-token|skn=/i);
    expect(text).toMatch('?mine=1&sb-hc-action=accept');
    await dialling.abandon();
  });

  test('may be a stranger where the hybrid connection says so, even one with a bad token', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay, 'open');
    for (const token of ['', 'garbage']) {
      const dialling = dialSender(relay, 'open', { token });
      const accept = await control.nextAccept();
      expect(JSON.stringify(accept)).not.toMatch('garbage');
      await open(accept.address);
      const answer = await dialling.answer;
      expect(answer.status).toBe(101);
    }
  });

  test.each([
    ['without a token', '', 401, /^MissingToken: /],
    ['with a malformed token', 'SharedAccessSignature x', 401, /^MalformedToken: /],
  ])('is refused %s', async (_how, token, status, reason) => {
    await using relay = await startRelay();
    await openListener(relay);
    const answer = await dialSender(relay, 'hyco', { token }).answer;
    expect(answer.status).toBe(status);
    expect(answer.reason).toMatch(reason);
    expect(answer.reason).toMatch(
      /TrackingId:[\da-f-]{36}, SystemTracker:sb:\/\/127\.0\.0\.1\/hyco,/,
    );
  });

  test('is refused with a token that only allows to listen, and when it holds a wrong key', async () => {
    await using relay = await startRelay();
    await openListener(relay);
    const listenOnly = await dialSender(relay, 'hyco', {
      token: relay.token('hyco', { rule: 'listener' }),
    }).answer;
    expect(listenOnly.status).toBe(403);
    expect(listenOnly.reason).toMatch(/^Authorization failed for specified action: Send\. /);
    const forged = relay
      .token('hyco', { rule: 'sender' })
      .replace(/sig=[^&]*/, `sig=${LISTEN_KEY}`);
    expect((await dialSender(relay, 'hyco', { token: forged }).answer).status).toBe(401);
  });

  test('gets 404 where nobody listens, and where nothing is', async () => {
    await using relay = await startRelay();
    const nobody = await dialSender(relay).answer;
    expect(nobody.status).toBe(404);
    expect(nobody.reason).toMatch(
      /^There are no listeners connected for the endpoint\. TrackingId:/,
    );
    const nothing = await dialSender(relay, 'nothing').answer;
    expect(nothing.status).toBe(404);
    expect(nothing.reason).toMatch(/^Endpoint does not exist\. /);
  });

  test('reaches the hybrid connection with the longest name that its path begins with', async () => {
    await using relay = await startRelay();
    const outer = await openListener(relay, 'a');
    const inner = await openListener(relay, 'a/b');
    for (const [path, control] of [
      ['a', outer],
      ['A/x', outer],
      ['a/bc', outer],
      ['a/b', inner],
      ['a/B/c', inner],
    ] as const) {
      const dialling = dialSender(relay, path, { token: relay.token('') });
      expect((await control.nextAccept()).address).toMatch(`/$hc/${path}?`);
      await dialling.abandon();
    }
  });

  test('who leaves before it is let in makes its address worthless', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay);
    const { address } = await control.nextAccept();
    await dialling.abandon();
    await until('the sender is forgotten', () => relay.server.status().waitingSenders === 0);
    const answer = await dial(address).answer;
    expect(answer.status).toBe(403);
    expect(answer.reason).toMatch(/Is the listener accepting too late\?/);
    expect(relay.server.status().senders).toBe(0);
  });

  test('and its listener exchange messages both ways, and the relay counts them', async () => {
    await using relay = await startRelay();
    const pair = await joinPair(relay);
    pair.sender.send('ping');
    expect(await pair.listener.nextText()).toBe('ping');
    pair.listener.send(Buffer.from('pong!'));
    const frame = await pair.sender.nextFrame();
    expect(frame).toMatchObject({ opcode: OPCODES.binary, isFinal: true });
    expect(Buffer.from(frame.payload).toString()).toBe('pong!');
    for (const [series, value] of [
      ['halfway_active_connections{hybrid_connection="hyco",kind="websocket"}', 1],
      ['halfway_transferred_bytes_total{hybrid_connection="hyco",direction="to_listener"}', 4],
      ['halfway_transferred_bytes_total{hybrid_connection="hyco",direction="to_sender"}', 5],
      ['halfway_transferred_frames_total{hybrid_connection="hyco",direction="to_listener"}', 1],
      ['halfway_sender_connections_total{hybrid_connection="hyco",result="success"}', 1],
    ] as const) {
      expect(await relay.metric(series), series).toBe(value);
    }
  });

  test('stays joined when the listener loses its control channel', async () => {
    await using relay = await startRelay();
    const pair = await joinPair(relay);
    await pair.control.control.reset();
    await until('listener gone', () => relay.server.status().listeners === 0);
    pair.sender.send('still here');
    expect(await pair.listener.nextText()).toBe('still here');
  });

  test('may send 32 kB of headers and a request line of 16 kB', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const long = 'q'.repeat(7_900);
    const dialling = dialSender(relay, `hyco/${'p'.repeat(8_000)}`, {
      query: `a=${long}`,
      headers: Array.from({ length: 16 }, (_, i) => [`X-Long-${i}`, 'h'.repeat(1_960)] as const),
    });
    const { connectHeaders, address } = await control.nextAccept();
    expect(connectHeaders['X-Long-15']).toHaveLength(1_960);
    expect(address).toMatch(`?a=${long}&`);
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });
});
