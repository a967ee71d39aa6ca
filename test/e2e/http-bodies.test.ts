// Bodies of every size, both ways. Source: azure-relay-protocol.md sections 3.2, 3.5 and 3.6.
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { Inbox } from '../support/inbox.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { answerOf, openRequest, pattern, rawSocket, send, sha256 } from '../support/http-sender.ts';
import { open } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe.each(DATA_PLANES)('over %s', dataPlane => {
  // What the fallback does not promise is listed in http-library-listeners.test.ts.
  const largest = dataPlane === 'native' ? 20 * MIB : MIB;
  const sizes = [0, 1, 65_535, 65_536, 65_537, MIB, ...(largest > MIB ? [largest] : [])];

  describe('request bodies', () => {
    test.each(sizes)('of %i bytes with a known length arrive whole', async size => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const body = pattern(size);
      const sent = send(relay, '/hyco', {
        method: 'POST',
        headers: { 'Content-Length': size },
        body,
      });
      const request = await listener.next();
      expect(request.isByRendezvous).toBe(size > 65_536);
      expect(request.hasBody).toBe(size > 0);
      expect(sha256(request.body)).toBe(sha256(body));
      listener.answer(request, { body: 'taken' });
      expect((await sent).body.toString()).toBe('taken');
      expect(
        await relay.metric(
          'halfway_transferred_bytes_total{hybrid_connection="hyco",direction="to_listener"}',
        ),
      ).toBe(size);
    });

    test.each(sizes)('of %i bytes in chunks arrive whole, by rendezvous', async size => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const body = pattern(size);
      const sending = openRequest(relay, '/hyco', {
        method: 'PUT',
        headers: { 'Transfer-Encoding': 'chunked' },
      });
      const answered = answerOf(sending);
      for (let at = 0; at < size; at += 100_000) sending.write(body.subarray(at, at + 100_000));
      sending.end();
      const request = await listener.next();
      expect(request).toMatchObject({ isByRendezvous: true, hasBody: true, method: 'PUT' });
      expect(request.requestHeaders).not.toHaveProperty('Transfer-Encoding');
      expect(sha256(request.body)).toBe(sha256(body));
      listener.answer(request, { status: 201 });
      expect((await answered).status).toBe(201);
    });

    test('of 20 MiB arrive whole, again and again', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: sha256(request.body) }));
      const body = pattern(20 * MIB);
      for (let i = 0; i < 10; i += 1) {
        const answer = await send(relay, '/hyco', { method: 'POST', body });
        expect(answer.body.toString()).toBe(sha256(body));
      }
    });

    test('reach the listener in frames of at most 65,536 bytes, the last one with FIN', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay, { fetches: false });
      const body = pattern(MIB);
      const sent = send(relay, '/hyco', { method: 'POST', body });
      const rendezvous = await open(await listener.pointers.next());
      const { request } = JSON.parse(await rendezvous.nextText());
      const parts: Uint8Array[] = [];
      for (;;) {
        const frame = await rendezvous.nextFrame();
        expect(frame.opcode).toBe(parts.length === 0 ? OPCODES.binary : OPCODES.continuation);
        expect(frame.payload.length).toBeLessThanOrEqual(65_536);
        parts.push(frame.payload);
        if (frame.isFinal) break;
      }
      expect(sha256(Buffer.concat(parts))).toBe(sha256(body));
      rendezvous.send(responseText(request.id, { status: 202 }));
      expect((await sent).status).toBe(202);
    });

    test('that trickle reach the listener chunk by chunk', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay, { fetches: false });
      const sending = openRequest(relay, '/hyco', { method: 'POST' });
      const answered = answerOf(sending);
      sending.write('chunk 0');
      const rendezvous = await open(await listener.pointers.next());
      const { request } = JSON.parse(await rendezvous.nextText());
      for (let i = 0; ; i += 1) {
        const frame = await rendezvous.nextFrame();
        expect(frame.isFinal).toBe(false);
        expect(Buffer.from(frame.payload).toString()).toBe(`chunk ${i}`);
        if (i === 9) break;
        sending.write(`chunk ${i + 1}`);
      }
      sending.end();
      const last = await rendezvous.nextFrame();
      expect(last).toMatchObject({ isFinal: true, opcode: OPCODES.continuation });
      expect(last.payload.length).toBe(0);
      rendezvous.send(responseText(request.id));
      expect((await answered).status).toBe(200);
    });

    test('sent before the listener has dialled wait for it', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay, { fetches: false });
      const body = pattern(5 * MIB);
      const sent = send(relay, '/hyco', { method: 'POST', body });
      const address = await listener.pointers.next();
      // Long enough for the sender to fill whatever takes it.
      await pause(100);
      const rendezvous = await open(address);
      const { request } = JSON.parse(await rendezvous.nextText());
      expect(sha256((await rendezvous.nextMessage()).payload)).toBe(sha256(body));
      rendezvous.send(responseText(request.id));
      expect((await sent).status).toBe(200);
    });

    test('with Expect: 100-continue are asked for at once', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: request.body }));
      const sending = openRequest(relay, '/hyco', {
        method: 'POST',
        headers: { Expect: '100-continue', 'Content-Length': 5 },
      });
      const answered = answerOf(sending);
      sending.flushHeaders();
      await once(sending, 'continue');
      sending.end('hello');
      expect((await answered).body.toString()).toBe('hello');
    });

    test('that break off before their end reach no listener, when they are short', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const socket = await rawSocket(relay);
      socket.write(
        `POST /hyco HTTP/1.1\r\nHost: 127.0.0.1\r\nServiceBusAuthorization: ${relay.token()}\r\nContent-Length: 10\r\n\r\nhalf`,
      );
      await pause(20);
      socket.destroy();
      listener.serve(request => ({ body: request.method }));
      expect((await send(relay, '/hyco')).body.toString()).toBe('GET');
      expect(relay.server.status().senders).toBe(0);
      expect(listener.requests.size).toBe(0);
    });

    test('that end the rendezvous when the sender breaks off in their middle', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay, { fetches: false });
      const sending = openRequest(relay, '/hyco', { method: 'POST' });
      sending.on('error', () => {});
      sending.write('half');
      const rendezvous = await open(await listener.pointers.next());
      await rendezvous.nextText();
      expect(Buffer.from((await rendezvous.nextFrame()).payload).toString()).toBe('half');
      sending.destroy();
      // A Close in the middle of a message, which says that the message is not whole.
      expect(await rendezvous.nextClose()).toEqual({ code: 1001, reason: 'The sender went away' });
    });

    test('are refused with 408 when they stand still', async () => {
      await using relay = await startRelay({ dataPlane, requestTimeoutMs: 100 });
      await using listener = await listen(relay);
      const sending = openRequest(relay, '/hyco', {
        method: 'POST',
        headers: { 'Content-Length': 10 },
      });
      const answered = answerOf(sending);
      sending.write('half');
      const answer = await answered;
      expect(answer.status).toBe(408);
      expect(listener.requests.size).toBe(0);
    });
  });

  describe('response bodies', () => {
    test.each(sizes)('of %i bytes arrive whole, by rendezvous', async size => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const body = pattern(size);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      const closed = closeOf(rendezvous);
      rendezvous.send(responseText(request.id, { body: '' }));
      for (let at = 0; at < size; at += 50_000) {
        rendezvous.send(body.subarray(at, at + 50_000), { binary: true, fin: false });
      }
      rendezvous.send('', { binary: true, fin: true });
      const answer = await sent;
      expect(answer.body.length).toBe(size);
      expect(sha256(answer.body)).toBe(sha256(body));
      expect((await closed).code).toBe(1000);
      expect(
        await relay.metric(
          'halfway_transferred_bytes_total{hybrid_connection="hyco",direction="to_sender"}',
        ),
      ).toBe(size);
    });

    test.each([0, 1, 65_535, 65_536])('of %i bytes arrive whole, inline', async size => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const body = pattern(size);
      listener.serve(() => ({ body }));
      const answer = await send(relay, '/hyco');
      expect(answer.headers['content-length']).toBe(String(size));
      expect(sha256(answer.body)).toBe(sha256(body));
    });

    test('of one byte a fragment arrive whole', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const body = pattern(66_560);
      const sent = send(relay, '/hyco');
      const request = await listener.next();
      const rendezvous = await listener.dial(request.address);
      rendezvous.send(responseText(request.id, { body: '' }));
      for (let at = 0; at < body.length; at += 1) {
        rendezvous.send(body.subarray(at, at + 1), { binary: true, fin: at === body.length - 1 });
      }
      expect(sha256((await sent).body)).toBe(sha256(body));
    });

    test.each([
      ['GET', 204],
      ['GET', 304],
      ['HEAD', 200],
      ['HEAD', 404],
    ])(
      '%s and %i: none, whatever the listener sends, and the connection stays usable',
      async (method, status) => {
        await using relay = await startRelay({ dataPlane });
        await using listener = await listen(relay);
        const { Agent } = await import('node:http');
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        const headers = { 'Content-Length': '1234', ETag: '"x"' };

        for (const way of ['no body', 'stray empty message', 'body', 'rendezvous']) {
          const sent = send(relay, '/hyco', { method, agent });
          const request = await listener.next();
          if (way === 'no body') listener.answer(request, { status, headers });
          else if (way === 'stray empty message') {
            // hyco-https: announces none, and sends an empty one all the same.
            listener.answer(request, { status, headers });
            listener.control.send('', { binary: true });
          } else if (way === 'body') listener.answer(request, { status, headers, body: 'surplus' });
          else {
            const rendezvous = await listener.dial(request.address);
            rendezvous.send(responseText(request.id, { status, headers, body: '' }));
            rendezvous.send('surplus', { binary: true, fin: false });
            rendezvous.send('', { binary: true });
          }
          const answer = await sent;
          expect(answer.status, way).toBe(status);
          expect(answer.headers['etag'], way).toBe('"x"');
          expect(answer.body.length, way).toBe(0);
          expect(answer.headers['content-length'], way).toBe(
            method === 'HEAD' ? '1234' : undefined,
          );
          expect(answer.headers['transfer-encoding'], way).toBeUndefined();
        }
        agent.destroy();
        expect(await relay.metric('halfway_ignored_messages_total{why="stray-body"}')).toBe(0);
      },
    );

    test('get a type where the listener gave none, but only where there is a body', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(({ requestTarget }) => (requestTarget.endsWith('body') ? { body: 'x' } : {}));
      expect((await send(relay, '/hyco/body')).headers['content-type']).toBe(
        'application/octet-stream',
      );
      const empty = await send(relay, '/hyco/none');
      expect(empty.headers).not.toHaveProperty('content-type');
      expect(empty.headers['content-length']).toBe('0');
    });
  });

  test('bodies cross both ways at once', async () => {
    const size = largest;
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay, { fetches: false });
    const up = pattern(size, 1);
    const down = pattern(size, 2);
    const sent = send(relay, '/hyco', { method: 'POST', body: up });
    const received = new Inbox<Buffer>('the request body');
    const rendezvous = await listener.dial(
      await listener.pointers.next(),
      (bytes, isBinary, socket) => {
        if (isBinary) {
          received.put(bytes);
          return;
        }
        // The answer begins before the request has come whole.
        socket.send(responseText(JSON.parse(bytes.toString()).request.id, { body: '' }));
        for (let at = 0; at < size; at += 100_000) {
          socket.send(down.subarray(at, at + 100_000), { binary: true, fin: false });
        }
      },
    );
    expect(sha256(await received.next())).toBe(sha256(up));
    rendezvous.send('', { binary: true, fin: true });
    expect(sha256((await sent).body)).toBe(sha256(down));
  });
});
