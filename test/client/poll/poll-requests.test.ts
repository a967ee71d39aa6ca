// What a session's requests look like, and what is made of answers that are not good ones; the relay is a script.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { dialPoll } from '../../../src/client/poll/dial-poll.ts';
import type { DialOptions } from '../../../src/client/frame-channel.ts';
import { Routes } from '../../../src/client/routes.ts';
import { TransportMemory } from '../../../src/client/transport-memory.ts';
import {
  encodePollBatch,
  parsePollBatch,
  POLL_FRAME_COST_BYTES,
  type PollBatch,
} from '../../../src/protocol/poll-frames.ts';
import {
  formatPollTerms,
  parsePollQuery,
  type PollTerms,
} from '../../../src/protocol/poll-session.ts';
import { ChannelEnd } from '../../support/channel-end.ts';
import { quickClock } from '../../support/quick-clock.ts';
import { until } from '../../support/within.ts';

const TERMS: PollTerms = {
  session: 'the-session',
  protocol: 'chosen',
  holdMs: 25_000,
  // Long enough also for a busy machine: it passes as fast as the waits do.
  expiryMs: 600_000,
  credit: 1_000_000,
  batchBytesMax: 1_048_576,
};
/** So much faster pass the waits of the client; its shortest limit, 10 s, is still one that a busy machine keeps. */
const TIMES = 10;
/** Where much time has to pass, and no answer of the script is waited for. */
const MANY_TIMES = 100;

describe('opening a session', () => {
  test('posts to the very URL, with the parameter added and the headers of a handshake', async () => {
    await using relay = await startScript();
    const end = await relay.open('/$hc/a%2Fb?x=%zz&y=a+b&sb-hc-action=connect', {
      headers: { ServiceBusAuthorization: 'token' },
      protocols: ['chosen', 'other'],
    });
    expect(end.channel.protocol).toBe('chosen');
    expect(end.channel.transport).toBe('poll');
    const [opening] = relay.asked;
    expect(opening?.line).toBe(
      'POST /$hc/a%2Fb?x=%zz&y=a+b&sb-hc-action=connect&sb-hc-transport=poll',
    );
    expect(opening?.headers).toMatchObject({
      'content-length': '0',
      servicebusauthorization: 'token',
      'sec-websocket-protocol': 'chosen, other',
    });
    const poll = await relay.poll();
    expect(poll.path).toBe('/$poll/the-session');
    expect(poll.query).toMatchObject({ turn: 1, ack: 0, credit: 1_048_576, waitMs: 25_000 });
  });

  test.each<[string, (answer: ServerResponse) => void, object]>([
    [
      'a page of something else',
      answer => void answer.writeHead(201, { 'content-type': 'text/html' }).end('<html>'),
      { code: 'ProtocolError' },
    ],
    [
      'terms with which nothing can be sent',
      answer =>
        void answer.writeHead(201).end(formatPollTerms({ ...TERMS, batchBytesMax: 65_000 })),
      { code: 'ProtocolError' },
    ],
    [
      'a place that is none',
      answer =>
        void answer.writeHead(201, { location: 'ftp://relay.test/' }).end(formatPollTerms(TERMS)),
      { code: 'ProtocolError' },
    ],
    [
      'the refusal of the relay',
      answer => void answer.writeHead(401, 'ExpiredToken. TrackingId:5ef6, x').end('{}'),
      { code: 'Unauthorized', status: 401, trackingId: '5ef6' },
    ],
    [
      'the rejection of a listener',
      answer => void answer.writeHead(403, 'Not today').end(),
      { code: 'Rejected', status: 403, reason: 'Not today' },
    ],
  ])('fails with %s', async (_what, answer, error) => {
    await using relay = await startScript({ opening: answer });
    await expect(relay.open('/$hc/hyco?sb-hc-action=connect')).rejects.toMatchObject(error);
  });

  test('is given up when its caller wants no more', async () => {
    await using relay = await startScript({ opening: () => undefined });
    const caller = new AbortController();
    const opening = relay.open('/$hc/hyco', { signal: caller.signal });
    await until('the request', () => relay.asked.length === 1);
    caller.abort();
    await expect(opening).rejects.toMatchObject({ code: 'Aborted' });
  });
});

