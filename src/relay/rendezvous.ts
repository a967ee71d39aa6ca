import { unreachable } from '../base/assert.ts';
import type { CancelTimer, Clock } from '../base/clock.ts';
import type { RendezvousId } from '../protocol/ids.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import { LISTENER_LOSS_GRACE_MS, LISTENER_RETURN_MS } from './limits.ts';
import type { Channel, Pending, ReachableListener } from './ports.ts';

/**
 * One sender's wait for its listener.
 *
 *     waiting ── dialled ──▶ joining ── sender opened ──▶ joined
 *     waiting ── rejected, refused, timed out or sender gone ──▶ closed
 *     joining ── sender gone ──▶ closed
 *     joining ── listener gone ──▶ waiting, and the next listener is asked
 *
 * `joined` and `closed` are final. The wait is bounded, so that a dead listener cannot hold a
 * sender's socket. `joining` lasts from the listener's 101 to the sender's, one turn of the loop.
 */
export type RendezvousPhase = 'waiting' | 'joining' | 'joined' | 'closed';

export type RendezvousEvent =
  | 'dialled'
  | 'sender-opened'
  | 'rejected'
  | 'refused'
  | 'timed-out'
  | 'sender-gone'
  | 'listener-gone';

/** Pure: decides the next phase; an event that lost its race changes nothing. */
export function advance(phase: RendezvousPhase, event: RendezvousEvent): RendezvousPhase {
  if (phase === 'closed' || phase === 'joined') return phase;
  switch (event) {
    case 'dialled':
      return phase === 'waiting' ? 'joining' : phase;
    case 'sender-opened':
      return phase === 'joining' ? 'joined' : phase;
    case 'rejected':
    case 'refused':
    case 'timed-out':
      return phase === 'waiting' ? 'closed' : phase;
    case 'sender-gone':
      return 'closed';
    case 'listener-gone':
      return phase === 'joining' ? 'waiting' : phase;
    default:
      return unreachable(event);
  }
}

/** An address that is before a listener. */
export interface Offer {
  readonly pending: Pending;
  readonly listener: ReachableListener;
}

/** What happens outside when a rendezvous moves; `relay.ts` performs it. */
export interface RendezvousActions {
  /** Puts a fresh address before a listener that has not had its turn; undefined when none is left. */
  offer(
    fate: Required<Omit<Pending, 'id'>>,
    tried: ReadonlySet<ReachableListener>,
  ): Offer | undefined;
  /** Calls `offer` when a listener has come, `over` when none did; undefined: there is no use in waiting. */
  hold(
    sender: { readonly offer: () => boolean; readonly over: () => void },
    waitMsMin: number,
  ): CancelTimer | undefined;
  /** Makes an address worthless. */
  withdraw(id: RendezvousId): void;
  refuseSender(reason: RefusalReason): void;
  rejectSender(status: number, description: string): void;
  completeSender(protocol: string | undefined, opened: (sender: Channel) => void): void;
  join(sender: Channel, listener: Channel): void;
  /** Called once, in whatever way the wait ended. */
  ended(phase: 'joined' | 'closed'): void;
}

/**
 * How much of the whole wait one listener gets while others have not been asked. The sum stays
 * within the sender's wait; the last one asked has all that remains.
 */
const OFFER_SHARE = 1 / 3;

export class Rendezvous {
  readonly #clock: Clock;
  readonly #actions: RendezvousActions;
  readonly #acceptTimeoutMs: number;
  readonly #tried = new Set<ReachableListener>();
  /** Listeners that dialled and did not arrive. They would: each is asked once more. */
  readonly #strayed = new Set<ReachableListener>();
  #phase: RendezvousPhase = 'waiting';
  #offered: Offer | undefined;
  /** Whose dial is being finished. */
  #dialling: ReachableListener | undefined;
  #listenerChannel: Channel | undefined;
  #whenNobody: () => RefusalReason = () => 'no-listener';
  /** Undefined until somebody was asked. */
  #cancelDeadline: CancelTimer | undefined;
  /** The whole wait is over; a dial that came in time is still finished. */
  #isOverdue = false;
  #cancelNext: CancelTimer = () => {};
  #cancelHold: CancelTimer = () => {};

  constructor(clock: Clock, acceptTimeoutMs: number, actions: RendezvousActions) {
    this.#clock = clock;
    this.#acceptTimeoutMs = acceptTimeoutMs;
    this.#actions = actions;
  }

