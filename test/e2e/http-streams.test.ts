// Answers and requests that take their time: events one by one, slow readers, early answers, hang-ups.
// Source: azure-relay-protocol.md sections 3.6 and 3.7, client-behaviour.md items 15 and 16.
import { once } from 'node:events';
import { Agent } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { listen, responseText, type HttpListener } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import {
  answerOf,
  headOf,
  openRequest,
  pattern,
  rawSocket,
  send,
  sha256,
  wholeOf,
} from '../support/http-sender.ts';
import { Inbox } from '../support/inbox.ts';
import { open, type RawWebSocket } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const MIB = 1024 * 1024;
/** What two hops of loopback TCP and the relay's own limits may hold; far below what is sent. */
const HELD_BYTES_MAX = 24 * MIB;

/** Fetches the next request by hand, frame by frame. */
async function fetchNext(
  listener: HttpListener,
): Promise<{ id: string; rendezvous: RawWebSocket }> {
  const rendezvous = await open(await listener.pointers.next());
  const { request } = JSON.parse(await rendezvous.nextText());
  return { id: request.id, rendezvous };
}

/** Resolves when a counter has stood still for a while. */
async function standstill(count: () => number): Promise<number> {
  for (let before = -1; ;) {
    await pause(150);
    if (count() === before) return before;
    before = count();
  }
}

describe.each(DATA_PLANES)('over %s', dataPlane => {
  test('an answer that comes before the request has ended ends the exchange, and the connection stays usable', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay, { fetches: false });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const sending = openRequest(relay, '/hyco', { method: 'POST', agent });
    const answered = answerOf(sending);
    sending.write('a first part');
    const { id, rendezvous } = await fetchNext(listener);
    await rendezvous.nextFrame();
    rendezvous.send(responseText(id, { status: 413, phrase: 'Too much', body: '' }));
    rendezvous.send(Buffer.from('no more of this'));
    expect(await rendezvous.nextClose()).toEqual({ code: 1000, reason: 'Normal Closure' });
    const answer = await answered;
    expect(answer).toMatchObject({ status: 413, phrase: 'Too much' });
    expect(answer.body.toString()).toBe('no more of this');
    // The rest of the upload goes nowhere, but it is read.
    sending.end(pattern(3 * MIB));
    await once(sending, 'finish');
    const next = send(relay, '/hyco', { agent });
    listener.answer(await listener.next(), { body: 'next' });
    expect((await next).body.toString()).toBe('next');
    agent.destroy();
  });

  test('an answer inline to a request that was offered by address counts as well', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay, { fetches: false });
    const sent = send(relay, '/hyco', { method: 'POST', body: pattern(100_000) });
    const address = await listener.pointers.next();
    const id = new URL(address).searchParams.get('sb-hc-id') ?? '';
    listener.control.send(responseText(id, { status: 503, phrase: 'Not today' }));
    expect((await sent).status).toBe(503);
    expect((await listener.dialRefused(address)).status).toBe(403);
  });

  test('500 requests at once travel on one control channel, answered in any order', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sent = Array.from({ length: 500 }, (_, i) =>
      send(relay, `/hyco/${i}`, i % 2 === 0 ? {} : { method: 'POST', body: `body of ${i}` }),
    );
    const requests = [];
    for (let i = 0; i < 500; i += 1) requests.push(await listener.next());
    for (const request of requests.toReversed()) {
      listener.answer(request, { body: `${request.requestTarget} ${request.body.toString()}` });
    }
    const answers = await Promise.all(sent);
    for (const [i, { status, body }] of answers.entries()) {
      expect(status).toBe(200);
      expect(body.toString()).toBe(`/hyco/${i} ${i % 2 === 0 ? '' : `body of ${i}`}`);
    }
    expect(listener.texts).toHaveLength(500);
  });

  test('300 at once with large bodies find room: inline, and by rendezvous beyond that', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    let byRendezvous = 0;
    listener.serve(request => {
      if (request.isByRendezvous) byRendezvous += 1;
      return { body: String(request.body.length) };
    });
    const body = pattern(60_000);
    const answers = await Promise.all(
      Array.from({ length: 300 }, () => send(relay, '/hyco', { method: 'POST', body })),
    );
    expect(new Set(answers.map(answer => `${answer.status} ${answer.body.toString()}`))).toEqual(
      new Set(['200 60000']),
    );
    expect(byRendezvous).toBeGreaterThan(0);
    expect(byRendezvous).toBeLessThan(300);
  });

  test('one that is slow blocks none of the others', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const slow = [
      send(relay, '/hyco/slow'),
      send(relay, '/hyco/slow', { method: 'POST', body: pattern(200_000) }),
    ];
    const held = [await listener.next(), await listener.next()];
    listener.serve(() => ({ body: 'fast' }));
    const others = Array.from({ length: 50 }, () => send(relay, '/hyco/fast'));
    for (const answer of await Promise.all(others)) expect(answer.body.toString()).toBe('fast');
    for (const request of held) listener.answer(request, { body: 'slow' });
    for (const answer of await Promise.all(slow)) expect(answer.body.toString()).toBe('slow');
  });
});

