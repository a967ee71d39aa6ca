// Senders that hang up, and bodies that stand still for longer than uWebSockets.js likes: a balancer is between.
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import {
  answerOf,
  headOf,
  openRequest,
  pattern,
  send,
  sha256,
  wholeOf,
} from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const MIB = 1024 * 1024;

describe.each(DATA_PLANES)('over %s', dataPlane => {
  test('a sender that hangs up is news on the rendezvous: before the answer, and in its middle', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    for (const isAnswering of [false, true]) {
      const sending = openRequest(relay, '/hyco');
      sending.on('error', () => {});
      sending.end();
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      if (isAnswering) {
        const head = headOf(sending);
        rendezvous.send(responseText(request.id, { body: '' }));
        // The fallback shows whole messages only, so there the head waits for more.
        if (dataPlane === 'native') {
          rendezvous.send('data: 1\n\n', { binary: true, fin: false });
          await head;
        } else head.catch(() => {});
      }
      const closed = closeOf(rendezvous);
      sending.destroy();
      expect(await closed).toEqual({ code: 1001, reason: 'The sender went away' });
    }
    await until('nobody is left', () => relay.server.status().senders === 0);
    expect(
      await relay.metric('halfway_active_connections{hybrid_connection="hyco",kind="http"}'),
    ).toBe(0);
  });

  test('a sender that hangs up while the listener thinks costs nobody anything', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco');
    sending.on('error', () => {});
    sending.end();
    const request = await listener.next();
    sending.destroy();
    await until('the sender is gone', () => relay.server.status().senders === 0);
    expect((await listener.dialRefused(request.address)).status).toBe(403);
    // A late answer with its body is passed over, and the channel goes on.
    listener.answer(request, { body: 'too late' });
    const next = send(relay, '/hyco');
    listener.answer(await listener.next(), { body: 'in time' });
    expect((await next).body.toString()).toBe('in time');
    expect(await relay.metric('halfway_ignored_messages_total{why="unknown-request"}')).toBe(1);
  });
});

// What the fallback over whole messages does instead is in http-library-listeners.test.ts.
describe.each(DATA_PLANES.filter(plane => plane === 'native'))('over %s alone', dataPlane => {
  // uWebSockets.js cuts bodies below 16 KiB in 10 s and readers that stand still for 10 s, unless it is kept from it.
  describe('slower than uWebSockets.js would have it', () => {
    const SLOW_MS = 14_500;

    test.concurrent.each([
      ['that begin late', ''],
      ['that stand still in their middle', 'half'],
    ])('request bodies %s arrive whole', async (_, start) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const answers = [undefined, 100_000, 8].map(length => {
        const headers =
          length === undefined ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': length };
        const sending = openRequest(relay, '/hyco', { method: 'POST', headers });
        sending.flushHeaders();
        if (start !== '') sending.write(start);
        setTimeout(() => sending.end('x'.repeat((length ?? 8) - start.length)), SLOW_MS);
        return answerOf(sending);
      });
      listener.serve(request => ({ body: String(request.body.length) }));
      expect((await Promise.all(answers)).map(answer => answer.body.toString())).toEqual([
        '8',
        '100000',
        '8',
      ]);
    });

    test.concurrent('answers to a reader that stands still arrive whole', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sending = openRequest(relay, '/hyco');
      sending.end();
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      const body = pattern(32 * MIB);
      rendezvous.send(responseText(request.id, { body: '' }));
      rendezvous.send(body, { binary: true });
      const response = await headOf(sending);
      response.pause();
      await pause(SLOW_MS);
      expect(sha256((await wholeOf(response)).body)).toBe(sha256(body));
    });

    test.concurrent('events far apart arrive', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sending = openRequest(relay, '/hyco');
      sending.end();
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      rendezvous.send(responseText(request.id, { body: '' }));
      rendezvous.send('one', { binary: true, fin: false });
      const response = await headOf(sending);
      await pause(SLOW_MS);
      rendezvous.send('two', { binary: true });
      expect((await wholeOf(response)).body.toString()).toBe('onetwo');
    });
  });
});
