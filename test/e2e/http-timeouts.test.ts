// Time limits, with time that passes only when a test says so. Source: azure-relay-protocol.md section 3.10.
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../support/fake-clock.ts';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { headOf, openRequest, pattern, send, wholeOf } from '../support/http-sender.ts';
import { Inbox } from '../support/inbox.ts';
import { open } from '../support/raw-websocket.ts';
import { startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const LATE =
  /^The request was routed to the listener but the listener did not respond in the required time\. TrackingId:/;
const SILENT =
  /^The listener did not rendezvous to accept the request within the allotted time\. TrackingId:/;

describe.each(DATA_PLANES)('over %s', dataPlane => {
  async function start(
    options: RelayOptions = {},
  ): Promise<{ relay: TestRelay; clock: FakeClock }> {
    const clock = new FakeClock();
    return { relay: await startRelay({ dataPlane, ...options }, { clock }), clock };
  }

  test('a listener that does not answer: 504 after 60 s, and a late answer is ignored', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    clock.advance(59_999);
    expect(relay.server.status().senders).toBe(1);
    clock.advance(1);
    const answer = await sent;
    expect(answer.status).toBe(504);
    expect(answer.phrase).toMatch(LATE);
    expect(answer.headers).not.toHaveProperty('via');
    expect(JSON.parse(answer.body.toString())).toEqual({
      error: { code: 1, message: answer.phrase },
    });
    listener.answer(request, { body: 'late' });
    const next = send(relay, '/hyco');
    listener.answer(await listener.next(), { body: 'next' });
    expect((await next).body.toString()).toBe('next');
    expect(await relay.metric('halfway_refusals_total{reason="response-late",role="http"}')).toBe(
      1,
    );
    expect(await relay.metric('halfway_ignored_messages_total{why="unknown-request"}')).toBe(1);
  });

  test('the limit is the operator’s', async () => {
    const { relay, clock } = await start({ requestTimeoutMs: 120_000 });
    await using _ = relay;
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    clock.advance(119_000);
    listener.answer(request, { body: 'just in time' });
    expect((await sent).body.toString()).toBe('just in time');
  });

  test('a listener that does not dial: 504 after 30 s, and the address is void', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    await using listener = await listen(relay, { fetches: false });
    const sent = send(relay, '/hyco', { method: 'POST', body: pattern(100_000) });
    const address = await listener.pointers.next();
    clock.advance(29_999);
    expect(relay.server.status().senders).toBe(1);
    clock.advance(1);
    const answer = await sent;
    expect(answer.status).toBe(504);
    expect(answer.phrase).toMatch(SILENT);
    const refused = await listener.dialRefused(address);
    expect(refused.status).toBe(403);
    expect(refused.phrase).toMatch(/^Unknown Connection ID: /);
  });

  test('a listener that dials and says nothing: 504 after 60 s more, its rendezvous closed', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    await using listener = await listen(relay, { fetches: false });
    const sent = send(relay, '/hyco', { method: 'POST', body: pattern(100_000) });
    const address = await listener.pointers.next();
    clock.advance(25_000);
    const whole = new Inbox<number>('the request');
    const rendezvous = await listener.dial(address, bytes => whole.put(bytes.length));
    await whole.next();
    expect(await whole.next()).toBe(100_000);
    clock.advance(59_999);
    expect(relay.server.status().senders).toBe(1);
    const closed = closeOf(rendezvous);
    clock.advance(1);
    expect((await sent).phrase).toMatch(LATE);
    expect((await closed).code).toBe(1011);
  });

  test('an upload that stands still: 408, for it was the sender', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    await using listener = await listen(relay, { fetches: false });
    const sending = openRequest(relay, '/hyco', { method: 'POST' });
    sending.on('error', () => {});
    const head = headOf(sending);
    sending.write('half');
    const rendezvous = await open(await listener.pointers.next());
    await rendezvous.nextText();
    await rendezvous.nextFrame();
    // Once more, so that nothing is held back by the opening of the rendezvous.
    sending.write('more');
    await rendezvous.nextFrame();
    clock.advance(60_000);
    expect((await head).statusCode).toBe(408);
    expect((await rendezvous.nextClose()).code).not.toBe(1000);
    sending.destroy();
  });

  test('an answer by rendezvous may begin late, and be whole much later, as long as it is never silent', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco');
    sending.end();
    const request = await listener.next();
    const rendezvous = await listener.dial(request.address);
    clock.advance(59_000);
    rendezvous.send(responseText(request.id, { body: '' }));
    // Whole messages are all that the fallback sees, so silence cannot be told from work there.
    if (dataPlane === 'messages') {
      rendezvous.send('whole', { binary: true });
      expect((await wholeOf(await headOf(sending))).body.toString()).toBe('whole');
      return;
    }
    rendezvous.send('0', { binary: true, fin: false });
    const response = await headOf(sending);
    const chunks = new Inbox<string>('a chunk');
    response.on('data', (chunk: Buffer) => chunks.put(chunk.toString()));
    response.on('error', () => {});
    expect(await chunks.next()).toBe('0');
    for (let i = 1; i <= 5; i += 1) {
      clock.advance(59_000);
      rendezvous.send(String(i), { binary: true, fin: false });
      expect(await chunks.next()).toBe(String(i));
    }
    // Silent for 60 s: the connection is broken, so that nobody takes a part for the whole.
    const closed = closeOf(rendezvous);
    clock.advance(60_000);
    await until('the answer is cut', () => response.destroyed);
    expect(response.complete).toBe(false);
    expect((await closed).code).not.toBe(1000);
    expect(await relay.metric('halfway_refusals_total{reason="response-late",role="http"}')).toBe(
      0,
    );
  });

  test('a listener that goes away has 5 s to come back and answer', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    const listener = await listen(relay);
    const answered = send(relay, '/hyco/answered');
    const lost = send(relay, '/hyco/lost');
    const requests = [await listener.next(), await listener.next()];
    await listener[Symbol.asyncDispose]();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    clock.advance(4_000);
    await using again = await listen(relay);
    const request = requests.find(({ requestTarget }) => requestTarget.endsWith('answered'));
    if (request === undefined) throw new Error('The request did not arrive');
    again.answer(request, { body: 'on the new channel' }, again.control);
    expect((await answered).body.toString()).toBe('on the new channel');
    clock.advance(1_000);
    const answer = await lost;
    expect(answer.status).toBe(502);
    expect(answer.phrase).toMatch(
      /^The request was routed to the listener but the listener went away before it answered\. /,
    );
  });

  test('no timer is left when everything is over', async () => {
    const { relay, clock } = await start();
    await using _ = relay;
    const idle = clock.pendingTasks;
    const listener = await listen(relay);
    listener.serve(() => ({ body: 'x' }));
    await send(relay, '/hyco');
    await send(relay, '/hyco', { method: 'POST', body: 'small' });
    await send(relay, '/hyco', { method: 'POST', body: pattern(100_000) });
    await listener[Symbol.asyncDispose]();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    expect(clock.pendingTasks).toBe(idle);
  });
});
