import type { Pending, ReachableListener } from '../relay/ports.ts';

/** Puts something before a listener of another node; false: its link is down, or takes no more. */
export type SendOffer = (offer: {
  readonly id: string;
  readonly listenerKey: string;
  readonly text: string;
  readonly body: Uint8Array | undefined;
}) => boolean;

/** A listener whose control channel is on another node, as senders here see it. */
export class RemoteListener implements ReachableListener {
  readonly key: string;
  readonly node: string;
  readonly listenerId: string;
  readonly origin: string;
  readonly #send: SendOffer;
  readonly #settle: (id: string) => void;
  readonly #pending = new Map<string, Pending>();

  constructor(
    row: {
      readonly key: string;
      readonly node: string;
      readonly listenerId: string;
      readonly origin: string;
    },
    mesh: {
      readonly send: SendOffer;
      /** Tells the other node that an offer is over. */
      readonly settle: (id: string) => void;
    },
  ) {
    this.key = row.key;
    this.node = row.node;
    this.listenerId = row.listenerId;
    this.origin = row.origin;
    this.#send = mesh.send;
    this.#settle = mesh.settle;
  }

  get outstanding(): number {
    return this.#pending.size;
  }

  offer(pending: Pending, text: string, body?: Uint8Array): boolean {
    if (!this.#send({ id: pending.id, listenerKey: this.key, text, body })) return false;
    this.#pending.set(pending.id, pending);
    return true;
  }

  settled(pending: Pending): void {
    if (this.#pending.delete(pending.id)) this.#settle(pending.id);
  }

  /** The other node could not put it before the listener. */
  refused(id: string): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending?.notTaken === undefined) pending?.listenerLost();
    else pending.notTaken();
  }

  /** The other node has lost the listener since. */
  lost(id: string): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.listenerLost();
  }

  /**
   * The listener, or all of its node, is gone. What was put before it may yet turn out not to have been seen, so each
   * is kept until it is settled.
   */
  lostAll(): void {
    const pending = [...this.#pending.values()];
    for (const one of pending) one.listenerLost();
  }
}
