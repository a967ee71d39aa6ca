// Every role of the protocol over long-poll sessions, with Microsoft's packages or sessions at the other end.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import HycoWs from 'hyco-ws';
import { afterEach, describe, expect, test } from 'vitest';
import { formatRenewToken } from '../../src/protocol/control-messages.ts';
import { OPCODE } from '../../src/relay/ports.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { listen, responseText } from '../support/http-listener.ts';
import { pattern, send } from '../support/http-sender.ts';
import { HttpSession, request, requestSession } from '../support/poll-http.ts';
import { joinPollPair, PollListener, untilNobody } from '../support/poll-listener.ts';
import { dial, headerValues } from '../support/raw-websocket.ts';
import { ROOT_KEY, startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const servers: ReturnType<typeof HycoWs.createRelayedServer>[] = [];
afterEach(() => {
  // Otherwise it tries again without a pause, for ever.
  for (const server of servers.splice(0)) server.close(() => {});
});

const tokenFor = (relay: TestRelay): string =>
  HycoWs.createRelayToken(`http://127.0.0.1:${relay.port}/hyco`, 'root', ROOT_KEY);

function sendText(record: ChannelRecord, text: string): void {
  record.channel.send(OPCODE.text, true, Buffer.from(text));
}

async function textOf(record: ChannelRecord, index = 0): Promise<string> {
  const messages = await record.wholeMessages(index + 1);
  return messages[index]?.payload.toString() ?? '';
}

describe.each(DATA_PLANES)('sessions on $dataPlane', ({ dataPlane }) => {
  const start = (options = {}): Promise<TestRelay> => startRelay({ dataPlane, ...options });

  test('a sender over a session talks to a listener of hyco-ws', async () => {
    await using relay = await start();
    const server = HycoWs.createRelayedServer(
      { server: `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`, token: () => tokenFor(relay) },
      socket => socket.on('message', (data: string | Buffer) => socket.send(data)),
    );
    servers.push(server);
    await within('the listener', once(server, 'listening'));
    const sender = new ChannelRecord((await HttpSession.open(relay)).channel());
    sendText(sender, 'Grüße');
    const long = randomBytes(300_000);
    sender.channel.send(OPCODE.binary, true, long);
    const [first, second] = await sender.wholeMessages(2);
    expect(first?.payload.toString()).toBe('Grüße');
    expect(second?.payload.equals(long)).toBe(true);
    sender.channel.close(1000, 'done');
    await sender.had('gone');
    await untilNobody(relay);
  });

  test('a listener over sessions talks to a sender of hyco-ws', async () => {
    await using relay = await start();
    const listener = await PollListener.open(relay);
    const sender = HycoWs.relayedConnect(
      `${relay.wsUrl}/$hc/hyco?sb-hc-action=connect`,
      tokenFor(relay),
    );
    const opened = once(sender, 'open');
    const rendezvous = await listener.acceptNext();
    await within('the sender', opened);
    const echoed = once(sender, 'message');
    sender.send('hello');
    expect(await textOf(rendezvous)).toBe('hello');
    sendText(rendezvous, 'hello yourself');
    expect(String((await within('the answer', echoed))[0])).toBe('hello yourself');
    const closed = once(sender, 'close');
    rendezvous.channel.close(4001, 'enough');
    expect((await within('the close', closed))[0]).toBe(4001);
    await rendezvous.had('gone');
    await untilNobody(relay);
  });

  test('sender and listener, all over sessions, with fragments and half-close', async () => {
    await using relay = await start();
    const listener = await PollListener.open(relay);
    const { sender, rendezvous } = await joinPollPair(relay, listener);
    sender.channel.send(OPCODE.text, false, Buffer.from('in '));
    await rendezvous.hadBytes(3);
    sender.channel.send(OPCODE.continuation, true, Buffer.from('parts'));
    expect(await textOf(rendezvous)).toBe('in parts');
    sender.channel.close(1000, 'nothing more from here');
    await rendezvous.had('closed');
    expect(rendezvous.close()).toMatchObject({ code: 1000, reason: 'nothing more from here' });
    sendText(rendezvous, 'but from there');
    expect(await textOf(sender)).toBe('but from there');
    rendezvous.channel.close(4000, 'all said');
    await sender.had('gone');
    await rendezvous.had('gone');
    expect(sender.close()).toMatchObject({ code: 4000, reason: 'all said' });
    await untilNobody(relay);
  });

  test('a listener answers a small request on its control channel', async () => {
    await using relay = await start();
    const listener = await PollListener.open(relay);
    const answered = send(relay, '/hyco/path?q=1', { method: 'POST', body: 'question' });
    const asked = await listener.nextRequest();
    expect(asked).toMatchObject({ method: 'POST', requestTarget: '/hyco/path?q=1', body: true });
    expect((await listener.nextMessage()).payload.toString()).toBe('question');
    listener.sendText(responseText(asked.id, { status: 201, body: 'answer' }));
    listener.control.channel.send(OPCODE.binary, true, Buffer.from('answer'));
    const answer = await answered;
    expect([answer.status, answer.body.toString()]).toEqual([201, 'answer']);
  });

  test('a listener fetches a long request, and answers at length, over a session', async () => {
    await using relay = await start();
    const listener = await PollListener.open(relay);
    const body = pattern(3_000_000);
    const answered = send(relay, '/hyco', { method: 'POST', body });
    const pointer: unknown = JSON.parse((await listener.nextMessage()).payload.toString());
    const address = /"address":"([^"]+)"/.exec(JSON.stringify(pointer))?.[1] ?? '';
    const rendezvous = new ChannelRecord((await HttpSession.dial(relay, address)).channel());
    const [head, fetched] = await rendezvous.wholeMessages(2);
    expect(fetched?.payload.equals(body)).toBe(true);
    const { id } = JSON.parse(head?.payload.toString() ?? '').request;
    sendText(rendezvous, responseText(id, { body: 'yes' }));
    rendezvous.channel.send(OPCODE.binary, false, body);
    rendezvous.channel.send(OPCODE.continuation, true, body);
    const answer = await answered;
    expect(answer.body.equals(Buffer.concat([body, body]))).toBe(true);
    await rendezvous.had('closed');
    rendezvous.channel.close(1000, '');
    await rendezvous.had('gone');
  });

  test('a pair outlives pings of its WebSocket leg, which the relay answers itself', async () => {
    await using relay = await start();
    const listener = await PollListener.open(relay);
    const dialling = dialSender(relay);
    const rendezvous = await listener.acceptNext();
    const { socket: sender } = await dialling.answer;
    sender?.send('are you there', { opcode: 9 });
    const pong = await sender?.nextFrame();
    expect([pong?.opcode, Buffer.from(pong?.payload ?? []).toString()]).toEqual([
      10,
      'are you there',
    ]);
    sender?.send('hello');
    expect(await textOf(rendezvous)).toBe('hello');
    expect(rendezvous.fragments).toHaveLength(1);
  });
});

