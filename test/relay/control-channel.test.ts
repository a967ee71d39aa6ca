import { describe, expect, test, vi } from 'vitest';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import { RelayedRequest } from '../../src/relay/relayed-request.ts';
import type { HttpSender, Refused, ResponseHead } from '../../src/relay/ports.ts';
import { FakeClock } from '../support/fake-clock.ts';
import {
  controlChannel,
  TOKEN_GRACE_MS,
  type ControlChannelUnderTest,
} from '../support/control-channels.ts';
import { CountingRandomness, pendingOffer } from '../support/relay-doubles.ts';

const HOUR_MS = 3_600_000;

/** An HTTP request that waits for an answer on this control channel, and what its sender gets. */
function pendingRequest(clock: FakeClock, under: ControlChannelUnderTest, method = 'GET') {
  const answers: { status: number; body: string }[] = [];
  const refusals: string[] = [];
  const http: HttpSender = {
    respond: (head: ResponseHead, body: Uint8Array) =>
      answers.push({ status: head.status, body: Buffer.from(body).toString() }),
    start: () => {},
    write: () => true,
    end: () => {},
    abort: () => {},
    refuse: (refused: Refused) => refusals.push(refused.reason),
  };
  const random = new CountingRandomness();
  const id = formatRendezvousId(random.uuid(), random.secretHex());
  const request = new RelayedRequest(clock, http, {
    id,
    method,
    viaHost: 'relay.example.com',
    limits: {
      acceptTimeoutMs: 30_000,
      requestTimeoutMs: 60_000,
      responseIdleTimeoutMs: 60_000,
      controlMessageBytesMax: 65_536,
    },
    traffic: new Float64Array(4),
    onDone: () => under.hybridConnection.requests.delete(id),
    refusal: reason => ({ reason, status: 502, text: reason }),
  });
  under.hybridConnection.requests.set(id, request);
  request.offerInline(under.channel, '{"request":…}', undefined);
  const response = (body: boolean): string =>
    JSON.stringify({ response: { requestId: id, statusCode: 200, body } });
  return { id, answers, refusals, response };
}

const ignored = ({ meter }: ControlChannelUnderTest, why: string): number =>
  meter.counts.get(`halfway_ignored_messages_total${JSON.stringify({ why })}`) ?? 0;

describe('a response', () => {
  test('without a body is an answer at once', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const request = pendingRequest(clock, under);
    expect(under.channel.outstanding).toBe(1);
    under.channel.text(request.response(false));
    expect(request.answers).toEqual([{ status: 200, body: '' }]);
    expect(under.channel.outstanding).toBe(0);
  });

  test('with a body waits for the next binary message', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const request = pendingRequest(clock, under);
    under.channel.text(request.response(true));
    expect(request.answers).toEqual([]);
    under.channel.binary(Buffer.from('body'));
    expect(request.answers).toEqual([{ status: 200, body: 'body' }]);
    // The next one belongs to nothing.
    under.channel.binary(Buffer.from('more'));
    expect(ignored(under, 'stray-body')).toBe(1);
  });

  test('whose body does not follow is broken, and the message that came instead counts', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const first = pendingRequest(clock, under);
    under.channel.text(first.response(true));
    under.channel.text(JSON.stringify({ renewToken: { token: 't' } }));
    expect(first.refusals).toEqual(['response-invalid']);
    expect(under.renewals).toEqual(['t']);
    under.channel.binary(Buffer.from('too late'));
    expect(first.answers).toEqual([]);
    expect(ignored(under, 'stray-body')).toBe(1);
  });

  test('nobody asked for is ignored together with its body', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const request = pendingRequest(clock, under);
    const stranger = JSON.stringify({ response: { requestId: 'x', statusCode: 200, body: true } });
    under.channel.text(stranger);
    under.channel.binary(Buffer.from('for nobody'));
    expect(ignored(under, 'unknown-request')).toBe(1);
    under.channel.text(request.response(true));
    under.channel.binary(Buffer.from('mine'));
    expect(request.answers).toEqual([{ status: 200, body: 'mine' }]);
  });

  test('that comes twice is answered once', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const request = pendingRequest(clock, under);
    under.channel.text(request.response(false));
    under.channel.text(request.response(false));
    expect(request.answers).toHaveLength(1);
    expect(ignored(under, 'unknown-request')).toBe(1);
  });

  test('may come on the channel that replaced the one it was asked on', () => {
    const clock = new FakeClock();
    const old = controlChannel(clock);
    const request = pendingRequest(clock, old);
    old.channel.closed(1006);
    const next = controlChannel(clock, { hybridConnection: old.hybridConnection });
    next.channel.text(request.response(false));
    expect(request.answers).toEqual([{ status: 200, body: '' }]);
  });
});