describe('polling', () => {
  test('acknowledges what came, and asks again for what was cut off', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    (await relay.poll()).batch({ seq: 1, frames: texts('a', 'b') });
    const second = await relay.poll();
    const credit = 1_048_576 + 2 * (POLL_FRAME_COST_BYTES + 1);
    expect(second.query).toMatchObject({ turn: 2, ack: 2, credit });
    const whole = encodePollBatch({ seq: 3, ack: 0, credit: 0, frames: texts('c', 'd') });
    second.answer(200, whole.subarray(0, -1));
    const third = await relay.poll();
    expect(third.query).toMatchObject({ turn: 3, ack: 2 });
    // What was repeated is read once.
    third.batch({ seq: 2, frames: texts('b', 'c', 'd') });
    await end.event('1 fin d');
    expect(end.events).toEqual(['1 fin a', '1 fin b', '1 fin c', '1 fin d']);
  });

  test('lets polls be held less when they are cut, and remembers it', async () => {
    await using relay = await startScript();
    await relay.open();
    const first = await relay.poll();
    setTimeout(() => first.cut(), 16_000 / TIMES);
    const { waitMs = 0 } = (await relay.poll()).query;
    expect(waitMs).toBeGreaterThanOrEqual(12_000);
    expect(waitMs).toBeLessThan(18_750);
    await relay.open();
    await until('another session', () => relay.asked.some(({ line }) => line.includes('turn=1&')));
    const another = await relay.poll();
    expect([another.query.turn, another.query.waitMs]).toEqual([1, waitMs]);
  });

  test('one that was superseded is followed by one that is not held', async () => {
    await using relay = await startScript();
    await relay.open();
    (await relay.poll()).refuse(409, 'session-superseded');
    const second = await relay.poll();
    expect(second.query).toMatchObject({ turn: 2, waitMs: 0 });
    second.batch({ seq: 1, frames: [] });
    expect((await relay.poll()).query).toMatchObject({ turn: 3, waitMs: 25_000 });
  });

  test('answers without news that come at once do not lead to a storm', async () => {
    await using relay = await startScript({
      times: 1,
      poll: poll => poll.batch({ seq: 1, frames: [] }),
    });
    await relay.open();
    await new Promise(resolve => void setTimeout(resolve, 500));
    expect(relay.asked.length).toBeLessThan(10);
  });

  test('answers that come at once are followed at once while they bring credit', async () => {
    let credit = TERMS.credit;
    await using relay = await startScript({
      times: 1,
      poll: poll => poll.batch({ seq: 1, frames: [], credit: (credit += 1) }),
    });
    await relay.open();
    // With waits between them this would take minutes.
    await until('a hundred polls', () => relay.asked.length > 100);
  });

  test.each<[string, (poll: Asked) => void, string]>([
    ['the session is over', poll => poll.refuse(410, 'session-gone'), 'gone 1006'],
    ['the session is unknown', poll => poll.refuse(404, 'session-unknown'), 'gone 1006'],
    ['the question is refused', poll => poll.refuse(400, 'ack-unknown'), 'gone 1002'],
    ['frames are missing', poll => poll.batch({ seq: 5, frames: texts('e') }), 'gone 1002'],
    [
      'what was never sent is acknowledged',
      poll => poll.batch({ seq: 1, ack: 1, frames: [] }),
      'gone 1002',
    ],
  ])('ends when %s', async (_what, answer, gone) => {
    await using relay = await startScript({ poll: answer });
    const end = await relay.open();
    expect(await end.event('gone')).toBe(gone);
  });

  test.each([404, 410, 400, 409, 429, 500, 502, 503, 504])(
    'takes %i for nothing when it is not of the relay',
    async status => {
      await using relay = await startScript();
      const end = await relay.open();
      (await relay.poll()).answer(status, Buffer.from('<html>'));
      (await relay.poll()).batch({ seq: 1, frames: texts('still here') });
      await end.event('1 fin still here');
    },
  );

  test('ends when the relay was not heard for as long as sessions live', async () => {
    const expiryMs = 60_000;
    await using relay = await startScript({
      times: MANY_TIMES,
      terms: { expiryMs },
      poll: poll => poll.answer(502, Buffer.from('')),
    });
    const end = await relay.open();
    const startedAtMs = performance.now();
    expect(await end.event('gone')).toBe('gone 1006');
    const tookMs = (performance.now() - startedAtMs) * MANY_TIMES;
    expect(tookMs).toBeGreaterThan(expiryMs - 5_000);
  });
});

