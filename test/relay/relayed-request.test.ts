import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import type { RefusalReason } from '../../src/protocol/refusals.ts';
import { ControlChannel } from '../../src/relay/control-channel.ts';
import { OPCODE, type HttpSender, type Refused, type ResponseHead } from '../../src/relay/ports.ts';
import { RelayedRequest } from '../../src/relay/relayed-request.ts';
import { hybridConnection } from '../support/control-channels.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { FakeChannel, FakeControlSocket, fakeEvents } from '../support/relay-doubles.ts';

const ID = formatRendezvousId('5d1d5b55-0c2f-4c0f-9a0e-3d8a6f1f7e21', '0'.repeat(32));
/** Writes down what the sender gets: `respond 200 text`, `start 200`, `write text`, `end`, `abort`, `refuse reason`. */
class FakeHttpSender implements HttpSender {
  readonly calls: string[] = [];
  takesMore = true;
  drained: () => void = () => {};

  respond({ status }: ResponseHead, body: Uint8Array): void {
    this.calls.push(`respond ${status} ${Buffer.from(body).toString()}`.trim());
  }
  start({ status }: ResponseHead, drained: () => void): void {
    this.calls.push(`start ${status}`);
    this.drained = drained;
  }
  write(chunk: Uint8Array): boolean {
    this.calls.push(`write ${Buffer.from(chunk).toString()}`);
    return this.takesMore;
  }
  end(): void {
    this.calls.push('end');
  }
  abort(): void {
    this.calls.push('abort');
  }
  refuse(refused: Refused): void {
    this.calls.push(`refuse ${refused.reason}`);
  }
}

/** A body whose chunks the test hands out. */
class FakeBody {
  readonly calls: string[] = [];
  #sink: (chunk: Uint8Array, isLast: boolean) => void = () => {};
  read(sink: (chunk: Uint8Array, isLast: boolean) => void): void {
    this.#sink = sink;
  }
  pause(): void {
    this.calls.push('pause');
  }
  resume(): void {
    this.calls.push('resume');
  }
  give(text: string, isLast = false): void {
    this.#sink(Buffer.from(text), isLast);
  }
}

interface Stage {
  readonly clock: FakeClock;
  readonly http: FakeHttpSender;
  readonly control: ControlChannel;
  readonly socket: FakeControlSocket;
  readonly relayed: RelayedRequest;
  readonly channel: FakeChannel;
  readonly done: (number | undefined)[];
  readonly traffic: Float64Array;
}

function stage(method = 'GET'): Stage {
  const clock = new FakeClock();
  const http = new FakeHttpSender();
  const socket = new FakeControlSocket();
  const done: (number | undefined)[] = [];
  const traffic = new Float64Array(4);
  const entity = hybridConnection();
  const control = new ControlChannel(
    { hybridConnection: entity, listenerId: 'x', origin: 'ws://h' },
    socket,
    clock.wallMs() + 3_600_000,
    {
      clock,
      events: fakeEvents(clock).events,
      tokenGraceMs: 0,
      renew: () => ({ refused: 'no' }),
      answerElsewhere: () => false,
      onEnd: () => {},
    },
  );
  const relayed = new RelayedRequest(clock, http, {
    id: ID,
    method,
    viaHost: 'relay.example.com',
    limits: {
      acceptTimeoutMs: 30_000,
      requestTimeoutMs: 60_000,
      responseIdleTimeoutMs: 60_000,
      controlMessageBytesMax: 1_000,
    },
    traffic,
    onDone: status => {
      done.push(status);
      entity.requests.delete(ID);
    },
    refusal: (reason: RefusalReason, detail = '') => ({ reason, status: 500, text: detail }),
  });
  entity.requests.set(ID, relayed);
  return { clock, http, control, socket, relayed, channel: new FakeChannel(), done, traffic };
}

function head(fields: Record<string, unknown> = {}): string {
  return JSON.stringify({ response: { requestId: ID, statusCode: 200, body: true, ...fields } });
}

