// What one process counts of what listeners do wrong.
import { describe, expect, test } from 'vitest';
import { listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const UNKNOWN = 'halfway_ignored_messages_total{why="unknown-request"}';

describe.each(DATA_PLANES)('over %s', dataPlane => {
  test('the first of two answers counts, bodies included', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    listener.answer(request, { status: 201, body: 'first' });
    listener.answer(request, { status: 500, body: 'second' });
    const next = send(relay, '/hyco');
    listener.answer(await listener.next(), { body: 'next' });
    const answer = await sent;
    expect(answer.status).toBe(201);
    expect(answer.body.toString()).toBe('first');
    expect((await next).body.toString()).toBe('next');
    expect(await relay.metric(UNKNOWN)).toBe(1);
  });

  test('an answer to another hybrid connection’s request is none', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    await using stranger = await listen(relay, { path: 'a' });
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    stranger.answer(request, { body: 'stolen' }, stranger.control);
    await until('the answer is passed over', async () => (await relay.metric(UNKNOWN)) === 1);
    listener.answer(request, { body: 'own' });
    expect((await sent).body.toString()).toBe('own');
  });

  test('an announced body that does not follow is a 502, and what follows counts', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const first = send(relay, '/hyco/1');
    const one = await listener.next();
    const second = send(relay, '/hyco/2');
    const two = await listener.next();
    listener.control.send(responseText(one.id, { body: 'never comes' }));
    listener.answer(two, { body: 'came' });
    expect((await second).body.toString()).toBe('came');
    const answer = await first;
    expect(answer.status).toBe(502);
    expect(answer.phrase).toMatch(/: its body was announced but did not follow\. /);
  });

  describe('on the rendezvous', () => {
    test('an address works once, and only for what it was made for', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const asAccept = request.address.replace('sb-hc-action=request', 'sb-hc-action=accept');
      expect((await listener.dialRefused(asAccept)).status).toBe(403);
      const guessed = request.address.replace(/.$/, last => (last === '0' ? '1' : '0'));
      expect((await listener.dialRefused(guessed)).status).toBe(403);
      const rendezvous = await listener.dial(request.address);
      expect((await listener.dialRefused(request.address)).status).toBe(403);
      rendezvous.send(responseText(request.id, { body: 'x' }));
      rendezvous.send(Buffer.from('still fine'));
      expect((await sent).body.toString()).toBe('still fine');
      const series = 'halfway_refusals_total{reason="address-unknown",role="rendezvous"}';
      expect(await relay.metric(series)).toBe(3);
    });
  });
});
