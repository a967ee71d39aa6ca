import {
  advance,
  canReceive,
  canSend,
  type ChannelPhase,
} from '../../src/cluster/channel-state.ts';
import type { Channel, ChannelReceiver, DataOpcode } from '../../src/relay/ports.ts';

type Item =
  | {
      readonly type: 'fragment';
      readonly opcode: DataOpcode;
      readonly fin: boolean;
      readonly payload: Uint8Array;
    }
  | { readonly type: 'closed'; readonly code: number; readonly reason: string };

/** Bytes in one direction from which `send` asks to stop. */
const QUEUE_BYTES = 262_144;

/** One end of a channel within this process: no sockets, nothing lost, nothing called back within a call. */
export class MemoryChannel implements Channel {
  #peer: MemoryChannel | undefined;
  #receiver: ChannelReceiver | undefined;
  #phase: ChannelPhase = 'open';
  #isPaused = true;
  #isBroken = false;
  #isScheduled = false;
  readonly #inbox: Item[] = [];
  #inboxBytes = 0;
  #wantsDrained = false;

  static pair(): readonly [MemoryChannel, MemoryChannel] {
    const one = new MemoryChannel();
    const other = new MemoryChannel();
    one.#peer = other;
    other.#peer = one;
    return [one, other];
  }

  receive(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#schedule();
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    const peer = this.#peer;
    if (peer === undefined || !canSend(this.#phase)) return true;
    peer.#put({ type: 'fragment', opcode, fin, payload: Uint8Array.from(payload) });
    if (peer.#inboxBytes < QUEUE_BYTES) return true;
    this.#wantsDrained = true;
    return false;
  }

  close(code: number, reason: string): void {
    if (!canSend(this.#phase)) return;
    this.#phase = advance(this.#phase, 'sent');
    if (this.#peer !== undefined) this.#peer.#put({ type: 'closed', code, reason });
    this.#schedule();
  }

  destroy(): void {
    this.#inbox.length = 0;
    this.#break();
    if (this.#peer !== undefined) this.#peer.#break();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#schedule();
  }

  #put(item: Item): void {
    this.#inbox.push(item);
    if (item.type === 'fragment') this.#inboxBytes += item.payload.length;
    this.#schedule();
  }

  #break(): void {
    this.#isBroken = true;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (this.#receiver !== undefined) this.#deliver(this.#receiver);
    });
  }

  #deliver(receiver: ChannelReceiver): void {
    while (!this.#isPaused && canReceive(this.#phase)) {
      const item = this.#inbox.shift();
      if (item === undefined) break;
      if (item.type === 'fragment') {
        this.#inboxBytes -= item.payload.length;
        receiver.fragment(item.opcode, item.fin, item.payload);
      } else {
        this.#phase = advance(this.#phase, 'received');
        receiver.closed(item.code, item.reason);
      }
    }
    if (this.#inboxBytes === 0 && this.#peer !== undefined) this.#peer.#drained();
    const isOver = this.#phase === 'closing' || (this.#isBroken && this.#inbox.length === 0);
    if (!isOver || this.#phase === 'gone') return;
    this.#phase = advance(this.#phase, 'gone');
    receiver.gone();
  }

  #drained(): void {
    if (!this.#wantsDrained || this.#phase === 'gone') return;
    this.#wantsDrained = false;
    setImmediate(() => {
      if (this.#phase !== 'gone') this.#receiver?.drained();
    });
  }
}
