import { parseClosePayload, OPCODES } from '../../protocol/frames.ts';
import { POLL_BATCH_FRAMES_MAX } from '../../protocol/poll-frames.ts';
import type { Channel, ChannelReceiver, DataOpcode } from '../../relay/ports.ts';
import type { Outbox } from '../outbox.ts';
import type { PollSession, SessionOwner } from './poll-session.ts';

/** Empty frames that are kept to be sent again take several times the memory that they count for. */
const KEPT_FRAMES_MAX = POLL_BATCH_FRAMES_MAX;
/** The core may go on once so much is left of what may wait. */
const LOW_SHARE = 0.5;

/**
 * A long-poll session as the core's Channel. Fragments are handed on as they are posted while the core
 * reads, and wait in the session's window while it does not.
 */
export class PollChannel implements Channel, SessionOwner {
  readonly transport = 'poll';
  readonly #session: PollSession;
  readonly #outbox: Outbox;
  readonly #bufferBytesMax: number;
  #receiver: ChannelReceiver | undefined;
  #isPaused = true;
  #isDelivering = false;
  #isDeliveryPlanned = false;
  #owesDrained = false;
  /** The peer's Close was handed on. */
  #isCloseRead = false;
  #isLost = false;
  #isDestroyed = false;
  #isGone = false;

  /** `bufferBytesMax`: what the frames that wait for the client count for when the core is told to stop. */
  constructor(session: PollSession, outbox: Outbox, bufferBytesMax: number) {
    this.#session = session;
    this.#outbox = outbox;
    this.#bufferBytesMax = bufferBytesMax;
    session.ownedBy(this);
  }

  receive(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#planDelivery();
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    if (this.#isEnded()) return true;
    this.#session.send(opcode, fin, payload);
    if (!this.#isFuller(1)) return true;
    this.#owesDrained = true;
    return false;
  }

  close(code: number, reason: string): void {
    if (this.#isEnded()) return;
    this.#session.close(code, reason);
    this.#planDelivery();
  }

  destroy(): void {
    this.#isDestroyed = true;
    this.#session.destroy();
    this.#planDelivery();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#planDelivery();
  }

  arrived(): void {
    if (!this.#isDeliveryPlanned) this.#deliver();
  }

  acknowledged(): void {
    if (!this.#owesDrained || this.#isGone || this.#isFuller(LOW_SHARE)) return;
    this.#owesDrained = false;
    this.#receiver?.drained();
  }

  lost(): void {
    this.#isLost = true;
    this.#planDelivery();
  }

  /** Whether at least this share of what may wait for the client does. */
  #isFuller(share: number): boolean {
    const { keptFrames, outgoing } = this.#session;
    return (
      outgoing.keptBytes >= this.#bufferBytesMax * share || keptFrames >= KEPT_FRAMES_MAX * share
    );
  }

  /** Whether nothing can reach the client any more. */
  #isEnded(): boolean {
    return this.#isLost || this.#isDestroyed;
  }

  /** Not at once: the core is not to be called back from within its own call. */
  #planDelivery(): void {
    if (this.#isDeliveryPlanned || this.#isGone) return;
    this.#isDeliveryPlanned = true;
    this.#outbox.put(() => {
      this.#isDeliveryPlanned = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const receiver = this.#receiver;
    if (receiver === undefined || this.#isDelivering || this.#isGone) return;
    this.#isDelivering = true;
    while (!this.#isPaused && !this.#isDestroyed) {
      const frame = this.#session.incoming.read();
      if (frame === undefined) break;
      if (frame.opcode === OPCODES.close) {
        this.#isCloseRead = true;
        const { code, reason } = parseClosePayload(frame.payload);
        receiver.closed(code, reason);
      } else receiver.fragment(frame.opcode, frame.isFinal, frame.payload);
    }
    this.#isDelivering = false;
    this.#session.hasRead();
    this.#reportEnd(receiver);
  }

  #reportEnd(receiver: ChannelReceiver): void {
    const { incoming, outgoing } = this.#session;
    const isOver =
      this.#isDestroyed ||
      (this.#isCloseRead && outgoing.isClosed) ||
      (this.#isLost && incoming.waitingBytes === 0);
    if (!isOver) return;
    this.#isGone = true;
    receiver.gone();
  }
}
