import type { CancelTimer, Clock } from '../base/clock.ts';
import type { HeldOutcome, RelayEvents } from './events.ts';
import type { HybridConnection, ListenerChoice } from './hybrid-connection.ts';
import { HELD_SENDERS_MAX, LISTENER_RETURN_MS } from './limits.ts';

/** A sender that nobody could be put before. */
export interface ListenerlessSender {
  readonly hybridConnection: HybridConnection;
  readonly choice: ListenerChoice;
  /** Puts it before a listener; false: there is none for it still. */
  offer(): boolean;
  /** It has waited long enough. */
  over(): void;
}

/**
 * Senders whose listener is not there at this moment. Among several nodes that may be about to change: a
 * listener that has just been let in on another node is known here some milliseconds later than to its own
 * client, and one that was asked to connect again is on its way. So such a sender is held for a moment and
 * put before the first listener that comes. A node that is alone knows all there is, and holds nobody.
 */
export class AbsentListeners {
  readonly #clock: Clock;
  readonly #events: RelayEvents;
  readonly #waitMs: number;
  readonly #isAlone: boolean;
  #count = 0;

  constructor(deps: {
    readonly clock: Clock;
    readonly events: RelayEvents;
    /** How long a sender is held when nothing is known of a listener that could come. */
    readonly waitMs: number;
    readonly isAlone: boolean;
  }) {
    this.#clock = deps.clock;
    this.#events = deps.events;
    this.#waitMs = deps.waitMs;
    this.#isAlone = deps.isAlone;
  }

  /** Senders that are held now. */
  get count(): number {
    return this.#count;
  }

  /** A listener of this hybrid connection was asked to connect again, or lost its node, and will be back. */
  expect(hybridConnection: HybridConnection): void {
    hybridConnection.expectListener(this.#clock.nowMs() + LISTENER_RETURN_MS);
  }

  isExpected({ expectedUntilMs }: HybridConnection): boolean {
    return expectedUntilMs > this.#clock.nowMs();
  }

  /**
   * Holds a sender; what is returned lets it go, once it has left. Undefined: it is not worth waiting, or too
   * many are held already. `waitMsMin`: the least time, for a sender that has just missed somebody.
   */
  hold(sender: ListenerlessSender, waitMsMin = 0): CancelTimer | undefined {
    const { hybridConnection, choice } = sender;
    if (this.#isAlone || this.#waitMs === 0 || this.#count >= HELD_SENDERS_MAX) return undefined;
    if (!hybridConnection.isAbsent(choice)) return undefined;
    // Somebody is known who cannot be reached: the node is going, or gone, and its listeners are on their way.
    const isCutOff = hybridConnection.hasAny(choice);
    const waitMs = Math.max(this.#waitMs, waitMsMin, isCutOff ? LISTENER_RETURN_MS : 0);
    let isHeld = true;
    let cancelTimer: CancelTimer | undefined;
    const release = (outcome: HeldOutcome): void => {
      if (!isHeld) return;
      isHeld = false;
      cancelTimer?.();
      hybridConnection.held.delete(look);
      this.#count -= 1;
      this.#events.senderReleased(outcome);
    };
    const look = (): void => {
      if (isHeld && sender.offer()) release('offered');
    };
    const waitUntil = (untilMs: number): void => {
      cancelTimer = this.#clock.after(untilMs - this.#clock.nowMs(), () => {
        // That a listener is expected may have become known meanwhile.
        if (hybridConnection.expectedUntilMs > untilMs) {
          waitUntil(hybridConnection.expectedUntilMs);
          return;
        }
        release('refused');
        sender.over();
      });
    };
    waitUntil(Math.max(this.#clock.nowMs() + waitMs, hybridConnection.expectedUntilMs));
    hybridConnection.held.add(look);
    this.#count += 1;
    return () => release('gone');
  }
}