describe('opening', () => {
  test('takes the token from the query, or from the header, which wins', async () => {
    await using relay = await startRelay();
    await PollListener.open(relay, { tokenIn: 'query' });
    await PollListener.open(relay, { tokenIn: 'header', query: 'sb-hc-token=nonsense' });
    expect(relay.server.status().listeners).toBe(2);
    const refused = await requestSession(relay, { action: 'listen', tokenIn: 'nowhere' });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toBe('SharedAccessSignature');
  });

  test('agrees on a subprotocol that both ends are told', async () => {
    await using relay = await startRelay();
    const listener = await PollListener.open(relay);
    const opening = HttpSession.open(relay, {
      headers: { 'Sec-WebSocket-Protocol': 'one, two' },
    });
    const { address, connectHeaders } = await listener.nextAccept();
    expect(JSON.stringify(connectHeaders)).toMatch('one, two');
    const dialled = await request(`${address.replace(/^ws/, 'http')}&sb-hc-transport=poll`, {
      method: 'POST',
      headers: { 'Sec-WebSocket-Protocol': 'two' },
    });
    expect(HttpSession.of(dialled, relay.httpUrl).terms.protocol).toBe('two');
    expect((await opening).terms.protocol).toBe('two');
  });

  test('tells what holds in the session, and where it is', async () => {
    await using relay = await startRelay({
      pollHoldMs: 1_234,
      pollSessionTimeoutMs: 5_678,
      pollWindowBytes: 300_000,
      nodeUrl: 'https://node-1.example.com',
    });
    const opened = await requestSession(relay, { action: 'listen' });
    expect(opened.status).toBe(201);
    expect(opened.headers.get('cache-control')).toBe('no-store');
    const terms = JSON.parse(opened.text);
    expect(terms).toEqual({
      session: expect.stringMatching(/^[\da-f]{64}$/),
      protocol: '',
      holdMs: 1_234,
      expiryMs: 5_678,
      credit: 300_000,
      batchBytesMax: 1_048_576,
    });
    expect(opened.headers.get('location')).toBe(
      `https://node-1.example.com/$poll/${terms.session}`,
    );
  });

  test('a sender waits for its listener, and is told what it said', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const opening = requestSession(relay);
    const { address } = await control.nextAccept();
    const rejected = await request(
      `${address.replace(/^ws/, 'http')}&sb-hc-statusCode=418&sb-hc-statusDescription=No%20coffee&sb-hc-transport=poll`,
      { method: 'POST' },
    );
    expect(rejected.status).toBe(410);
    expect((await opening).status).toBe(418);
  });

  test('a sender that leaves while it waits is forgotten', async () => {
    await using relay = await startRelay({ pollSessionsMax: 1 });
    await openListener(relay);
    const leaving = new AbortController();
    const opening = fetch(`${relay.httpUrl}/$hc/hyco?sb-hc-action=connect&sb-hc-transport=poll`, {
      method: 'POST',
      headers: { ServiceBusAuthorization: relay.token() },
      signal: leaving.signal,
    }).catch(() => 'left');
    await until('it waits', () => relay.server.status().waitingSenders === 1);
    leaving.abort();
    expect(await opening).toBe('left');
    await untilNobody(relay);
    await PollListener.open(relay);
  });

  test.each<[string, number, string, Parameters<typeof requestSession>[1]]>([
    ['a token for another path', 401, 'InvalidAudience', { path: 'hyco', token: 'open' }],
    ['a token without the right', 403, 'Authorization failed', { action: 'listen', token: 'send' }],
    ['nobody listening', 404, 'no listeners', {}],
    ['an entity that is not there', 404, 'does not exist', { path: 'nothing' }],
    ['an action that is not there', 400, 'Unsupported action', { query: 'sb-hc-action=dance' }],
  ])('is refused for %s as a handshake would be', async (what, status, text, options = {}) => {
    await using relay = await startRelay();
    const token =
      options.token === 'open'
        ? relay.token('open')
        : options.token === 'send'
          ? relay.token('hyco', { rule: 'sender' })
          : relay.token('');
    const answer =
      what === 'an action that is not there'
        ? await request(`${relay.httpUrl}/$hc/hyco?sb-hc-action=dance&sb-hc-transport=poll`, {
            method: 'POST',
            headers: { ServiceBusAuthorization: token },
          })
        : await requestSession(relay, { ...options, token });
    expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(text)]);
    expect(answer.text).toMatch(/TrackingId:[\da-f-]{36}/);
  });

  test.each([
    ['another method', 405, { method: 'PUT' }],
    ['a body', 400, { method: 'POST', body: 'hello' }],
  ])('is refused with %s', async (_what, status, init) => {
    await using relay = await startRelay();
    const url = `${relay.httpUrl}/$hc/hyco?sb-hc-action=listen&sb-hc-transport=poll`;
    const headers = { ServiceBusAuthorization: relay.token() };
    expect((await request(url, { ...init, headers })).status).toBe(status);
  });

  test('is refused with 503 while there are as many sessions as may be', async () => {
    await using relay = await startRelay({ pollSessionsMax: 2 });
    const first = await PollListener.open(relay);
    await PollListener.open(relay);
    const refused = await requestSession(relay, { action: 'listen' });
    expect([refused.status, refused.text]).toEqual([
      503,
      expect.stringContaining('long-poll sessions'),
    ]);
    await first.session.end();
    await PollListener.open(relay);
    expect(
      await relay.metric('halfway_refusals_total{reason="sessions-max",role="listener"}'),
    ).toBe(1);
    expect(await relay.metric('halfway_poll_sessions{role="listener"}')).toBe(2);
  });
});

