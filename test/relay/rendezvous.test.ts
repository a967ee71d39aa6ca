import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import { LISTENER_LOSS_GRACE_MS } from '../../src/relay/limits.ts';
import {
  advance,
  Rendezvous,
  type RendezvousActions,
  type RendezvousEvent,
  type RendezvousPhase,
} from '../../src/relay/rendezvous.ts';
import type { ControlChannel } from '../../src/relay/control-channel.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { CountingRandomness, FakeChannel } from '../support/relay-doubles.ts';
import { controlChannel } from '../support/control-channels.ts';

const PHASES: RendezvousPhase[] = ['waiting', 'joining', 'joined', 'closed'];
const EVENTS: RendezvousEvent[] = [
  'dialled',
  'sender-opened',
  'rejected',
  'refused',
  'timed-out',
  'sender-gone',
  'listener-gone',
];
const outstanding = (channels: readonly ControlChannel[]): number[] =>
  channels.map(channel => channel.outstanding);
const history = fc.array(fc.constantFrom(...EVENTS), { maxLength: 20 });

describe('advance()', () => {
  test('joins at most once, and only after the listener dialled', () => {
    fc.assert(
      fc.property(history, events => {
        let phase: RendezvousPhase = 'waiting';
        let joins = 0;
        for (const [i, event] of events.entries()) {
          const next = advance(phase, event);
          if (next === 'joined' && phase !== 'joined') {
            joins += 1;
            expect(events.slice(0, i)).toContain('dialled');
          }
          phase = next;
        }
        expect(joins).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('leaves joined and closed as they are, whatever comes', () => {
    for (const phase of ['joined', 'closed'] as const) {
      for (const event of EVENTS) expect(advance(phase, event)).toBe(phase);
    }
  });

  test('never goes back, unless the listener was lost on its way', () => {
    const others = EVENTS.filter(event => event !== 'listener-gone');
    expect(advance('joining', 'listener-gone')).toBe('waiting');
    fc.assert(
      fc.property(fc.constantFrom(...PHASES), fc.constantFrom(...others), (phase, event) => {
        expect(PHASES.indexOf(advance(phase, event))).toBeGreaterThanOrEqual(PHASES.indexOf(phase));
      }),
    );
  });

  test.each(['rejected', 'refused', 'timed-out'] as const)(
    'ignores %s once the listener has dialled',
    event => {
      expect(advance('waiting', event)).toBe('closed');
      expect(advance('joining', event)).toBe('joining');
    },
  );

  test('needs the listener before the sender', () => {
    expect(advance('waiting', 'sender-opened')).toBe('waiting');
    expect(advance('joining', 'sender-opened')).toBe('joined');
  });
});

describe('Rendezvous', () => {
  const ACCEPT_TIMEOUT_MS = 30_000;

  /** A rendezvous that may be offered to so many listeners; `calls` is what it did, in order. */
  function rendezvous(listenerCount: number) {
    const clock = new FakeClock();
    const random = new CountingRandomness();
    const listeners = Array.from({ length: listenerCount }, () => controlChannel(clock));
    const calls: string[] = [];
    const sender = new FakeChannel();
    const opened: ((channel: FakeChannel) => void)[] = [];
    const ids: string[] = [];
    const actions: RendezvousActions = {
      offer(fate, tried) {
        const at = listeners.findIndex(({ channel }) => !tried.has(channel));
        const listener = listeners[at];
        const id = formatRendezvousId(random.uuid(), random.secretHex());
        const pending = { id, ...fate };
        if (listener === undefined || !listener.channel.offer(pending, 'accept')) return undefined;
        ids.push(id);
        calls.push(`offer ${at}`);
        return { pending, listener: listener.channel };
      },
      hold: () => undefined,
      withdraw: id => calls.push(`withdraw ${ids.indexOf(id)}`),
      refuseSender: reason => calls.push(`refuse ${reason}`),
      rejectSender: (status, description) => calls.push(`reject ${status} ${description}`),
      completeSender: (protocol, whenOpen) => {
        calls.push(`complete ${protocol ?? '-'}`);
        opened.push(whenOpen);
      },
      join: () => calls.push('join'),
      ended: phase => calls.push(`ended ${phase}`),
    };
    const subject = new Rendezvous(clock, ACCEPT_TIMEOUT_MS, actions);
    const channels = listeners.map(({ channel }) => channel);
    return {
      clock,
      subject,
      calls,
      channels,
      openSender: () => opened[0]?.(sender),
      sender,
    };
  }
  test('joins: offer, dial, both handshakes; and leaves no timer and no offer behind', () => {
    const { clock, subject, calls, channels, openSender } = rendezvous(1);
    subject.start(() => 'no-listener');
    expect(outstanding(channels)).toEqual([1]);
    expect(subject.dialled()).toBe(true);
    subject.listenerOpened(new FakeChannel(), 'chat');
    openSender();
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'complete chat', 'ended joined', 'join']);
    expect(outstanding(channels)).toEqual([0]);
    clock.advance(10 * ACCEPT_TIMEOUT_MS);
    subject.senderGone();
    subject.rejected(403, 'late');
    expect(calls).toHaveLength(5);
    channels.forEach(channel => channel.closed(1000));
    expect(clock.pendingTasks).toBe(0);
  });

  test('can be dialled once', () => {
    const { subject } = rendezvous(1);
    subject.start(() => 'no-listener');
    expect([subject.dialled(), subject.dialled()]).toEqual([true, false]);
  });

  test('refuses at once when nobody can be asked, for the reason it is given', () => {
    const { subject, calls, clock } = rendezvous(0);
    subject.start(() => 'no-allowed-listener');
    expect(calls).toEqual(['ended closed', 'refuse no-allowed-listener']);
    expect(subject.dialled()).toBe(false);
    expect(clock.pendingTasks).toBe(0);
  });

  test('gives the only listener the whole wait, then refuses', () => {
    const { clock, subject, calls } = rendezvous(1);
    subject.start(() => 'no-listener');
    clock.advance(ACCEPT_TIMEOUT_MS - 1);
    expect(calls).toEqual(['offer 0']);
    clock.advance(1);
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'ended closed', 'refuse listener-silent']);
    expect(subject.dialled()).toBe(false);
  });

  test('asks the next listener after a third of the wait, and the first address is void', () => {
    const { clock, subject, calls, channels } = rendezvous(2);
    subject.start(() => 'no-listener');
    clock.advance(ACCEPT_TIMEOUT_MS / 3);
    expect(calls).toEqual(['offer 0', 'offer 1', 'withdraw 0']);
    expect(outstanding(channels)).toEqual([0, 1]);
    clock.advance(ACCEPT_TIMEOUT_MS / 3);
    expect(calls).toHaveLength(3);
    clock.advance(ACCEPT_TIMEOUT_MS / 3);
    expect(calls.slice(3)).toEqual(['withdraw 1', 'ended closed', 'refuse listener-silent']);
    expect(outstanding(channels)).toEqual([0, 0]);
  });

  test('asks the next listener at once when the first is lost', () => {
    const { subject, calls, channels } = rendezvous(2);
    subject.start(() => 'no-listener');
    channels[0]?.closed(1006);
    expect(calls).toEqual(['offer 0', 'offer 1', 'withdraw 0']);
    expect(subject.dialled()).toBe(true);
  });

  test('lets a listener dial although its control channel is lost, for a while', () => {
    const dialling = rendezvous(1);
    dialling.subject.start(() => 'no-listener');
    dialling.channels[0]?.closed(1006);
    dialling.clock.advance(LISTENER_LOSS_GRACE_MS - 1);
    expect(dialling.subject.dialled()).toBe(true);

    const silent = rendezvous(1);
    silent.subject.start(() => 'no-listener');
    silent.channels[0]?.closed(1006);
    silent.clock.advance(LISTENER_LOSS_GRACE_MS);
    expect(silent.calls).toEqual(['offer 0', 'withdraw 0', 'ended closed', 'refuse listener-lost']);
  });

  test('asks a listener that was lost on its way once more, and then the next', () => {
    const { clock, subject, calls, channels } = rendezvous(2);
    subject.start(() => 'no-listener');
    subject.dialled();
    subject.listenerGone();
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'offer 0']);
    subject.dialled();
    subject.listenerGone();
    expect(calls.slice(3)).toEqual(['withdraw 1', 'offer 1']);
    subject.dialled();
    subject.listenerGone();
    subject.dialled();
    subject.listenerGone();
    expect(calls.slice(-2)).toEqual(['ended closed', 'refuse listener-lost']);
    expect(outstanding(channels)).toEqual([0, 0]);
    channels.forEach(channel => channel.closed(1000));
    expect(clock.pendingTasks).toBe(0);
  });

  test('does not wait longer for one that was lost on its way', () => {
    const { clock, subject, calls } = rendezvous(1);
    subject.start(() => 'no-listener');
    subject.dialled();
    clock.advance(ACCEPT_TIMEOUT_MS);
    expect(calls).toEqual(['offer 0', 'withdraw 0']);
    subject.listenerGone();
    expect(calls.slice(2)).toEqual(['ended closed', 'refuse listener-silent']);
  });

  test('hands a rejection on, once', () => {
    const { subject, calls } = rendezvous(1);
    subject.start(() => 'no-listener');
    subject.rejected(403, 'no such room');
    subject.rejected(500, 'again');
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'ended closed', 'reject 403 no such room']);
  });

  test('ends quietly when the sender leaves while it waits', () => {
    const { clock, subject, calls } = rendezvous(2);
    subject.start(() => 'no-listener');
    subject.senderGone();
    clock.advance(10 * ACCEPT_TIMEOUT_MS);
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'ended closed']);
  });

  test('closes the listener with 1001 when the sender leaves between the two handshakes', () => {
    const { subject, calls, openSender, sender } = rendezvous(1);
    const listener = new FakeChannel();
    subject.start(() => 'no-listener');
    subject.dialled();
    subject.listenerOpened(listener, undefined);
    subject.senderGone();
    expect(listener.calls).toEqual(['close 1001 The sender went away']);
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'complete -', 'ended closed']);
    openSender();
    expect(sender.calls).toEqual(['destroy']);
    expect(calls).not.toContain('join');
  });

  test('closes a listener whose sender left before its handshake was finished', () => {
    const { subject, calls } = rendezvous(1);
    const listener = new FakeChannel();
    subject.start(() => 'no-listener');
    subject.dialled();
    subject.senderGone();
    subject.listenerOpened(listener, undefined);
    expect(listener.calls).toEqual(['close 1001 The sender went away']);
    expect(calls).toEqual(['offer 0', 'withdraw 0', 'ended closed']);
  });

  test('ends exactly once, whatever happens in whatever order', () => {
    const steps = fc.constantFrom(
      'dial',
      'open listener',
      'open sender',
      'reject',
      'leave',
      'lose listener',
      'wait',
    );
    fc.assert(
      fc.property(
        fc.array(steps, { maxLength: 12 }),
        fc.integer({ min: 0, max: 3 }),
        (all, count) => {
          const { clock, subject, calls, channels, openSender } = rendezvous(count);
          subject.start(() => 'no-listener');
          let hasDialled = false;
          let hasOpened = false;
          for (const step of all) {
            if (step === 'dial') hasDialled = subject.dialled() || hasDialled;
            if (step === 'open listener' && hasDialled && !hasOpened) {
              hasOpened = true;
              subject.listenerOpened(new FakeChannel(), undefined);
            }
            if (step === 'open sender' && hasOpened) openSender();
            if (step === 'reject') subject.rejected(400, 'no');
            if (step === 'leave') subject.senderGone();
            if (step === 'lose listener') channels[0]?.closed(1006);
            if (step === 'wait') clock.advance(ACCEPT_TIMEOUT_MS / 4);
          }
          subject.senderGone();
          expect(calls.filter(call => call.startsWith('ended'))).toHaveLength(1);
          expect(calls.filter(call => call === 'join').length).toBeLessThanOrEqual(1);
          // Every address that was handed out has been taken back.
          const offers = calls.filter(call => call.startsWith('offer')).length;
          expect(calls.filter(call => call.startsWith('withdraw'))).toHaveLength(offers);
          expect(outstanding(channels)).toEqual(channels.map(() => 0));
        },
      ),
    );
  });
});