describe('what means nothing', () => {
  test.each([
    ['what is no JSON', 'hello'],
    ['no object', '[1]'],
    ['an unknown command', '{"injectFault":{"delay":"00:01:00"}}'],
    ['a response without an id', '{"response":{"statusCode":200}}'],
    ['a renewal without a token', '{"renewToken":{}}'],
  ])('%s is counted and ignored', (_what, text) => {
    const under = controlChannel(new FakeClock());
    under.channel.text(text);
    expect(ignored(under, 'unreadable')).toBe(1);
    expect(under.socket.closes).toEqual([]);
    expect(under.renewals).toEqual([]);
  });

  test('an empty binary message is ignored without a word: hyco-https sends them', () => {
    const under = controlChannel(new FakeClock());
    under.channel.binary(new Uint8Array(0));
    expect(under.meter.counts.size).toBe(0);
  });
});

describe('a token', () => {
  test('is outlived by its channel for the grace, and then ends it with 1008', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    clock.advance(HOUR_MS + TOKEN_GRACE_MS - 1);
    expect(under.socket.closes).toEqual([]);
    clock.advance(1);
    expect(under.socket.closes).toEqual([
      { code: 1008, reason: expect.stringMatching(/^ExpiredToken: /) },
    ]);
    under.channel.closed(1008);
    expect(under.ends).toEqual(['token-expired']);
  });

  test('that is renewed counts from its new expiry', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock, {
      renew: () => ({ expiresAtMs: clock.wallMs() + 2 * HOUR_MS }),
    });
    clock.advance(HOUR_MS);
    under.channel.text(JSON.stringify({ renewToken: { token: 'new' } }));
    clock.advance(2 * HOUR_MS + TOKEN_GRACE_MS - 1);
    expect(under.socket.closes).toEqual([]);
    clock.advance(1);
    expect(under.socket.closes).toHaveLength(1);
  });

  test('may live for years', () => {
    const clock = new FakeClock();
    const yearMs = 365 * 24 * HOUR_MS;
    const under = controlChannel(clock, { expiresAtMs: clock.wallMs() + 3 * yearMs });
    clock.advance(3 * yearMs + TOKEN_GRACE_MS - 1);
    expect(under.socket.closes).toEqual([]);
    clock.advance(1);
    expect(under.socket.closes).toHaveLength(1);
  });

  test('that is refused ends the channel with 1008 and the reason, cut to what fits', () => {
    const refused = `InvalidSignature: ${'long '.repeat(40)}TrackingId:1c048eb5-77c4-4b85-96fd-fa526801af35, Rest`;
    const under = controlChannel(new FakeClock(), { renew: () => ({ refused }) });
    under.channel.text(JSON.stringify({ renewToken: { token: 'package.Class@1b2c3d' } }));
    expect(under.socket.closes).toHaveLength(1);
    const [close] = under.socket.closes;
    expect(close?.code).toBe(1008);
    expect(close?.reason).toMatch(/^InvalidSignature: .* TrackingId:1c048eb5/);
    expect(Buffer.byteLength(close?.reason ?? '')).toBeLessThanOrEqual(123);
    under.channel.closed(1008);
    expect(under.ends).toEqual(['renewal-refused']);
  });
});

describe('the end', () => {
  test.each([
    [1000, 'closed-by-listener'],
    [1005, 'closed-by-listener'],
    [1006, 'lost'],
  ] as const)('by %i is told once, as %s, and to whoever waits', (code, reason) => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const listenerLost = vi.fn<() => void>();
    under.channel.offer(pendingOffer(listenerLost), 'accept');
    under.channel.closed(code);
    under.channel.closed(code);
    expect(under.ends).toEqual([reason]);
    expect(listenerLost).toHaveBeenCalledTimes(1);
    expect(under.channel.outstanding).toBe(0);
    expect(clock.pendingTasks).toBe(0);
  });

  test('of our own keeps its reason and its first Close', () => {
    const under = controlChannel(new FakeClock());
    under.channel.tooBig();
    under.channel.end('draining', 1001, 'shutting down');
    expect(under.socket.closes).toEqual([
      { code: 1009, reason: 'Control channel message is too big' },
    ]);
    under.channel.closed(1006);
    expect(under.ends).toEqual(['message-too-big']);
  });

  test('is final: nothing is offered, read or answered afterwards', () => {
    const clock = new FakeClock();
    const under = controlChannel(clock);
    const request = pendingRequest(clock, under);
    under.channel.end('draining', 1001, 'shutting down');
    expect(under.channel.offer(pendingOffer(), 'accept')).toBe(false);
    under.channel.closed(1001);
    under.channel.text(request.response(false));
    under.channel.binary(Buffer.from('x'));
    expect(request.answers).toEqual([]);
    expect(under.socket.sent.filter(({ text }) => text === 'accept')).toEqual([]);
  });
});

test('an offer that finds no room is not taken, and does not make the listener busier', () => {
  const under = controlChannel(new FakeClock());
  under.socket.hasRoom = false;
  expect(under.channel.offer(pendingOffer(), 'accept')).toBe(false);
  expect(under.channel.outstanding).toBe(0);
});
