import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { MeshMessage } from '../protocol/mesh-frames.ts';
import type { Randomness } from '../relay/ports.ts';
import {
  advance,
  backOffMs,
  NEW_LINK,
  type BackOff,
  type LinkEvent,
  type LinkState,
} from './link-state.ts';
import { isSameProcess, type HandshakeOutcome, type LinkPeer } from './mesh-handshake.ts';
import { MESH_REFUSALS } from './mesh-refusals.ts';
import {
  MeshWire,
  type Answer,
  type MeshReply,
  type WireCounters,
  type WireEndReason,
  type WireLimits,
} from './mesh-wire.ts';
import type { HandshakeEnd } from './record-socket.ts';

/** Another node, as the directory has it. */
export interface MeshNode {
  readonly nodeId: string;
  /** `{process}.{n}`, see `NodeIdentity`. */
  readonly epoch: string;
  /** `host:port`, an IPv6 address in brackets. */
  readonly meshAddress: string;
}

/** What is at the other end of an authenticated connection, and the bytes that came with its last record. */
export interface Shaken {
  readonly socket: Socket;
  readonly rest: Uint8Array;
  readonly peer: LinkPeer;
}

export type DialOutcome = Shaken | Exclude<HandshakeOutcome, { readonly peer: LinkPeer }>;

export interface LinkDeps {
  readonly clock: Clock;
  readonly random: Randomness;
  readonly log: Logger;
  readonly limits: WireLimits & { readonly backOff: BackOff };
  readonly counters: WireCounters;
  /** Makes a connection to the node; aborts when the signal says so. Never rejects. */
  readonly dial: (node: MeshNode, signal: AbortSignal) => Promise<DialOutcome>;
  readonly onMessage: (message: MeshMessage, answer: Answer | undefined) => void;
  readonly onDrained: () => void;
  readonly onRoundTrip: (ms: number) => void;
  readonly onUp: (peer: LinkPeer) => void;
  readonly onDown: (reason: WireEndReason) => void;
  /** The peer could not be reached, or one of both refused the other. */
  readonly onRefused: (end: HandshakeEnd) => void;
}

/** The standing link to one other node: dials or waits to be dialled, and begins again when it breaks. */
export class MeshLink {
  readonly nodeId: string;
  readonly #deps: LinkDeps;
  readonly #dials: boolean;
  #state: LinkState = NEW_LINK;
  #node: MeshNode | undefined;
  #wire: MeshWire | undefined;
  #peer: LinkPeer | undefined;
  #roundTripMs: number | undefined;
  #cancelWait: CancelTimer = () => {};
  #dialling = new AbortController();
  /** What was last warned of, so that a fault that stays is told once and not with each attempt. */
  #lastWarning = '';

