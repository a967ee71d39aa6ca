// Listeners that go wrong: no other pair may notice, and nobody takes a part for the whole.
import { describe, expect, test } from 'vitest';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { headOf, openRequest, pattern, send, wholeOf } from '../support/http-sender.ts';
import { open } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const UNREADABLE = 'halfway_ignored_messages_total{why="unreadable"}';
const UNKNOWN = 'halfway_ignored_messages_total{why="unknown-request"}';
const STRAY = 'halfway_ignored_messages_total{why="stray-body"}';

describe.each(DATA_PLANES)('over %s', dataPlane => {
  test('an answer inline counts after the rendezvous was dialled, which is then closed', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    const rendezvous = await listener.dial(request.address);
    const closed = closeOf(rendezvous);
    listener.answer(request, { body: 'inline' });
    expect((await sent).body.toString()).toBe('inline');
    expect((await closed).code).toBe(1000);
  });

  test('answers to a request that never was, or is over, are passed over with their bodies', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    listener.control.send(responseText('nobody-asked', { body: 'x' }));
    listener.control.send(Buffer.from('a body for nobody'));
    listener.serve(() => ({ body: 'fine' }));
    expect((await send(relay, '/hyco')).body.toString()).toBe('fine');
    expect(await relay.metric(UNKNOWN)).toBe(1);
    expect(await relay.metric(STRAY)).toBe(0);
  });

  test.each([
    ['no JSON', 'garbage'],
    ['an empty text', ''],
    ['JSON that is no object', '[1,2]'],
    ['an unknown command', '{"injectFault":{"delay":"00:01:00"}}'],
    ['a response without an id', '{"response":{"statusCode":200}}'],
    ['deep nesting', `${'['.repeat(20_000)}${']'.repeat(20_000)}`],
  ])('%s on the control channel is passed over', async (_, text) => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    listener.control.send(text);
    listener.control.send(Buffer.from('stray bytes'));
    listener.serve(() => ({ body: 'fine' }));
    expect((await send(relay, '/hyco')).body.toString()).toBe('fine');
    expect(await relay.metric(UNREADABLE)).toBe(1);
    expect(await relay.metric(STRAY)).toBe(1);
  });

  test('a message larger than a control channel carries closes it with 1009; others live', async () => {
    await using relay = await startRelay({ dataPlane });
    await using big = await listen(relay);
    await using other = await listen(relay, { path: 'a' });
    const closed = closeOf(big.control);
    big.control.send(Buffer.alloc(65_537));
    expect((await closed).code).toBe(1009);
    other.serve(() => ({ body: 'fine' }));
    expect((await send(relay, '/a')).body.toString()).toBe('fine');
    expect(await relay.metric('halfway_listener_disconnects_total{reason="message-too-big"}')).toBe(
      1,
    );
  });

  describe('on the rendezvous', () => {
    test.each([
      ['binary in place of the response', Buffer.from('x'), "'response' command was expected."],
      ['text that is no JSON', 'garbage', "'response' command was expected."],
      ['a renewed token', '{"renewToken":{"token":"x"}}', "'response' command was expected."],
      [
        'an answer to another request',
        responseText('other'),
        "'response.requestId' is for another request.",
      ],
    ])('%s closes it with 1002, and is a 502', async (_, message, reason) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const rendezvous = await open(request.address);
      rendezvous.send(message);
      expect(await rendezvous.nextClose()).toEqual({ code: 1002, reason });
      const answer = await sent;
      expect(answer.status).toBe(502);
      expect(answer.phrase).toContain(reason.slice(0, -1));
    });

    test('a head larger than a control message may be is a 502', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      rendezvous.send(responseText(request.id, { headers: { 'X-Long': 'x'.repeat(70_000) } }));
      expect((await sent).status).toBe(502);
    });

    test.each([
      ['breaks', (socket: { terminate(): void }) => socket.terminate()],
      ['closes with 1000', (socket: { close(code: number): void }) => socket.close(1000)],
    ])('one that %s before its answer is a 502', async (_, end) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      end(await listener.dial(request.address));
      const answer = await sent;
      expect(answer.status).toBe(502);
      expect(answer.phrase).toMatch(
        /^The request was routed to the listener but the listener went away/,
      );
    });

    test('the control channel may go meanwhile: the answer comes all the same', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      listener.control.terminate();
      await until('the listener is gone', () => relay.server.status().listeners === 0);
      rendezvous.send(responseText(request.id, { body: 'x' }));
      rendezvous.send(Buffer.from('all the same'));
      expect((await sent).body.toString()).toBe('all the same');
    });
  });
});

describe.each(DATA_PLANES.filter(plane => plane === 'native'))('over %s alone', dataPlane => {
  test.each([
    ['is killed', 'reset'],
    ['ends its TCP connection', 'fin'],
    ['closes with 1011', 'close'],
    ['sends text into its body', 'text'],
    ['breaks the framing', 'garbage'],
  ] as const)('a listener that %s in mid-answer breaks the sender’s connection', async (_, end) => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const sending = openRequest(relay, '/hyco');
    sending.end();
    const request = await listener.next();
    const rendezvous = await open(request.address);
    rendezvous.send(responseText(request.id, { body: 'x' }));
    rendezvous.send(pattern(1_000), { fin: false });
    const response = await headOf(sending);
    expect(response.headers['transfer-encoding']).toBe('chunked');
    const whole = wholeOf(response);
    if (end === 'reset') await rendezvous.reset();
    else if (end === 'fin') rendezvous.fin();
    else if (end === 'close') rendezvous.sendClose(1011, 'Out of order');
    else if (end === 'text') rendezvous.send('text', { opcode: 1 });
    else rendezvous.sendRaw(Buffer.from('ffffffffffff', 'hex'));
    await expect(whole).rejects.toThrow('aborted');
    expect(response.complete).toBe(false);
    await until('nobody is left', () => relay.server.status().senders === 0);
  });
});
