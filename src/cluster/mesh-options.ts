import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { MeshMessage, VersionRange } from '../protocol/mesh-frames.ts';
import type { Meter, Randomness } from '../relay/ports.ts';
import type { BackOff, LinkState } from './link-state.ts';
import type { HandOver } from './handed-stream.ts';
import type { MeshCredentials } from './mesh-credentials.ts';
import type { DoorLimits } from './mesh-door.ts';
import type { LinkPeer } from './mesh-handshake.ts';
import type { MeshNode } from './mesh-link.ts';
import type { StreamLimits } from './mesh-streams.ts';
import type { Answer, WireCounters, WireEndReason, WireLimits } from './mesh-wire.ts';

/** What the mesh asks of the directory: who is alive, where. May or may not name this node itself. */
export interface MeshNodes {
  nodes(): Iterable<MeshNode>;
  /** Calls `listener` after each change of `nodes()`, until the returned function is called. */
  onChange(listener: () => void): () => void;
}

/** What the mesh tells the rest of the node. Nothing is called from inside a call into the mesh, but for `down`. */
export interface MeshHandlers {
  /** In the order in which the other node sent them. `answer` is there when it wants one. */
  message(nodeId: string, message: MeshMessage, answer: Answer | undefined): void;
  /** A link came up. Between here and `down` no message is lost and none is out of order. */
  up(nodeId: string, peer: LinkPeer): void;
  /** The link broke; what was sent last may not have arrived. */
  down(nodeId: string, reason: WireEndReason): void;
  /** There is room again for a node to which `send` was false. */
  drained(nodeId: string): void;
  /** A bug of ours, caught where it would have ended the process. */
  bug(bug: unknown): void;
}

/** Each has its behaviour and its count: see mesh-metrics.ts. */
export interface MeshLimits extends DoorLimits, WireLimits, StreamLimits {
  readonly backOff: BackOff;
  readonly linksMax: number;
}

export const MESH_DEFAULTS: MeshLimits = {
  handshakeTimeoutMs: 5_000,
  strangersMax: 1_024,
  pingIntervalMs: 1_000,
  silenceMs: 5_000,
  linkQueueBytesMax: 8 * 1024 * 1024,
  linkRequestsMax: 20_000,
  connectTimeoutMs: 5_000,
  streamsMax: 100_000,
  expectedStreamsMax: 100_000,
  backOff: { firstMs: 100, longestMs: 5_000 },
  linksMax: 1_000,
};

export interface MeshDeps {
  readonly clock: Clock;
  readonly random: Randomness;
  readonly log: Logger;
  readonly meter: Meter;
  readonly nodes: MeshNodes;
  readonly nodeId: string;
  /** Of this process, as it is now; see `NodeIdentity`. */
  readonly epoch: () => string;
  readonly handlers: MeshHandlers;
}

export interface MeshOptions {
  readonly host: string;
  /** 0 picks one. */
  readonly port: number;
  readonly credentials: MeshCredentials;
  /** Streams to and from nodes of this machine go over Unix sockets; both nodes must have it so. */
  readonly local?: boolean;
  /** How clients' connections go to nodes of this machine, where `local` is on; without it their streams do. */
  readonly handOver?: HandOver | undefined;
  readonly limits?: Partial<MeshLimits>;
  /** For tests of upgrades; what this build speaks otherwise. */
  readonly versions?: VersionRange;
}

/** One link, for status pages. */
export interface LinkStatus {
  readonly nodeId: string;
  readonly state: LinkState;
  readonly peer: LinkPeer | undefined;
  readonly queuedBytes: number;
  readonly roundTripMs: number | undefined;
}

export interface MeshStats {
  readonly counters: Readonly<WireCounters>;
  readonly links: { readonly up: number; readonly dialling: number; readonly apart: number };
  readonly queuedBytes: number;
  readonly strangers: number;
  readonly openStreams: number;
  readonly expectedStreams: number;
}
