import type { Clock } from '../base/clock.ts';
import {
  ANNOUNCED_CHARS_PER_MESSAGE_MAX,
  ANNOUNCED_PER_MESSAGE_MAX,
  ANNOUNCED_ROWS_MAX,
} from './limits.ts';
import type { Announcement, ListenerRow, SendAnnouncement } from './listener-directory.ts';
import type { OwnListeners } from './own-listeners.ts';

/**
 * Changes up to this old are told when an outage begins: the coordinator may have had them, and others
 * may have missed them. It takes up to 7 s to notice that it answers no more.
 */
const RECENT_MS = 15_000;

export interface AnnouncerDeps {
  readonly clock: Clock;
  readonly own: Pick<OwnListeners, 'shown' | 'keys'>;
  readonly holder: () => { readonly node: string; readonly epoch: string };
  /** Others may have forgotten what the coordinator said of us: our lease is over, or may be. */
  readonly isForgotten: () => boolean;
  /** There was no room to tell of some listener. */
  readonly onUntold: () => void;
}

interface Change {
  atMs: number;
  /** Some node was told, and must be told of what becomes of it. */
  isTold: boolean;
}

interface Peer {
  /** Keys of which it is to be told how they stand. */
  readonly pending: Set<string>;
  /** The coordinator is away for it: it hears of our listeners from us alone. */
  isDeaf: boolean;
  /** What it was last told of us. */
  wasToldAway: boolean;
}

/**
 * Tells other nodes of listeners here that the coordinator cannot tell them of. Who is linked hears at
 * once, who is linked later hears of all changes of this outage. A full link gets the rest when it has
 * room; what is said then is how things are by then.
 */
export class Announcer {
  readonly #deps: AnnouncerDeps;
  readonly #peers = new Map<string, Peer>();
  /** The latest changes, by key, in the order of time. What came and went without the coordinator is none. */
  readonly #changes = new Map<string, Change>();
  #send: SendAnnouncement = () => false;
  #isAway = false;
  /** Changes that were not told for want of room. */
  untold = 0;

  constructor(deps: AnnouncerDeps) {
    this.#deps = deps;
  }

  get isAway(): boolean {
    return this.#isAway;
  }

  sendThrough(send: SendAnnouncement): void {
    this.#send = send;
  }

  /** A listener came in; unless it is written, nobody else can know. */
  added({ key }: ListenerRow, { isWritten }: { readonly isWritten: boolean }): void {
    this.#changed(key, { mustTell: !isWritten || this.#isAway });
  }

  /** A listener went. */
  removed({ key }: ListenerRow, { wasWritten }: { readonly wasWritten: boolean }): void {
    const isTold = this.#changes.get(key)?.isTold === true;
    if (wasWritten) {
      this.#changed(key, { mustTell: isTold || this.#isAway });
    } else if (isTold) {
      this.#changes.delete(key);
      this.#tell(key, () => true);
    }
  }

  /** The coordinator is of no use to us, from now on or still. */
  away(): void {
    if (this.#isAway) return;
    this.#forgetOld();
    this.#isAway = true;
    for (const peer of this.#peers.values()) this.#tellAll(peer, this.#changes.keys());
    this.#flushAll();
  }

  /** The coordinator has all that is ours. */
  back(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    const nowMs = this.#deps.clock.nowMs();
    for (const change of this.#changes.values()) change.atMs = nowMs;
    this.#flushAll();
  }

  linkUp(node: string): void {
    const peer: Peer = { pending: new Set(), isDeaf: false, wasToldAway: false };
    this.#peers.set(node, peer);
    if (!this.#isAway) return;
    this.#tellAll(peer, this.#changes.keys());
    if (this.#deps.isForgotten()) this.#tellAll(peer, this.#deps.own.keys());
    this.#flush(node, peer);
  }

  linkDown(node: string): void {
    this.#peers.delete(node);
  }

  /** A link has room again. */
  drained(node: string): void {
    const peer = this.#peers.get(node);
    if (peer !== undefined) this.#flush(node, peer);
  }

  /** Another node says whether it hears of us from the coordinator. */
  peerIsAway(node: string, isAway: boolean): void {
    const peer = this.#peers.get(node);
    if (peer === undefined || peer.isDeaf === isAway) return;
    peer.isDeaf = isAway;
    if (!isAway) return;
    this.#forgetOld();
    this.#tellAll(peer, this.#changes.keys());
    this.#flush(node, peer);
  }

  #changed(key: string, { mustTell }: { readonly mustTell: boolean }): void {
    this.#changes.delete(key);
    this.#forgetOld();
    if (this.#changes.size >= ANNOUNCED_ROWS_MAX) {
      const [oldest] = this.#changes.keys();
      if (this.#isAway || oldest === undefined) {
        this.untold += 1;
        this.#deps.onUntold();
        return;
      }
      this.#changes.delete(oldest);
    }
    const change = { atMs: this.#deps.clock.nowMs(), isTold: false };
    this.#changes.set(key, change);
    change.isTold = this.#tell(key, peer => mustTell || peer.isDeaf) || mustTell;
  }

  /** Whether there was anybody to tell. */
  #tell(key: string, isConcerned: (peer: Peer) => boolean): boolean {
    let isTold = false;
    for (const [node, peer] of this.#peers) {
      if (!isConcerned(peer)) continue;
      isTold = true;
      peer.pending.add(key);
      this.#flush(node, peer);
    }
    return isTold;
  }

  #tellAll(peer: Peer, keys: Iterable<string>): void {
    for (const key of keys) {
      if (peer.pending.size >= ANNOUNCED_ROWS_MAX) return;
      peer.pending.add(key);
      const change = this.#changes.get(key);
      if (change !== undefined) change.isTold = true;
    }
  }

  #flushAll(): void {
    for (const [node, peer] of this.#peers) this.#flush(node, peer);
  }

  #flush(node: string, peer: Peer): void {
    while (peer.pending.size > 0 || peer.wasToldAway !== this.#isAway) {
      const { announcement, keys } = this.#next(peer);
      if (!this.#send(node, announcement)) return;
      for (const key of keys) peer.pending.delete(key);
      peer.wasToldAway = this.#isAway;
    }
  }

  /** As much as one message takes of what a node is to be told. */
  #next({ pending }: Peer): {
    readonly announcement: Announcement;
    readonly keys: readonly string[];
  } {
    const keys: string[] = [];
    const rows: [string, string][] = [];
    const released: string[] = [];
    let chars = 0;
    for (const key of pending) {
      if (keys.length >= ANNOUNCED_PER_MESSAGE_MAX) break;
      const text = this.#deps.own.shown(key);
      chars += key.length + (text?.length ?? 0);
      if (keys.length > 0 && chars > ANNOUNCED_CHARS_PER_MESSAGE_MAX) break;
      keys.push(key);
      if (text === undefined) released.push(key);
      else rows.push([key, text]);
    }
    const { node, epoch } = this.#deps.holder();
    return { keys, announcement: { node, epoch, isAway: this.#isAway, rows, released } };
  }

  /** What is old was told by the coordinator; during an outage nothing is old. */
  #forgetOld(): void {
    if (this.#isAway) return;
    const latestMs = this.#deps.clock.nowMs() - RECENT_MS;
    for (const [key, { atMs }] of this.#changes) {
      if (atMs > latestMs) return;
      this.#changes.delete(key);
    }
  }
}
