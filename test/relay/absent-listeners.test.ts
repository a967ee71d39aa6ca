import { describe, expect, test } from 'vitest';
import { signToken } from '../../src/auth/sign-token.ts';
import { TokenVerifier } from '../../src/auth/verify-token.ts';
import { HELD_SENDERS_MAX, LISTENER_RETURN_MS } from '../../src/relay/limits.ts';
import type { ControlChannel } from '../../src/relay/control-channel.ts';
import { NamespaceTable } from '../../src/relay/namespaces.ts';
import type {
  Cluster,
  HeldSender,
  HttpSender,
  Pending,
  ReachableListener,
} from '../../src/relay/ports.ts';
import { Relay } from '../../src/relay/relay.ts';
import { configOf } from '../support/config-of.ts';
import { controlChannel } from '../support/control-channels.ts';
import { FakeClock } from '../support/fake-clock.ts';
import {
  CountingRandomness,
  FakeControlSocket,
  fakeEvents,
  fakeRequest,
  pendingOffer,
} from '../support/relay-doubles.ts';
import { NAMESPACE, ROOT_KEY } from '../support/relay.ts';

const WAIT_MS = 250;
/** Other nodes that say yes to every listener. */
const CLUSTER: Cluster = {
  nodeTag: '',
  claim: (_claim, decided) => decided({ opened: () => {}, release: () => {} }),
  answerElsewhere: () => false,
};
const OPEN = { namespace: 'tests', hybridConnection: 'open' };

/** A listener of another node, as far as senders here see it. */
class FarListener implements ReachableListener {
  readonly listenerId: string;
  readonly origin = 'wss://relay.example.com';
  readonly outstanding = 0;
  readonly offers: Pending[] = [];
  /** Whether there is a link to its node. */
  isLinked = true;

  constructor(listenerId = 'far') {
    this.listenerId = listenerId;
  }

  offer(pending: Pending): boolean {
    if (this.isLinked) this.offers.push(pending);
    return this.isLinked;
  }

  settled(): void {}
}

function unused(): never {
  throw new Error('nobody answers here');
}

/** A relay among others, unless told that it is alone. */
function stage({ isAlone = false, listenerWaitMs = WAIT_MS } = {}) {
  const clock = new FakeClock();
  const { events, meter } = fakeEvents(clock);
  const relay = new Relay({
    namespaces: new NamespaceTable([NAMESPACE], 0),
    verifier: new TokenVerifier(),
    clock,
    random: new CountingRandomness(),
    events,
    dataPlane: { join: () => false },
    ...(isAlone ? {} : { cluster: CLUSTER }),
    limits: { ...configOf({}), listenerWaitMs },
    autoCreate: false,
  });
  const entity = relay.find(OPEN);
  if (entity === undefined) throw new Error('the namespace of tests has it');
  /** What a sender that connects is told, in order: `refuse reason text`. */
  const connect = () => {
    const told: string[] = [];
    const sender: HeldSender = {
      complete: () => told.push('complete'),
      refuse: ({ reason, status }) => told.push(`refuse ${status} ${reason}`),
      reject: status => told.push(`reject ${status}`),
    };
    const rendezvous = relay.connect(fakeRequest('/$hc/open?sb-hc-action=connect'), sender);
    return { told, leave: () => rendezvous?.senderGone() };
  };
  /** The same of a request without a body. */
  const request = () => {
    const told: string[] = [];
    const sender: HttpSender = {
      respond: unused,
      start: unused,
      write: unused,
      end: unused,
      abort: unused,
      refuse: ({ reason, status }) => told.push(`refuse ${status} ${reason}`),
    };
    const admitted = relay.http(fakeRequest('/open'), 'GET');
    if ('reason' in admitted) throw new Error(admitted.reason);
    const relayed = admitted.relay(sender, { kind: 'none' });
    return { told, leave: () => relayed.senderGone() };
  };
  /** A listener on this node. */
  const listen = () => {
    const token = signToken({
      audience: 'http://relay.example.com/open/',
      keyName: 'root',
      key: ROOT_KEY,
      expiresAtSec: Math.floor(clock.wallMs() / 1_000) + 3_600,
    });
    const socket = new FakeControlSocket();
    const channels: ControlChannel[] = [];
    relay.listen(
      fakeRequest('/$hc/open?sb-hc-action=listen', {
        headers: [['servicebusauthorization', token]],
      }),
      outcome => {
        if ('reason' in outcome) throw new Error(outcome.text);
        channels.push(outcome.open(socket));
      },
    );
    const [channel] = channels;
    if (channel === undefined) throw new Error('it is decided at once');
    return { channel, socket };
  };
  const held = (outcome: string): number =>
    meter.counts.get(`halfway_held_senders_total{"outcome":"${outcome}"}`) ?? 0;
  return { clock, relay, entity, connect, request, listen, held };
}