describe('posting', () => {
  test('sends what was sent at once together, and one post at a time', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    for (let number = 0; number < 100; number += 1) end.sendText(`${number}`);
    const first = await relay.post();
    expect(first.frames).toHaveLength(100);
    for (let number = 100; number < 200; number += 1) {
      end.sendText(`${number}`);
      await new Promise(resolve => void setImmediate(resolve));
    }
    expect(relay.waitingPosts).toBe(0);
    first.progress(100);
    const second = await relay.post();
    expect([second.seq, second.frames.length]).toEqual([101, 100]);
  });

  test('repeats the same frames when no answer came, with those that were added', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    end.sendText('a');
    (await relay.post()).cut();
    end.sendText('b');
    const second = await relay.post();
    expect([second.seq, second.texts]).toEqual([1, ['a', 'b']]);
    second.answer(200, Buffer.from('<html>'));
    const third = await relay.post();
    expect([third.seq, third.texts]).toEqual([1, ['a', 'b']]);
    third.progress(1);
    const fourth = await relay.post();
    expect([fourth.seq, fourth.texts]).toEqual([2, ['b']]);
  });

  test('sends no more than there is credit for, and goes on when there is more', async () => {
    const costOf5 = POLL_FRAME_COST_BYTES + 5;
    await using relay = await startScript({ terms: { credit: 2 * costOf5 } });
    const end = await relay.open();
    for (const text of ['aaaaa', 'bbbbb', 'ccccc']) end.sendText(text);
    const first = await relay.post();
    expect(first.texts).toEqual(['aaaaa', 'bbbbb']);
    first.progress(2, 2 * costOf5);
    (await relay.poll()).batch({ seq: 1, ack: 2, credit: 3 * costOf5, frames: [] });
    expect((await relay.post()).texts).toEqual(['ccccc']);
  });

  test('posts less where long bodies do not arrive, and more again where they do', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    for (let part = 0; part < 15; part += 1) {
      end.channel.send(2, true, new Uint8Array(60_000));
    }
    const sizes: number[] = [];
    for (let number = 0; ; number += 1) {
      const post = await relay.post();
      sizes.push(post.frames.length);
      if (number === 0) post.answer(413, Buffer.from('<html>'));
      else if (number === 1) post.refuse(413, 'batch-too-large');
      else if (number === 2) post.cut();
      else {
        post.progress(post.seq + post.frames.length - 1);
        if (post.seq + post.frames.length - 1 === 15) break;
      }
    }
    expect(sizes).toEqual([15, 8, 4, 2, 4, 8, 1]);
  });

  test('gives up where even the shortest posts are too large, but not for two such answers', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    end.channel.send(2, true, new Uint8Array(60_000));
    // Four times it is cut by half, down to the least; by the way it is lost for other reasons.
    for (let number = 0; number < 4; number += 1) (await relay.post()).cut();
    for (let number = 0; number < 2; number += 1)
      (await relay.post()).answer(413, Buffer.from('<html>'));
    (await relay.post()).progress(1);
    end.channel.send(2, true, new Uint8Array(60_000));
    for (let number = 0; number < 4; number += 1)
      (await relay.post()).answer(413, Buffer.from('<html>'));
    await end.event('gone');
    expect(end.events.at(-1)).toBe('gone 1009');
  });

  test('tells of room when much was read, also when there is nothing to send', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    end.channel.pause();
    (await relay.poll()).batch({
      seq: 1,
      frames: Array.from({ length: 5 }, () => ({
        opcode: 2 as const,
        isFinal: true,
        payload: new Uint8Array(65_000),
      })),
    });
    expect((await relay.poll()).query).toMatchObject({ ack: 5, credit: 1_048_576 });
    expect(relay.waitingPosts).toBe(0);
    end.channel.resume();
    const post = await relay.post();
    const readCost = 5 * (POLL_FRAME_COST_BYTES + 65_000);
    expect([post.frames.length, post.credit]).toEqual([0, 1_048_576 + readCost]);
  });

  test('asks to stop when a mebibyte is not acknowledged, and says when half of it is', async () => {
    await using relay = await startScript({ terms: { credit: 3_000_000 } });
    const end = await relay.open();
    let sent = 0;
    const payload = new Uint8Array(1_048_576 / 16 - POLL_FRAME_COST_BYTES);
    while (end.channel.send(2, true, payload)) sent += 1;
    expect(sent).toBe(15);
    const first = await relay.post();
    first.progress(7);
    await relay.post().then(post => post.progress(8));
    await end.event('drained');
    expect(end.events).toEqual(['drained']);
  });
});