/** The listener says something on its rendezvous. */
function say(
  { channel }: Stage,
  payload: string,
  options: { opcode?: 0 | 1 | 2; fin?: boolean } = {},
): void {
  channel.receiver?.fragment(
    options.opcode ?? OPCODE.text,
    options.fin ?? true,
    Buffer.from(payload),
  );
}

describe('RelayedRequest, offered inline', () => {
  test('is answered by what its listener says on the control channel', () => {
    const { http, control, relayed, done, traffic, socket } = stage('POST');
    expect(relayed.offerInline(control, '{"request":{}}', Buffer.from('ping'))).toBe(true);
    expect(socket.sent).toEqual([{ text: '{"request":{}}', body: Buffer.from('ping') }]);
    expect(control.outstanding).toBe(1);
    control.text(head());
    control.binary(Buffer.from('pong!'));
    expect(http.calls).toEqual(['respond 200 pong!']);
    expect(done).toEqual([200]);
    expect(control.outstanding).toBe(0);
    expect([...traffic]).toEqual([4, 5, 0, 0]);
  });

  test('tells a crowded control channel from one that took it', () => {
    const { control, relayed, socket } = stage();
    socket.hasRoom = false;
    expect(relayed.offerInline(control, '{}', undefined)).toBe(false);
    expect(control.outstanding).toBe(0);
  });

  test('takes the first answer only', () => {
    const { http, control, relayed, done } = stage();
    relayed.offerInline(control, '{}', undefined);
    control.text(head({ body: false, statusCode: 201 }));
    control.text(head({ body: false, statusCode: 500 }));
    expect(http.calls).toEqual(['respond 201']);
    expect(done).toEqual([201]);
  });

  test('is refused when the answer is late, and leaves no timer', () => {
    const { clock, http, control, relayed } = stage();
    const idle = clock.pendingTasks;
    relayed.offerInline(control, '{}', undefined);
    clock.advance(59_999);
    expect(http.calls).toEqual([]);
    clock.advance(1);
    expect(http.calls).toEqual(['refuse response-late']);
    expect(clock.pendingTasks).toBe(idle);
  });

  test('outlives its control channel by 5 s, and takes an answer from another', () => {
    const lost = stage();
    lost.relayed.offerInline(lost.control, '{}', undefined);
    lost.control.closed(1006);
    lost.clock.advance(4_999);
    expect(lost.http.calls).toEqual([]);
    lost.clock.advance(1);
    expect(lost.http.calls).toEqual(['refuse listener-lost']);
  });

  test('is nobody’s any more once the sender is gone', () => {
    const { clock, http, control, relayed, done } = stage();
    relayed.offerInline(control, '{}', undefined);
    relayed.senderGone();
    relayed.senderGone();
    control.text(head({ body: false }));
    clock.advance(120_000);
    expect(http.calls).toEqual([]);
    expect(done).toEqual([undefined]);
  });

  test.each([100, 199, 600, 0])('refuses status %i', statusCode => {
    const { http, control, relayed, done } = stage();
    relayed.offerInline(control, '{}', undefined);
    control.text(head({ body: false, statusCode }));
    expect(http.calls).toEqual(['refuse response-invalid']);
    expect(done).toEqual([undefined]);
  });
});