describe.each(['connect', 'request'] as const)('a sender without a listener: %s', kind => {
  test('is refused at once by a node that is alone', () => {
    const it = stage({ isAlone: true });
    expect(it[kind]().told).toEqual(['refuse 404 no-listener']);
  });

  test('is refused after a moment by a node among others, with the same words', () => {
    const it = stage();
    const sender = it[kind]();
    it.clock.advance(WAIT_MS - 1);
    expect(sender.told).toEqual([]);
    expect(it.relay.heldSenders).toBe(1);
    it.clock.advance(1);
    expect(sender.told).toEqual(['refuse 404 no-listener']);
    expect([it.relay.heldSenders, it.held('refused'), it.relay.senderCount]).toEqual([0, 1, 0]);
    expect(it.clock.pendingTasks).toBe(0);
  });

  test('is put before a listener that becomes known meanwhile, at once', () => {
    const it = stage();
    const sender = it[kind]();
    const listener = new FarListener();
    it.clock.advance(WAIT_MS / 2);
    it.entity.setElsewhere([listener]);
    expect(listener.offers).toHaveLength(1);
    expect([it.relay.heldSenders, it.held('offered')]).toEqual([0, 1]);
    // From here on it waits as long as if the listener had been there.
    it.clock.advance(29_999);
    expect(sender.told).toEqual([]);
  });

  test('is put before a listener that comes here', () => {
    const it = stage();
    it[kind]();
    const { channel, socket } = controlChannel(it.clock, { hybridConnection: it.entity });
    expect(socket.sent).toHaveLength(1);
    expect(channel.outstanding).toBe(1);
  });

  test('that leaves meanwhile leaves nothing behind', () => {
    const it = stage();
    const sender = it[kind]();
    sender.leave();
    expect([it.relay.heldSenders, it.held('gone'), it.relay.senderCount]).toEqual([0, 1, 0]);
    expect(it.entity.held.size).toBe(0);
    expect(it.clock.pendingTasks).toBe(0);
    const listener = new FarListener();
    it.entity.setElsewhere([listener]);
    expect(listener.offers).toEqual([]);
    expect(sender.told).toEqual([]);
  });

  test.each(['drain', 'rebalancing', 'the end of its node'])(
    'waits longer for a listener that is on its way: %s',
    why => {
      const it = stage();
      if (why === 'the end of its node') it.relay.expectListener(OPEN);
      else {
        const { channel, socket } = it.listen();
        if (why === 'drain') it.relay.moveListeners(0);
        else expect(it.relay.moveListener(channel)).toBe(true);
        it.clock.advance(0);
        expect(socket.closes).toMatchObject([{ code: 1001 }]);
        channel.closed(1001);
      }
      it.clock.advance(500);
      const sender = it[kind]();
      it.clock.advance(LISTENER_RETURN_MS - 501);
      expect(sender.told).toEqual([]);
      it.clock.advance(1);
      expect(sender.told).toEqual(['refuse 404 no-listener']);
    },
  );

  test('waits no longer than usual once the listener has been back, and gone again', () => {
    const it = stage();
    it.relay.expectListener(OPEN);
    it.entity.setElsewhere([new FarListener()]);
    it.entity.setElsewhere([]);
    const sender = it[kind]();
    it.clock.advance(WAIT_MS);
    expect(sender.told).toEqual(['refuse 404 no-listener']);
  });

  test('waits longer when it becomes known meanwhile that a listener is on its way', () => {
    const it = stage();
    const sender = it[kind]();
    it.clock.advance(WAIT_MS / 2);
    it.relay.expectListener(OPEN);
    it.clock.advance(LISTENER_RETURN_MS - 1);
    expect(sender.told).toEqual([]);
    it.clock.advance(1);
    expect(sender.told).toEqual(['refuse 404 no-listener']);
    expect(it.clock.pendingTasks).toBe(0);
  });

  test('waits longer for another one when the only one cannot be reached', () => {
    const it = stage();
    const gone = new FarListener('gone');
    gone.isLinked = false;
    it.entity.setElsewhere([gone]);
    it[kind]();
    it.clock.advance(LISTENER_RETURN_MS - 1);
    const back = new FarListener('back');
    it.entity.setElsewhere([gone, back]);
    expect(back.offers).toHaveLength(1);
  });

  test('waits for another one when the only one turned out to be going', () => {
    const it = stage();
    const going = new FarListener('going');
    it.entity.setElsewhere([going]);
    const sender = it[kind]();
    going.offers[0]?.notTaken?.();
    expect(sender.told).toEqual([]);
    it.clock.advance(LISTENER_RETURN_MS - 1);
    const back = new FarListener('back');
    it.entity.setElsewhere([back]);
    expect(back.offers).toHaveLength(1);
    expect(sender.told).toEqual([]);
  });

  test('is refused when all that are left had no room for it', () => {
    const it = stage();
    const crowded = new FarListener('crowded');
    it.entity.setElsewhere([crowded]);
    const sender = it[kind]();
    crowded.offers[0]?.notTaken?.();
    it.clock.advance(LISTENER_RETURN_MS);
    expect(sender.told).toEqual(['refuse 503 overloaded']);
    expect(crowded.offers).toHaveLength(1);
  });

  test('does not wait where a listener is here and crowded', () => {
    const it = stage();
    controlChannel(it.clock, { hybridConnection: it.entity }).socket.hasRoom = false;
    expect(it[kind]().told).toEqual(['refuse 503 overloaded']);
  });

  test('does not wait where that is switched off', () => {
    const it = stage({ listenerWaitMs: 0 });
    expect(it[kind]().told).toEqual(['refuse 404 no-listener']);
  });

  test('is refused at once when the hybrid connection is deleted', () => {
    const it = stage();
    const sender = it[kind]();
    it.entity.delete();
    expect(sender.told).toEqual(['refuse 404 endpoint-unknown']);
    expect(it.relay.heldSenders).toBe(0);
  });

  test(`is refused at once when ${HELD_SENDERS_MAX} wait already`, () => {
    const it = stage();
    for (let i = 0; i < HELD_SENDERS_MAX; i += 1) it[kind]();
    expect(it.relay.heldSenders).toBe(HELD_SENDERS_MAX);
    expect(it[kind]().told).toEqual(['refuse 404 no-listener']);
    it.clock.advance(WAIT_MS);
    expect(it.relay.heldSenders).toBe(0);
  });
});

