// Our library and Microsoft's packages, each as listener and as sender, put before one another over a real relay.
import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { HybridConnectionClient } from '../../src/client/client.ts';
import { send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import {
  hycoHttpsListener,
  hycoWsListener,
  hycoWsSender,
  optionsFor,
  ourHttpListener,
  ourListener,
  ourSender,
  wsSender,
  type ListenerMaker,
  type Sender,
} from './implementations.ts';

const SENDERS: readonly Sender[] = [
  ourSender('websocket'),
  ourSender('poll'),
  hycoWsSender,
  wsSender,
];
const LISTENERS: readonly ListenerMaker[] = [
  ourListener('websocket'),
  ourListener('poll'),
  hycoWsListener,
];
const NUMBERS = Array.from({ length: 50 }, (_, i) => `number ${i}`);
const LARGE_BYTES = 16_777_216;
/** On a busy machine, over long-polling. */
const LARGE_MS = 25_000;

const PAIRS = LISTENERS.flatMap(listener =>
  SENDERS.map(sender => ({
    listener,
    sender,
    names: `${sender.name} with a listener of ${listener.name}`,
  })),
).filter(({ names }) => names.includes('halfway'));

describe.each(PAIRS)('$names', ({ listener: maker, sender: from }) => {
  test('text and binary of many sizes arrive as they were sent, both ways', async () => {
    await using relay = await startRelay();
    await using listener = await maker.listen(relay);
    const sender = await from.connect(relay);
    const other = await listener.next();
    for (const [one, two] of [
      [sender, other],
      [other, sender],
    ] as const) {
      await one.send('grüße, 😀');
      expect(await two.next()).toBe('grüße, 😀');
      await one.send('');
      expect(await two.next()).toBe('');
      for (const size of [0, 1, 125, 126, 65_535, 65_536, 65_537, 200_000]) {
        const data = randomBytes(size);
        await one.send(data);
        expect(data.equals(Buffer.from(await two.next())), `${size} bytes`).toBe(true);
      }
    }
    sender.close(1000, '');
    await within('both closes', Promise.all([sender.closed, other.closed]));
    await until('the pair is forgotten', () => relay.server.status().senders === 0);
  });

  test('a message of 16 MiB arrives whole, in both directions at once', async () => {
    await using relay = await startRelay();
    await using listener = await maker.listen(relay);
    const sender = await from.connect(relay);
    const other = await listener.next();
    const data = randomBytes(LARGE_BYTES);
    const [there, back] = await Promise.all([
      other.next(LARGE_MS),
      sender.next(LARGE_MS),
      sender.send(data),
      other.send(data),
    ]);
    expect([data.equals(Buffer.from(there)), data.equals(Buffer.from(back))]).toEqual([true, true]);
    sender.close(1000, '');
    await sender.closed;
  });

  test.each(['sender', 'listener'] as const)(
    'the %s closes: both see code and reason',
    async who => {
      await using relay = await startRelay();
      await using listener = await maker.listen(relay);
      const sender = await from.connect(relay);
      const other = await listener.next();
      await sender.send('hello');
      expect(await other.next()).toBe('hello');
      (who === 'sender' ? sender : other).close(4001, 'enough');
      for (const close of await within('both', Promise.all([sender.closed, other.closed]))) {
        expect(close).toEqual({ code: 4001, reason: 'enough' });
      }
    },
  );

  test('a side that breaks off shows as an end without a code', async () => {
    await using relay = await startRelay();
    await using listener = await maker.listen(relay);
    const sender = await from.connect(relay);
    const other = await listener.next();
    await sender.send('hello');
    expect(await other.next()).toBe('hello');
    sender.break();
    expect([1001, 1006]).toContain((await within('the end', other.closed)).code);
  });

  test('the first subprotocol is taken, and both know it', async () => {
    await using relay = await startRelay();
    await using listener = await maker.listen(relay);
    const sender = await from.connect(relay, ['chat.v2', 'chat.v1']);
    const other = await listener.next();
    expect([sender.protocol, other.protocol]).toEqual(['chat.v2', 'chat.v2']);
    sender.close(1000, '');
    await sender.closed;
  });

  test('thirty connections at once each have their own conversation', async () => {
    await using relay = await startRelay();
    await using listener = await maker.listen(relay);
    const serve = async (): Promise<void> => {
      const other = await listener.next();
      for (let n = 0; n < 10; n += 1) await other.send(await other.next());
    };
    const talk = async (i: number): Promise<void> => {
      const sender = await from.connect(relay);
      for (let n = 0; n < 10; n += 1) {
        await sender.send(`${i}/${n}`);
        expect(await sender.next()).toBe(`${i}/${n}`);
      }
      sender.close(1000, '');
      await sender.closed;
    };
    const places = Array.from({ length: 30 }, (_, i) => i);
    await Promise.all([...places.map(talk), ...places.map(serve)]);
    await until('all are forgotten', () => relay.server.status().senders === 0);
  });
});

async function* pieces(): AsyncGenerator<Buffer> {
  for (let i = 0; i < 20; i += 1) yield Buffer.alloc(10_000, i);
}

describe.each([ourHttpListener('websocket'), ourHttpListener('poll'), hycoHttpsListener])(
  'HTTP requests to a listener of $name',
  maker => {
    test('our client is answered whatever the status, with bodies of many sizes', async () => {
      await using relay = await startRelay();
      await using _ = await maker.listen(relay);
      const client = new HybridConnectionClient(optionsFor(relay));
      for (const size of [1, 60_000, 65_536, 65_537, 1_000_000]) {
        const body = randomBytes(size);
        const answer = await client.request({ path: 'echo', body });
        const chunks: Buffer[] = [];
        for await (const chunk of answer.body) chunks.push(Buffer.from(chunk));
        expect([answer.status, answer.headers['content-type']]).toEqual([
          200,
          'application/x-echo',
        ]);
        expect(body.equals(Buffer.concat(chunks)), `${size} bytes`).toBe(true);
      }
      for (const code of [201, 204, 304, 400, 401, 404, 500, 503]) {
        const answer = await client.request({ path: `status?code=${code}` });
        expect([answer.status, await text(answer.body)]).toEqual([code, '']);
      }
      const unknown = await client.request({ path: '/nothing' });
      expect([unknown.status, unknown.reason]).toEqual([404, 'No such thing']);
      expect([unknown.headers['x-why'], await text(unknown.body)]).toEqual([
        'unknown',
        'nothing here',
      ]);
    });

    test('method, target, query, headers and a streamed body arrive', async () => {
      await using relay = await startRelay();
      await using _ = await maker.listen(relay);
      const client = new HybridConnectionClient(optionsFor(relay));
      const answer = await client.request({
        method: 'PUT',
        path: '/a b/describe?x=1',
        query: { y: 'ü' },
        headers: { 'X-Own': 'kept' },
        body: pieces(),
      });
      const described: unknown = JSON.parse(await text(answer.body));
      expect(described).toMatchObject({
        method: 'PUT',
        url: expect.stringMatching(/^\/hyco\/a( |%20)b\/describe\?x=1&y=%C3%BC$/),
        headers: { 'x-own': 'kept' },
        bytes: 200_000,
      });
      expect(described).not.toHaveProperty('headers.servicebusauthorization');
    });

    test('a streamed answer comes while it is made; HEAD has none', async () => {
      await using relay = await startRelay();
      await using _ = await maker.listen(relay);
      const client = new HybridConnectionClient(optionsFor(relay));
      const answer = await client.request({ path: 'stream' });
      expect(await text(answer.body)).toBe([0, 1, 2, 3, 4].map(n => `data: ${n}\n\n`).join(''));
      const head = await client.request({ method: 'HEAD', path: 'status?code=200' });
      expect([head.status, await text(head.body)]).toEqual([200, '']);
    });

    test('plain HTTP reaches it', async () => {
      await using relay = await startRelay();
      await using _ = await maker.listen(relay);
      const large = await send(relay, '/hyco/large?size=300000');
      expect([large.status, large.body.length]).toEqual([200, 300_000]);
      const echo = await send(relay, '/hyco/echo', { method: 'POST', body: 'five!' });
      expect([echo.status, echo.body.toString(), echo.headers['x-number']]).toEqual([
        200,
        'five!',
        '7',
      ]);
    });

    test('fifty requests at once are answered each with its own', async () => {
      await using relay = await startRelay();
      await using _ = await maker.listen(relay);
      const client = new HybridConnectionClient(optionsFor(relay));
      const answers = await Promise.all(
        NUMBERS.map(async body => text((await client.request({ path: 'echo', body })).body)),
      );
      expect(answers).toEqual(NUMBERS);
    });
  },
);