  /** Puts the sender before its first listener; holds or refuses it when no listener can be asked at all. */
  start(whenNobody: () => RefusalReason): void {
    this.#whenNobody = whenNobody;
    if (!this.#offerNext()) this.#nobody(0);
  }

  /** The listener dialled and its handshake is being finished. False: it comes too late. */
  dialled(): boolean {
    if (this.#phase !== 'waiting') return false;
    this.#phase = advance(this.#phase, 'dialled');
    this.#dialling = this.#offered?.listener;
    this.#stopAsking();
    return true;
  }

  /** The listener's WebSocket is open: now the sender's handshake is finished, too. */
  listenerOpened(listener: Channel, protocol: string | undefined): void {
    if (this.#phase !== 'joining') {
      listener.close(1001, 'The sender went away');
      return;
    }
    this.#listenerChannel = listener;
    this.#actions.completeSender(protocol, sender => this.#senderOpened(sender, listener));
  }

  /**
   * The listener dialled and went away before its WebSocket was open, or the node did that it had
   * dialled at: then it is there still, and can be asked again.
   */
  listenerGone(): void {
    if (this.#phase !== 'joining') return;
    this.#phase = advance(this.#phase, 'listener-gone');
    const listener = this.#dialling;
    this.#dialling = undefined;
    if (listener !== undefined && !this.#strayed.has(listener)) {
      this.#strayed.add(listener);
      this.#tried.delete(listener);
    }
    if (this.#isOverdue) this.#timedOut();
    else if (!this.#offerNext()) this.#refuse('refused', 'listener-lost');
  }

  rejected(status: number, description: string): void {
    if (this.#phase !== 'waiting') return;
    this.#close('rejected');
    this.#actions.rejectSender(status, description);
  }

  /** The relay lets nobody in any more. Once the listener has dialled, it is for the join to find out. */
  refuse(reason: RefusalReason): void {
    this.#refuse('refused', reason);
  }

  senderGone(): void {
    if (this.#phase === 'closed' || this.#phase === 'joined') return;
    const listener = this.#listenerChannel;
    this.#close('sender-gone');
    listener?.close(1001, 'The sender went away');
  }

  #listenerLost(offered: Offer): void {
    if (this.#phase !== 'waiting' || this.#offered !== offered) return;
    if (this.#offerNext()) return;
    // It may still dial: the address does not depend on its control channel.
    this.#cancelNext();
    this.#cancelNext = this.#clock.after(LISTENER_LOSS_GRACE_MS, () => {
      if (!this.#offerNext()) this.#refuse('refused', 'listener-lost');
    });
  }

  /** The listener never saw it: it was going already, or has no room. */
  #notTaken(offered: Offer): void {
    if (this.#phase !== 'waiting' || this.#offered !== offered || this.#offerNext()) return;
    this.#cancelNext();
    this.#withdraw();
    this.#nobody(LISTENER_RETURN_MS);
  }

  #nobody(waitMsMin: number): void {
    const refuse = (): void => this.#refuse('refused', this.#whenNobody());
    const held = this.#actions.hold({ offer: () => this.#offerNext(), over: refuse }, waitMsMin);
    if (held === undefined) refuse();
    else this.#cancelHold = held;
  }

  #senderOpened(sender: Channel, listener: Channel): void {
    if (this.#phase !== 'joining') {
      sender.destroy();
      return;
    }
    this.#phase = advance(this.#phase, 'sender-opened');
    this.#listenerChannel = undefined;
    this.#stopWaiting();
    this.#actions.ended('joined');
    this.#actions.join(sender, listener);
  }

  #offerNext(): boolean {
    const fate = {
      listenerLost: (): void => {
        if (next !== undefined) this.#listenerLost(next);
      },
      notTaken: (): void => {
        if (next !== undefined) this.#notTaken(next);
      },
    };
    const next = this.#actions.offer(fate, this.#tried);
    if (next === undefined) return false;
    this.#cancelDeadline ??= this.#clock.after(this.#acceptTimeoutMs, () => this.#timedOut());
    this.#withdraw();
    this.#offered = next;
    this.#tried.add(next.listener);
    this.#cancelNext();
    this.#cancelNext = this.#clock.after(this.#acceptTimeoutMs * OFFER_SHARE, () => {
      this.#offerNext();
    });
    return true;
  }

  #timedOut(): void {
    this.#isOverdue = true;
    this.#refuse('timed-out', 'listener-silent');
  }

  #refuse(event: 'refused' | 'timed-out', reason: RefusalReason): void {
    if (this.#phase !== 'waiting') return;
    this.#close(event);
    this.#actions.refuseSender(reason);
  }

  #close(event: RendezvousEvent): void {
    this.#phase = advance(this.#phase, event);
    this.#listenerChannel = undefined;
    this.#stopWaiting();
    this.#actions.ended('closed');
  }

  #stopWaiting(): void {
    this.#cancelDeadline?.();
    this.#stopAsking();
  }

  #stopAsking(): void {
    this.#cancelNext();
    this.#cancelHold();
    this.#withdraw();
  }

  #withdraw(): void {
    if (this.#offered === undefined) return;
    this.#actions.withdraw(this.#offered.pending.id);
    this.#offered.listener.settled(this.#offered.pending);
    this.#offered = undefined;
  }
}