describe('moveListener()', () => {
  test('closes an idle listener with 1001 and words that ask it to come again', () => {
    const it = stage();
    const { channel, socket } = it.listen();
    expect(it.relay.moveListener(channel)).toBe(true);
    expect(socket.closes).toEqual([
      { code: 1001, reason: 'Another node has more room; connect again' },
    ]);
  });

  test('leaves the only listener alone while it has something to do', () => {
    const it = stage();
    const { channel, socket } = it.listen();
    const work = pendingOffer();
    channel.offer(work, 'x');
    expect(it.relay.moveListener(channel)).toBe(false);
    expect(channel.isLeaving).toBe(false);
    channel.settled(work);
    expect(it.relay.moveListener(channel)).toBe(true);
    expect(socket.closes).toHaveLength(1);
  });

  test('lets one of several finish its work first, while others take what comes', () => {
    const it = stage();
    const { channel, socket } = it.listen();
    const other = it.listen();
    const work = pendingOffer();
    channel.offer(work, 'x');
    expect(it.relay.moveListener(channel)).toBe(true);
    expect(it.entity.reachable).toEqual([other.channel]);
    expect(socket.closes).toEqual([]);
    it.connect();
    expect(other.channel.outstanding).toBe(1);
    channel.settled(work);
    expect(socket.closes).toMatchObject([{ code: 1001 }]);
  });

  test('never asks the last of several while another is on its way', () => {
    const it = stage();
    const first = it.listen();
    const second = it.listen();
    const work = pendingOffer();
    first.channel.offer(work, 'x');
    it.relay.moveListener(first.channel);
    expect(it.relay.moveListener(second.channel)).toBe(false);
    first.channel.settled(work);
    first.channel.closed(1001);
    expect(it.relay.moveListener(second.channel)).toBe(false);
    it.entity.setElsewhere([new FarListener('back')]);
    expect(it.relay.moveListener(second.channel)).toBe(true);
  });
});