describe('ending', () => {
  test('with a Close in each direction deletes the session', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    end.sendText('last');
    end.channel.close(4001, 'enough');
    end.sendText('too late');
    const post = await relay.post();
    expect(post.texts).toEqual(['last', '\x0f\xa1enough']);
    post.progress(2);
    const close = { opcode: 8 as const, isFinal: true, payload: Buffer.from('\x03\xe8', 'latin1') };
    (await relay.poll()).batch({ seq: 1, ack: 2, frames: [...texts('yours'), close] });
    expect(await end.event('gone')).toBe('gone 1000');
    expect(end.events).toEqual(['1 fin yours', 'closed 1000', 'gone 1000']);
    await until('DELETE', () => relay.lines.includes('DELETE /$poll/the-session'));
  });

  test('what came whole before the session was over is read to its end', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    end.channel.pause();
    const close = { opcode: 8 as const, isFinal: true, payload: new Uint8Array(0) };
    (await relay.poll()).batch({ seq: 1, frames: [...texts('a', 'b'), close] });
    (await relay.poll()).refuse(410, 'session-gone');
    await new Promise(resolve => void setTimeout(resolve, 50));
    expect(end.events).toEqual([]);
    end.channel.resume();
    expect(await end.event('gone')).toBe('gone 1005');
    expect(end.events).toEqual(['1 fin a', '1 fin b', 'closed 1005', 'gone 1005']);
  });

  test('destroy() deletes the session, lets go of its poll, and says so once', async () => {
    await using relay = await startScript();
    const end = await relay.open();
    await relay.poll();
    end.channel.destroy();
    end.channel.destroy();
    expect(end.events).toEqual([]);
    expect(await end.event('gone')).toBe('gone 1006');
    await until('DELETE', () => relay.lines.includes('DELETE /$poll/the-session'));
    await until('no request', () => relay.openRequests === 0);
    expect(end.events).toEqual(['gone 1006']);
  });
});

function texts(...all: readonly string[]): PollBatch['frames'] {
  return all.map(text => ({ opcode: 1, isFinal: true, payload: Buffer.from(text) }));
}

