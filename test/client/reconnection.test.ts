// A listener whose relay goes away: killed, drained, or out of reach without anybody saying so.
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import {
  HybridConnectionClient,
  HybridConnectionListener,
  type RelayConnection,
  type RelayOptions,
} from '../../src/client/client.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Inbox } from '../support/inbox.ts';
import { freePort } from '../support/ports.ts';
import { ROOT_KEY, startRelay } from '../support/relay.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until, within } from '../support/within.ts';
import { runServe } from '../support/worker-relay.ts';
import { openListener, optionsFor } from './implementations.ts';

const START_MS = 30_000;

const at = (port: number): RelayOptions => ({
  connectionString:
    `Endpoint=http://127.0.0.1:${port};SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY};` +
    'EntityPath=hyco',
  transport: 'websocket',
});

/** A listener that echoes and counts what happens to it. */
async function openWatched(options: RelayOptions) {
  const events: string[] = [];
  const connections = new Inbox<RelayConnection>('a connection');
  const listener = await openListener(options, {
    onConnection: async offer => {
      const connection = await offer.accept();
      connections.put(connection);
      for await (const { data } of connection) await connection.send(data);
    },
    onRequest: request => ({ status: 200, body: request.body }),
  });
  listener.on('online', () => events.push('online'));
  listener.on('offline', ({ message }) => events.push(`offline: ${message}`));
  listener.on('reconnecting', ({ why, delayMs }) => events.push(`${why.code} ${delayMs > 0}`));
  return { listener, events, connections };
}

test('a relay that is killed and started again has its listener back, and connections are lost with a clear error', async () => {
  const port = await freePort();
  const args = ['--port', String(port), '--admin-port', '0'];
  let relay = runServe(args);
  await until('the relay listens', () => relay.output().includes('"listening"'), START_MS);
  const { listener, events } = await openWatched(at(port));
  const client = new HybridConnectionClient(at(port));
  const connection = await client.connect();
  await connection.send('before');
  expect(await connection.receive()).toMatchObject({ data: 'before' });

  relay.signal('SIGKILL');
  await relay.end;
  await expect(within('an error', connection.receive())).rejects.toMatchObject({
    code: 'ConnectionLost',
  });
  expect(await connection.closed).toEqual({ code: 1006, reason: '' });
  await until('the listener knows', () => events.some(event => event.startsWith('offline')));
  expect(listener.state).toBe('offline');
  await expect(client.request()).rejects.toMatchObject({ code: 'ConnectionFailed' });

  relay = runServe(args);
  await until('the listener is back', () => events.includes('online'), START_MS);
  const answer = await client.request({ body: 'after' });
  expect(await text(answer.body)).toBe('after');
  await listener.close();
  relay.signal('SIGKILL');
  await relay.end;
}, 90_000);

test('a relay that drains sends its listener away at once, while a joined pair goes on', async () => {
  const port = await freePort();
  const drain = { drainDelayMs: 0, drainTimeoutMs: 60_000 };
  const clock = new FakeClock();
  const first = await startRelay({ port, ...drain }, { clock });
  const { listener, events } = await openWatched(at(port));
  const connection = await new HybridConnectionClient(at(port)).connect();
  const drained = first.server.drain();
  await until('the drain has begun', async () => {
    clock.advance(100);
    await new Promise(setImmediate);
    return events.length > 1;
  });
  expect(events.slice(0, 2)).toEqual([
    'offline: The relay closed the control channel with 1001 The relay is shutting down; connect again',
    'ConnectionLost false',
  ]);
  await connection.send('still here');
  expect(await connection.receive()).toMatchObject({ data: 'still here' });
  await connection.close();
  let isOver = false;
  void drained.then(() => (isOver = true));
  await until('the drain is over', async () => {
    clock.advance(1_000);
    await new Promise(setImmediate);
    return isOver;
  });
  await using _ = await startRelay({ port });
  await until('the listener is back', () => events.includes('online'), 20_000);
  await listener.close();
});

