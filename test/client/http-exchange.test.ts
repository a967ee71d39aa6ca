import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { HybridConnectionClient, type RelayedRequest } from '../../src/client/client.ts';
import { portOf } from '../cli/port-of.ts';
import { Inbox } from '../support/inbox.ts';
import { startRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import { openListener, optionsFor } from './implementations.ts';

const PIECE = Buffer.alloc(65_536, 'x');
/** 128 MiB: far more than all kernels on the way hold. */
const PIECES = 2_048;

/** Yields pieces and tells how many were asked for. */
async function* counted(count: { pieces: number }, most = PIECES): AsyncGenerator<Buffer> {
  for (; count.pieces < most; count.pieces += 1) yield PIECE;
}

async function* broken(pieces: number): AsyncGenerator<Buffer> {
  for (let i = 0; i < pieces; i += 1) yield PIECE;
  throw new Error('the disk is gone');
}

/** Resolves when the number does not change any more. */
async function untilStill(what: string, count: () => number): Promise<void> {
  let before = -1;
  await until(
    what,
    async () => {
      const isSame = count() === before && before > 0;
      before = count();
      await new Promise(resolve => void setTimeout(resolve, 150));
      return isSame && count() === before;
    },
    20_000,
  );
}

describe('a request', () => {
  test('whose body the listener does not read is held up, and arrives whole when it does', async () => {
    await using relay = await startRelay({ requestTimeoutMs: 60_000 });
    const requests = new Inbox<RelayedRequest>('a request');
    let go: (() => void) | undefined;
    await using _ = await openListener(optionsFor(relay), {
      onRequest: async request => {
        requests.put(request);
        await new Promise<void>(resolve => (go = resolve));
        let size = 0;
        for await (const chunk of request.body) size += Buffer.from(chunk).length;
        return { status: 200, body: String(size) };
      },
    });
    const count = { pieces: 0 };
    const client = new HybridConnectionClient(optionsFor(relay));
    const answering = client.request({ body: counted(count) });
    await requests.next();
    await untilStill('the sender stands still', () => count.pieces);
    expect(count.pieces).toBeLessThan(PIECES / 2);
    go?.();
    expect(await text((await answering).body)).toBe(String(PIECES * PIECE.length));
  });

  test('whose answer nobody reads holds up the listener, and arrives whole when it is read', async () => {
    await using relay = await startRelay();
    const count = { pieces: 0 };
    await using _ = await openListener(optionsFor(relay), {
      onRequest: () => ({ status: 200, body: counted(count) }),
    });
    const client = new HybridConnectionClient(optionsFor(relay));
    const answer = await client.request();
    await untilStill('the listener stands still', () => count.pieces);
    expect(count.pieces).toBeLessThan(PIECES / 2);
    let size = 0;
    for await (const chunk of answer.body) size += Buffer.from(chunk).length;
    expect(size).toBe(PIECES * PIECE.length);
  });

  test('that is aborted while its answer is read ends at both sides', async () => {
    await using relay = await startRelay();
    const requests = new Inbox<RelayedRequest>('a request');
    const count = { pieces: 0 };
    await using _ = await openListener(optionsFor(relay), {
      onRequest: request => {
        requests.put(request);
        return { status: 200, body: counted(count, Infinity) };
      },
    });
    const aborter = new AbortController();
    const client = new HybridConnectionClient(optionsFor(relay));
    const answer = await client.request({ signal: aborter.signal });
    const { signal } = await requests.next();
    const gone = once(signal, 'abort');
    const failed = once(answer.body, 'error');
    answer.body.resume();
    aborter.abort();
    expect((await failed)[0]).toMatchObject({ code: 'Aborted' });
    await within('the listener knows', gone);
    await untilStill('the source is asked no more', () => count.pieces);
  });

  test('whose answer breaks off in the middle ends in an error, and the listener reports why', async () => {
    await using relay = await startRelay();
    await using listener = await openListener(optionsFor(relay), {
      onRequest: () => ({ status: 200, body: broken(3) }),
    });
    const failures = new Inbox<unknown>('a failure');
    listener.on('error', why => failures.put(why));
    const answer = await new HybridConnectionClient(optionsFor(relay)).request();
    await expect(text(answer.body)).rejects.toThrow();
    expect(String(await failures.next())).toMatch('the disk is gone');
  });

  test('whose handler fails is answered 500; one without a handler 501', async () => {
    await using relay = await startRelay();
    const client = new HybridConnectionClient(optionsFor(relay));
    {
      await using _ = await openListener(optionsFor(relay), {
        onRequest: () => Promise.reject(new Error('a bug')),
      });
      expect(await client.request()).toMatchObject({ status: 500 });
    }
    await using _ = await openListener(optionsFor(relay));
    expect((await client.request({ body: 'x' })).status).toBe(501);
  });

  test('whose own source fails rejects with what the source threw', async () => {
    await using relay = await startRelay();
    await using _ = await openListener(optionsFor(relay), {
      onRequest: async request => ({ status: 200, body: await text(request.body) }),
    });
    const client = new HybridConnectionClient(optionsFor(relay));
    await expect(client.request({ body: broken(1) })).rejects.toThrow('the disk is gone');
  });

  test('may be answered before its body was read', async () => {
    await using relay = await startRelay();
    await using _ = await openListener(optionsFor(relay), {
      onRequest: () => ({ status: 413, body: 'too much' }),
    });
    const client = new HybridConnectionClient(optionsFor(relay));
    const answer = await client.request({ body: counted({ pieces: 0 }) });
    expect([answer.status, await text(answer.body)]).toEqual([413, 'too much']);
  });
});

describe('kept connections', () => {
  test('are used for what can be repeated, and lost ones cost nobody a request', async () => {
    const sockets: Socket[] = [];
    const answered: string[] = [];
    const server = createServer((request, response) => {
      answered.push(`${request.method} ${sockets.indexOf(request.socket)}`);
      response.writeHead(200, { Via: `1.1 ${request.headers.host}` }).end('yes');
    });
    server.on('connection', socket => sockets.push(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = new HybridConnectionClient({
      endpoint: `http://127.0.0.1:${portOf(server)}`,
      path: 'hyco',
    });
    const ask = async (method: string): Promise<string> =>
      text((await client.request({ method })).body);
    await ask('GET');
    await ask('GET');
    await ask('POST');
    // As a server does whose patience ends just when it is asked again.
    server.removeAllListeners('request');
    let isFirst = true;
    server.on('request', (request, response) => {
      if (isFirst) {
        isFirst = false;
        request.socket.destroy();
        return;
      }
      answered.push(`${request.method} ${sockets.indexOf(request.socket)}`);
      response.writeHead(200, { Via: `1.1 ${request.headers.host}` }).end('yes');
    });
    expect(await ask('PUT')).toBe('yes');
    expect(answered).toEqual(['GET 0', 'GET 0', 'POST 1', 'PUT 2']);
    server.closeAllConnections();
    server.close();
  });
});

test('a sender that hangs up while its request is answered is known to the listener', async () => {
  await using relay = await startRelay();
  const requests = new Inbox<RelayedRequest>('a request');
  await using _ = await openListener(optionsFor(relay), {
    onRequest: async request => {
      requests.put(request);
      await once(request.signal, 'abort');
      return { status: 200 };
    },
  });
  const sender = connect(relay.port, '127.0.0.1');
  const token = `ServiceBusAuthorization: ${relay.token()}`;
  sender.write(
    `POST /hyco HTTP/1.1\r\nHost: 127.0.0.1\r\n${token}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
  );
  const request = await requests.next();
  const gone = once(request.signal, 'abort');
  sender.destroy();
  await within('the listener knows', gone);
  await expect(text(request.body)).rejects.toMatchObject({ code: 'ConnectionLost' });
});