// What the fallback over whole messages does instead is in http-library-listeners.test.ts.
describe.each(DATA_PLANES.filter(plane => plane === 'native'))('over %s alone', dataPlane => {
  test('server-sent events arrive one by one', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco', { headers: { Accept: 'text/event-stream' } });
    sending.end();
    const request = await listener.next();
    const rendezvous = await listener.dial(request.address);
    rendezvous.send(
      responseText(request.id, { headers: { 'Content-Type': 'text/event-stream' }, body: '' }),
    );
    rendezvous.send('data: 0\n\n', { binary: true, fin: false });
    const response = await headOf(sending);
    expect(response.headers['content-type']).toBe('text/event-stream');
    const events = new Inbox<string>('an event');
    response.on('data', (chunk: Buffer) => events.put(chunk.toString()));
    for (let i = 0; i < 10; i += 1) {
      // The next one is sent only when this one has arrived.
      expect(await events.next()).toBe(`data: ${i}\n\n`);
      rendezvous.send(`data: ${i + 1}\n\n`, { binary: true, fin: false });
    }
    const ended = once(response, 'end');
    rendezvous.send('', { binary: true, fin: true });
    await ended;
  });

  test('large bodies to a listener that reads nothing wait at the sender', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay, { fetches: false });
    const socket = await rawSocket(relay);
    socket.write(
      `POST /hyco HTTP/1.1\r\nHost: 127.0.0.1\r\nServiceBusAuthorization: ${relay.token()}\r\nContent-Length: ${64 * MIB}\r\nConnection: close\r\n\r\n`,
    );
    const { id, rendezvous } = await fetchNext(listener);
    rendezvous.pause();
    const body = pattern(64 * MIB);
    for (let at = 0; at < body.length; at += MIB) socket.write(body.subarray(at, at + MIB));
    const taken = await standstill(() => socket.bytesWritten - socket.writableLength);
    expect(taken).toBeLessThan(HELD_BYTES_MAX);
    rendezvous.resume();
    expect(sha256((await rendezvous.nextMessage()).payload)).toBe(sha256(body));
    const answer = new Inbox<string>('an answer');
    socket.on('data', chunk => answer.put(chunk.toString()));
    rendezvous.send(responseText(id));
    expect(await answer.next()).toMatch(/^HTTP\/1.1 200 OK/);
    socket.destroy();
  });

  test('a large event arrives whole, although nothing follows it', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco');
    sending.end();
    const request = await listener.next();
    const rendezvous = await listener.dial(request.address);
    rendezvous.send(responseText(request.id, { body: '' }));
    rendezvous.send(pattern(16 * MIB), { binary: true, fin: false });
    const response = await headOf(sending);
    let received = 0;
    response.pause();
    await standstill(() => rendezvous.bufferedAmount);
    response.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    response.resume();
    await until('the event is whole', () => received === 16 * MIB);
    rendezvous.send('', { binary: true });
    await once(response, 'end');
  });

  test('a large answer to a sender that reads nothing waits at the listener', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco');
    sending.end();
    const request = await listener.next();
    const rendezvous = await open(request.address);
    const body = pattern(64 * MIB);
    rendezvous.send(responseText(request.id, { body: '' }));
    for (let at = 0; at < body.length; at += MIB) {
      rendezvous.send(body.subarray(at, at + MIB), { fin: false, opcode: at === 0 ? 2 : 0 });
    }
    rendezvous.send(new Uint8Array(0), { opcode: 0 });
    const response = await headOf(sending);
    response.pause();
    await standstill(() => rendezvous.unsentBytes);
    expect(body.length - rendezvous.unsentBytes).toBeLessThan(HELD_BYTES_MAX);

    // Others are not held up by it.
    const other = send(relay, '/hyco');
    listener.answer(await listener.next(), { body: 'other' });
    expect((await other).body.toString()).toBe('other');
    expect(sha256((await wholeOf(response)).body)).toBe(sha256(body));
  });
});