  constructor(nodeId: string, options: { readonly dials: boolean }, deps: LinkDeps) {
    this.nodeId = nodeId;
    this.#dials = options.dials;
    this.#deps = deps;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Who is at the other end while the link is up. */
  get peer(): LinkPeer | undefined {
    return this.#wire === undefined ? undefined : this.#peer;
  }

  get queuedBytes(): number {
    return this.#wire?.queuedBytes ?? 0;
  }

  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** What the directory says of the node now; undefined: no longer known. A link that is up stays up. */
  know(node: MeshNode | undefined): void {
    const before = this.#node;
    this.#node = node;
    if (node === undefined) {
      this.#cancelWait();
      this.#dialling.abort();
      return;
    }
    const isChanged =
      before === undefined ||
      before.meshAddress !== node.meshAddress ||
      !isSameProcess(before.epoch, node.epoch);
    if (!isChanged) return;
    this.#move({ type: 'changed' });
    // Somebody else has that id now: whoever is at the other end does not know it yet.
    if (!isSameProcess(this.peer?.epoch ?? node.epoch, node.epoch)) this.cut('wrong-process');
    if (this.#state.phase === 'dialling') this.#dialling.abort();
    if (this.#state.phase === 'apart') this.#begin();
  }

  /** Takes an authenticated connection; one that was there before gives way to it. */
  open(shaken: Shaken): void {
    if (this.#state.phase === 'closed') {
      shaken.socket.destroy();
      return;
    }
    if (this.#wire !== undefined) this.#wire.close('replaced');
    const { clock, counters, limits, log } = this.#deps;
    const wire: MeshWire = new MeshWire(
      shaken.socket,
      { clock, counters, limits },
      {
        message: this.#deps.onMessage,
        drained: this.#deps.onDrained,
        roundTrip: ms => {
          this.#roundTripMs = ms;
          this.#deps.onRoundTrip(ms);
        },
        ended: (reason, detail) => this.#ended(wire, reason, detail),
      },
    );
    this.#cancelWait();
    this.#wire = wire;
    this.#peer = shaken.peer;
    this.#lastWarning = '';
    this.#move({ type: 'opened', atMs: clock.nowMs() });
    log.info(
      {
        event: 'MeshLinkUp',
        node: this.nodeId,
        epoch: shaken.peer.epoch,
        version: shaken.peer.version,
      },
      'mesh link up',
    );
    this.#deps.onUp(shaken.peer);
    wire.start(shaken.rest);
  }

  /** False: the link is down or its queue full, and nothing was sent. */
  send(message: MeshMessage): boolean {
    return this.#wire?.send(message) ?? false;
  }

  ask(message: MeshMessage, timeoutMs: number): Promise<MeshReply> {
    return this.#wire?.ask(message, timeoutMs) ?? Promise.resolve({ type: 'failed', why: 'down' });
  }

  /** Ends the connection that is up; it begins anew unless the link is closed. */
  cut(reason: WireEndReason): void {
    this.#wire?.close(reason);
  }

  /** Final. Safe to call twice. */
  close(reason: WireEndReason): void {
    if (this.#state.phase === 'closed') return;
    this.#move({ type: 'closed' });
    this.#cancelWait();
    this.#dialling.abort();
    this.#wire?.close(reason);
  }

  #move(event: LinkEvent): void {
    this.#state = advance(this.#state, event);
  }

  /** Dials after the due wait; or waits to be dialled, and says so when that takes long. */
  #begin(): void {
    this.#cancelWait();
    const node = this.#node;
    if (node === undefined || this.#state.phase !== 'apart') return;
    const { clock, limits, log, random } = this.#deps;
    if (!this.#dials) {
      this.#cancelWait = clock.after(UNDIALLED_WARNING_MS, () =>
        log.warn(
          { event: 'MeshLinkMissing', node: this.nodeId, address: node.meshAddress },
          'mesh link missing: that node should dial this one; can it reach our advertised address?',
        ),
      );
      return;
    }
    const jitter = random.below(JITTER_STEPS) / JITTER_STEPS;
    const waitMs = backOffMs(this.#state.attempts, limits.backOff, jitter);
    this.#cancelWait = clock.after(waitMs, () => {
      this.#move({ type: 'due' });
      void this.#dial(node);
    });
  }

  async #dial(node: MeshNode): Promise<void> {
    const dialling = new AbortController();
    this.#dialling = dialling;
    const outcome = await this.#deps.dial(node, dialling.signal);
    // The other side may have dialled meanwhile, or the link was closed: then this one is not wanted.
    if (this.#state.phase !== 'dialling') {
      if ('socket' in outcome) outcome.socket.destroy();
      return;
    }
    if ('socket' in outcome) {
      this.open(outcome);
      return;
    }
    const { by, reason } = outcome.ended;
    this.#move({ type: 'refused', by, reason });
    if (!dialling.signal.aborted) {
      this.#warn(outcome.ended, node);
      this.#deps.onRefused(outcome.ended);
    }
    this.#begin();
  }

  #ended(wire: MeshWire, reason: WireEndReason, detail: string | undefined): void {
    if (this.#wire !== wire) return;
    this.#wire = undefined;
    const { clock, log } = this.#deps;
    this.#move({ type: 'ended', reason, atMs: clock.nowMs() });
    const level = reason === 'closing' || reason === 'removed' ? 'info' : 'warn';
    log[level]({ event: 'MeshLinkDown', node: this.nodeId, reason, detail }, 'mesh link down');
    this.#deps.onDown(reason);
    this.#begin();
  }

  #warn({ reason, by, detail }: HandshakeEnd, node: MeshNode): void {
    const fault = `${by} ${reason} ${node.meshAddress}`;
    const level = fault === this.#lastWarning ? 'debug' : 'warn';
    this.#lastWarning = fault;
    this.#deps.log[level](
      {
        event: 'MeshLinkRefused',
        node: this.nodeId,
        address: node.meshAddress,
        reason,
        by,
        why: reason in MESH_REFUSALS ? refusalText(reason) : undefined,
        detail,
      },
      'mesh link refused',
    );
  }
}

const JITTER_STEPS = 1_000;
/** By then the other node has dialled several times, if it can. */
const UNDIALLED_WARNING_MS = 10_000;

function refusalText(reason: HandshakeEnd['reason']): string | undefined {
  return reason === 'closed' || reason === 'unreachable' ? undefined : MESH_REFUSALS[reason];
}