describe('RelayedRequest, dialled', () => {
  test('streams the answer fragment by fragment and closes with 1000', () => {
    const it = stage();
    it.relayed.offerInline(it.control, '{}', undefined);
    expect(it.relayed.canBeDialled).toBe(true);
    it.relayed.dialled(it.channel);
    expect(it.relayed.canBeDialled).toBe(false);
    say(it, head().slice(0, 20), { fin: false });
    say(it, head().slice(20), { opcode: OPCODE.continuation });
    say(it, 'a', { opcode: OPCODE.binary, fin: false });
    say(it, 'b', { opcode: OPCODE.continuation, fin: false });
    say(it, '', { opcode: OPCODE.continuation });
    expect(it.http.calls).toEqual(['start 200', 'write a', 'write b', 'end']);
    expect(it.channel.calls).toEqual(['resume', 'close 1000 Normal Closure', 'resume']);
    expect(it.done).toEqual([200]);
  });

  test('holds its listener back while the sender reads slowly', () => {
    const it = stage();
    it.relayed.offerInline(it.control, '{}', undefined);
    it.relayed.dialled(it.channel);
    say(it, head());
    it.http.takesMore = false;
    say(it, 'a', { opcode: OPCODE.binary, fin: false });
    expect(it.channel.calls).toEqual(['resume', 'pause']);
    it.http.drained();
    expect(it.channel.calls).toEqual(['resume', 'pause', 'resume']);
  });

  test('takes a clean Close in the middle of a body for its end, and nothing else', () => {
    for (const [code, last] of [
      [1000, 'end'],
      [1005, 'end'],
      [1001, 'abort'],
      [1011, 'abort'],
      [1006, 'abort'],
    ] as const) {
      const it = stage();
      it.relayed.offerInline(it.control, '{}', undefined);
      it.relayed.dialled(it.channel);
      say(it, head());
      say(it, 'a', { opcode: OPCODE.binary, fin: false });
      it.channel.end(code);
      expect(it.http.calls, String(code)).toEqual(['start 200', 'write a', last]);
    }
  });

  test('breaks an answer that falls silent', () => {
    const it = stage();
    it.relayed.offerInline(it.control, '{}', undefined);
    it.relayed.dialled(it.channel);
    say(it, head());
    for (let i = 0; i < 3; i += 1) {
      it.clock.advance(59_999);
      say(it, String(i), { opcode: i === 0 ? OPCODE.binary : OPCODE.continuation, fin: false });
    }
    it.clock.advance(60_000);
    expect(it.http.calls.at(-1)).toBe('abort');
    expect(it.channel.calls).toContain('close 1011 The request failed');
  });

  test('tells a violation by 1002, even where a Close ends the channel at once', () => {
    for (const endsOnClose of [false, true]) {
      const it = stage();
      it.channel.endsOnClose = endsOnClose;
      it.relayed.offerInline(it.control, '{}', undefined);
      it.relayed.dialled(it.channel);
      say(it, 'x', { opcode: OPCODE.binary });
      expect(it.http.calls).toEqual(['refuse response-invalid']);
      expect(it.channel.calls).toContain("close 1002 'response' command was expected.");
    }
  });

  test('refuses a head over the limit before it has come whole', () => {
    const it = stage();
    it.relayed.offerInline(it.control, '{}', undefined);
    it.relayed.dialled(it.channel);
    say(it, 'x'.repeat(1_001), { fin: false });
    expect(it.http.calls).toEqual(['refuse response-invalid']);
  });

  test('sends a channel away that comes too late', () => {
    const it = stage();
    it.relayed.offerInline(it.control, '{}', undefined);
    it.control.text(head({ body: false }));
    it.relayed.dialled(it.channel);
    expect(it.channel.calls).toEqual(['close 1001 The request is over']);
  });

  test('gives no body to HEAD, and waits for the listener to end it', () => {
    const it = stage('HEAD');
    it.relayed.offerInline(it.control, '{}', undefined);
    it.relayed.dialled(it.channel);
    say(it, head());
    say(it, 'surplus', { opcode: OPCODE.binary, fin: false });
    expect(it.http.calls).toEqual([]);
    say(it, '', { opcode: OPCODE.continuation });
    expect(it.http.calls).toEqual(['respond 200']);
  });
});