/** One request to the session. */
class Asked {
  readonly path: string;
  readonly #rawQuery: string;
  readonly #body: Buffer;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, body: Buffer, response: ServerResponse) {
    const [path = '', rawQuery = ''] = (request.url ?? '').split('?');
    this.path = path;
    this.#rawQuery = rawQuery;
    this.#body = body;
    this.#response = response;
  }

  get query(): Exclude<ReturnType<typeof parsePollQuery>, string> {
    const query = parsePollQuery(this.#rawQuery);
    if (typeof query === 'string') throw new Error(query);
    return query;
  }

  get #batch(): PollBatch {
    const batch = parsePollBatch(this.#body);
    if (typeof batch === 'string') throw new Error(batch);
    return batch;
  }

  get seq(): number {
    return this.#batch.seq;
  }

  get credit(): number {
    return this.#batch.credit;
  }

  get frames(): PollBatch['frames'] {
    return this.#batch.frames;
  }

  get texts(): readonly string[] {
    return this.frames.map(frame => Buffer.from(frame.payload).toString('latin1'));
  }

  batch({
    ack = 0,
    credit = 0,
    ...batch
  }: Partial<PollBatch> & Pick<PollBatch, 'seq' | 'frames'>): void {
    this.answer(200, encodePollBatch({ ack, credit, ...batch }));
  }

  progress(ack: number, credit = 3_000_000): void {
    this.answer(200, Buffer.from(JSON.stringify({ ack, credit })));
  }

  refuse(status: number, reason: string): void {
    this.answer(status, Buffer.from(JSON.stringify({ error: { code: 5, message: 'm' }, reason })));
  }

  answer(status: number, body: Uint8Array): void {
    this.#response.writeHead(status).end(body);
  }

  cut(): void {
    this.#response.socket?.destroy();
  }
}

interface Script extends AsyncDisposable {
  /** Every request, as it came. */
  readonly asked: readonly {
    readonly line: string;
    readonly headers: IncomingMessage['headers'];
  }[];
  readonly lines: readonly string[];
  readonly waitingPosts: number;
  readonly openRequests: number;
  open(target?: string, options?: Partial<DialOptions>): Promise<ChannelEnd>;
  /** The next poll, or post, that has not been given out. */
  poll(): Promise<Asked>;
  post(): Promise<Asked>;
}

async function startScript(
  script: {
    readonly times?: number;
    readonly terms?: Partial<PollTerms>;
    readonly opening?: (answer: ServerResponse) => void;
    readonly poll?: (poll: Asked) => void;
  } = {},
): Promise<Script> {
  const asked: { line: string; headers: IncomingMessage['headers'] }[] = [];
  const waiting: { readonly GET: Asked[]; readonly POST: Asked[] } = { GET: [], POST: [] };
  let openRequests = 0;
  const terms = formatPollTerms({ ...TERMS, ...script.terms });
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    asked.push({ line: `${method} ${url}`, headers });
    openRequests += 1;
    response.once('close', () => {
      openRequests -= 1;
    });
    void buffer(request).then(body => {
      if (url.includes('sb-hc-transport')) {
        if (script.opening !== undefined) script.opening(response);
        else response.writeHead(201, { location: '/$poll/the-session' }).end(terms);
        return;
      }
      const one = new Asked(request, body, response);
      if (method === 'DELETE') response.writeHead(204).end();
      else if (method === 'GET' && script.poll !== undefined) script.poll(one);
      else waiting[method === 'GET' ? 'GET' : 'POST'].push(one);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const clock = quickClock(script.times ?? TIMES);
  const memory = new TransportMemory(clock);
  const dial = dialPoll({ clock, routes: new Routes({ proxy: false }), memory, chance: () => 0 });
  const next = async (kind: 'GET' | 'POST'): Promise<Asked> => {
    await until(`a ${kind}`, () => waiting[kind].length > 0);
    const one = waiting[kind].shift();
    if (one === undefined) throw new Error('none');
    return one;
  };
  return {
    asked,
    get lines() {
      return asked.map(({ line }) => line);
    },
    get waitingPosts() {
      return waiting.POST.length;
    },
    get openRequests() {
      return openRequests;
    },
    open: async (target = '/$hc/hyco?sb-hc-action=listen', options = {}) =>
      new ChannelEnd(
        await dial(`ws://127.0.0.1:${address.port}${target}`, { clock: systemClock, ...options }),
      ),
    poll: () => next('GET'),
    post: () => next('POST'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}