test('a path that swallows everything is found dead by pings, and left', async () => {
  await using relay = await startRelay();
  await using way = await startTcpProxy(relay.port);
  const clock = new FakeClock();
  const { listener, events } = await openWatched({ ...at(way.port), clock });
  way.stall();
  clock.advance(15_000);
  clock.advance(15_000);
  await until('it is offline', () => events.length >= 2);
  expect(events[0]).toMatch('offline: The control channel broke');
  expect(listener.state).toBe('offline');
  way.mend();
  await until('it is back', async () => {
    clock.advance(1_000);
    await new Promise(setImmediate);
    return events.includes('online');
  });
  await listener.close();
});

test('a listener outlives its token, because it renews it', async () => {
  await using relay = await startRelay({ tokenGraceMs: 0 });
  // The last quarter of it is what a busy machine may be late by.
  const ttlSec = 4;
  const expiries: number[] = [];
  const { listener, events } = await openWatched({
    ...optionsFor(relay),
    tokenProvider: {
      getToken: () => {
        const expiresAtMs = (Math.floor(Date.now() / 1_000) + ttlSec) * 1_000;
        expiries.push(expiresAtMs);
        return { token: relay.token('hyco', { ttlSec }), expiresAtMs };
      },
    },
  });
  await until(
    'two tokens have expired',
    () => Date.now() > (expiries[1] ?? Infinity) + 200,
    20_000,
  );
  expect(events).toEqual([]);
  const answer = await new HybridConnectionClient(optionsFor(relay)).request({ body: 'here' });
  expect(await text(answer.body)).toBe('here');
  await listener.close();
});

test('a renewal that the relay refuses ends the channel, and the listener comes back', async () => {
  await using relay = await startRelay();
  let asked = 0;
  const { listener, events } = await openWatched({
    ...optionsFor(relay),
    tokenProvider: {
      getToken: () => {
        asked += 1;
        const token = asked === 2 ? 'garbage' : relay.token('hyco', { ttlSec: 60 + asked });
        return { token, expiresAtMs: Date.now() + (asked === 1 ? 1_400 : 3_600_000) };
      },
    },
  });
  await until('it is back', () => events.includes('online'), 20_000);
  expect(events[0]).toMatch(/^offline: The relay closed the control channel with 1008/);
  expect(events[1]).toMatch(/^Unauthorized/);
  await listener.close();
});

test('close() answers the requests that are under way, takes no new ones, and leaves connections alone', async () => {
  await using relay = await startRelay();
  let finish: (() => void) | undefined;
  const accepted = new Inbox<RelayConnection>('a connection');
  const listener = await openListener(optionsFor(relay), {
    onConnection: async offer => accepted.put(await offer.accept()),
    onRequest: async () => {
      await new Promise<void>(resolve => (finish = resolve));
      return { status: 200, body: 'late, but here' };
    },
  });
  const client = new HybridConnectionClient(optionsFor(relay));
  const connection = await client.connect();
  const answering = client.request();
  await until('the request is there', () => finish !== undefined);
  const closing = listener.close();
  await until('the relay knows', () => relay.server.status().listeners === 0);
  finish?.();
  await closing;
  expect(await text((await answering).body)).toBe('late, but here');
  await expect(client.request()).rejects.toMatchObject({ code: 'EndpointNotFound' });
  const other = await accepted.next();
  await other.send('still here');
  expect(await connection.receive()).toMatchObject({ data: 'still here' });
  await connection.close();
});

test('open() waits for a relay that is not there yet, until its signal ends that', async () => {
  const port = await freePort();
  const aborter = new AbortController();
  const listener = new HybridConnectionListener(at(port), {});
  const retries = new Inbox<string>('a retry');
  listener.on('reconnecting', ({ why }) => retries.put(why.code));
  const opening = listener.open({ signal: aborter.signal });
  opening.catch(() => undefined);
  expect(await retries.next()).toBe('ConnectionFailed');
  expect(listener.state).toBe('opening');
  aborter.abort();
  await expect(opening).rejects.toMatchObject({ code: 'Aborted' });
  expect(listener.state).toBe('closed');
  await expect(listener.open()).rejects.toMatchObject({ code: 'Closed' });
  await listener.close();
});