describe('RelayedRequest, offered by address', () => {
  test('gives the request to whoever dials, body as it comes', () => {
    const it = stage('POST');
    const body = new FakeBody();
    expect(it.relayed.offerAddress(it.control, '{"pointer":1}', '{"request":1}', body)).toBe(true);
    expect(it.socket.sent).toEqual([{ text: '{"pointer":1}', body: undefined }]);
    it.relayed.dialled(it.channel);
    body.give('a');
    body.give('');
    body.give('b', true);
    expect(it.channel.calls).toEqual([
      'resume',
      'send 1 fin {"request":1}',
      'send 2 more a',
      'send 0 fin b',
    ]);
    expect(it.traffic[0]).toBe(2);
  });

  test('holds the sender back while the listener reads slowly', () => {
    const it = stage('POST');
    const body = new FakeBody();
    it.relayed.offerAddress(it.control, '{}', '{}', body);
    it.relayed.dialled(it.channel);
    it.channel.takesMore = false;
    body.give('a');
    expect(body.calls).toEqual(['resume', 'pause']);
    it.channel.receiver?.drained();
    it.channel.receiver?.drained();
    expect(body.calls).toEqual(['resume', 'pause', 'resume']);
  });

  test('is refused when nobody dials, and the address leads nowhere then', () => {
    const it = stage('POST');
    it.relayed.offerAddress(it.control, '{}', '{}', new FakeBody());
    it.clock.advance(30_000);
    expect(it.http.calls).toEqual(['refuse listener-silent']);
    expect(it.relayed.canBeDialled).toBe(false);
  });

  test.each([
    ['the sender’s body stands still', 'due', 'refuse body-stalled'],
    ['the listener reads nothing', 'held', 'refuse response-late'],
    ['the listener thinks', 'sent', 'refuse response-late'],
  ] as const)('says whose fault it is when %s', (_, phase, expected) => {
    const it = stage('POST');
    const body = new FakeBody();
    it.relayed.offerAddress(it.control, '{}', '{}', body);
    it.relayed.dialled(it.channel);
    it.channel.takesMore = phase !== 'held';
    body.give('a', phase === 'sent');
    it.clock.advance(60_000);
    expect(it.http.calls).toEqual([expected]);
  });

  test('goes on sending the body after an early head', () => {
    const it = stage('POST');
    const body = new FakeBody();
    it.relayed.offerAddress(it.control, '{}', '{}', body);
    it.relayed.dialled(it.channel);
    body.give('a');
    say(it, head());
    body.give('b', true);
    say(it, 'answer', { opcode: OPCODE.binary });
    expect(it.channel.calls.filter(call => call.startsWith('send'))).toEqual([
      'send 1 fin {}',
      'send 2 more a',
      'send 0 fin b',
    ]);
    expect(it.http.calls).toEqual(['start 200', 'write answer', 'end']);
  });
});

test('a relayed request is settled exactly once, whatever happens in whatever order', () => {
  const steps: Record<string, (it: Stage, body: FakeBody) => void> = {
    dial: it => it.relayed.dialled(it.channel),
    head: it => say(it, head()),
    bodyless: it => say(it, head({ body: false })),
    part: it => say(it, 'x', { opcode: OPCODE.binary, fin: false }),
    last: it => say(it, '', { opcode: OPCODE.continuation }),
    garbage: it => say(it, 'x'),
    close: it => it.channel.end(1000),
    break: it => it.channel.end(1006),
    inline: it => {
      it.control.text(head());
      it.control.binary(Buffer.from('y'));
    },
    lost: it => it.control.closed(1006),
    hangUp: it => it.relayed.senderGone(),
    upload: (_, body) => body.give('u'),
    wait: it => it.clock.advance(31_000),
  };
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      fc.array(fc.constantFrom(...Object.keys(steps)), { maxLength: 12 }),
      (isInline, endsOnClose, history) => {
        const it = stage('POST');
        const body = new FakeBody();
        it.channel.endsOnClose = endsOnClose;
        if (isInline) it.relayed.offerInline(it.control, '{}', undefined);
        else it.relayed.offerAddress(it.control, '{}', '{}', body);
        for (const name of history) steps[name]?.(it, body);
        it.clock.advance(1_000_000);
        expect(it.done).toHaveLength(1);
        const ends = it.http.calls.filter(call => /^(?:respond|end|abort|refuse)/.test(call));
        expect(ends.length).toBeLessThanOrEqual(1);
        if (ends.length === 0) expect(history).toContain('hangUp');
        // Nothing is written after the end.
        const end = ends[0];
        if (end !== undefined) expect(it.http.calls.at(-1)).toBe(end);
        expect(it.http.calls.filter(call => call.startsWith('start')).length).toBeLessThanOrEqual(
          1,
        );
        expect(it.clock.pendingTasks).toBeLessThanOrEqual(1);
      },
    ),
    { numRuns: 2_000 },
  );
});