describe('a control channel over a session', () => {
  test('is closed with 1008 when its token has expired, unless it was renewed', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay({ pollSessionTimeoutMs: 2 ** 31 - 1 }, { clock });
    const renewing = await PollListener.open(relay);
    const expiring = await PollListener.open(relay);
    renewing.sendText(formatRenewToken(relay.token('hyco', { ttlSec: 90_000 })));
    await until('it is renewed', async () => (await relay.metric('halfway_poll_posts_total')) > 0);
    clock.advance(3_600_000 + 300_000 + 60_000);
    expect(await expiring.closed()).toMatchObject({ code: 1008 });
    await until('it is gone', () => relay.server.status().listeners === 1);
  });

  test('is closed with 1009 for a message that is too big', async () => {
    await using relay = await startRelay({ controlMessageBytesMax: 2_000 });
    const listener = await PollListener.open(relay);
    listener.sendText('x'.repeat(2_001));
    expect(await listener.closed()).toMatchObject({ code: 1009 });
    await until('it is gone', () => relay.server.status().listeners === 0);
  });

  test('ends when the listener closes it, deletes it, or polls no more', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay({}, { clock });
    const closing = await PollListener.open(relay);
    const deleting = await PollListener.open(relay);
    await HttpSession.open(relay, { action: 'listen' });
    expect(relay.server.status().listeners).toBe(3);
    closing.control.channel.close(1000, '');
    expect(await closing.closed()).toMatchObject({ code: 1000 });
    await until('one is gone', () => relay.server.status().listeners === 2);
    await deleting.session.end();
    await until('two are gone', () => relay.server.status().listeners === 1);
    clock.advance(61_000);
    expect(relay.server.status().listeners).toBe(0);
    const series = 'halfway_listener_disconnects_total';
    expect(await relay.metric(`${series}{reason="closed-by-listener"}`)).toBe(1);
    expect(await relay.metric(`${series}{reason="lost"}`)).toBe(2);
  });

  test('a crowded one is passed over', async () => {
    await using relay = await startRelay({ controlQueueBytesMax: 65_536 });
    const crowded = await HttpSession.open(relay, { action: 'listen' });
    const body = Buffer.alloc(20_000, 'x');
    const first = send(relay, '/hyco', { method: 'POST', body }).catch(() => 'cut');
    await until('it waits', async () => (await relay.metric('halfway_poll_queued_bytes')) > 20_000);
    const other = await listen(relay);
    other.serve(() => ({ body: 'from the other' }));
    for (let i = 0; i < 4; i += 1) {
      const { body: answer } = await send(relay, '/hyco', { method: 'POST', body });
      expect(answer.toString()).toBe('from the other');
    }
    await other[Symbol.asyncDispose]();
    await crowded.end();
    await relay.server.stop();
    expect(await first).toBe('cut');
  });
});

test('neither logs nor metrics nor refusals show the id of a session', async () => {
  await using relay = await startRelay();
  const session = await HttpSession.open(relay, { action: 'listen' });
  const { session: id } = session.terms;
  const texts: string[] = [];
  for (const answer of [
    await session.get({ ack: 99 }),
    await session.put(Buffer.from('nonsense')),
    await request(`${session.url}/more`),
    await request(`${relay.httpUrl}/%24poll/${id}/more`),
    await request(session.url, { method: 'PATCH' }),
    await session.end(),
    await session.get(),
  ]) {
    texts.push(answer.text, JSON.stringify([...answer.headers]));
  }
  const upgraded = await dial(`${relay.wsUrl}/%24poll/${id}?turn=1&ack=0&credit=1`).answer;
  texts.push(upgraded.reason, upgraded.body, JSON.stringify(headerValues(upgraded, 'date')));
  texts.push(await (await fetch(`${relay.adminUrl}/metrics`)).text(), ...relay.log.lines);
  expect(texts.filter(text => text.includes(id.slice(0, 32)))).toEqual([]);
  expect(texts.join('\n')).toMatch('session-gone');
});
