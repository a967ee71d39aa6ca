import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { MESH_VERSIONS } from '../protocol/mesh-frames.ts';
import { isSpokenAt, meshMessage } from '../protocol/mesh-messages.ts';
import type { Channel, Meter, Randomness } from '../relay/ports.ts';
import type { HandOver } from './handed-stream.ts';
import type { ListenerDirectory, NodeRecord } from './listener-directory.ts';
import type { MeshCredentials } from './mesh-credentials.ts';
import { Mesh } from './mesh.ts';
import type { MeshStream } from './mesh-stream.ts';
import { PollHops } from './poll-hops.ts';
import { RelayNode } from './relay-node.ts';
import { UnlinkedNodes } from './unlinked-nodes.ts';

export interface ClusterOptions {
  readonly nodeId: string;
  readonly listenersMax: number;
  /** How long a node holds a poll of a long-poll session. */
  readonly pollHoldMs: number;
  readonly mesh: {
    readonly host: string;
    /** 0 picks one. */
    readonly port: number;
    /** `host` or `host:port` at which other nodes reach the mesh port; without a port the bound one. */
    readonly advertise: string;
    readonly credentials: MeshCredentials;
    /** Whether streams to nodes of this machine may pass by the mesh port, over Unix sockets. */
    readonly local: boolean;
    readonly handOver: HandOver | undefined;
  };
}

export interface ClusterDeps {
  readonly clock: Clock;
  readonly random: Randomness;
  readonly log: Logger;
  readonly meter: Meter;
  /** Opens the directory for a node that others reach at `meshAddress`. */
  readonly openDirectory: (node: {
    readonly node: string;
    readonly meshAddress: string;
    readonly versions: { readonly min: number; readonly max: number };
  }) => ListenerDirectory;
  readonly channelOf: (stream: MeshStream) => Channel | undefined;
  readonly joinHop: (rendezvous: Channel, stream: Channel) => void;
  readonly reportBug: (bug: unknown) => void;
}

export interface OpenCluster {
  readonly node: RelayNode;
  /** The way to long-poll sessions of other nodes, and theirs to ours. */
  readonly polls: PollHops;
  readonly directory: ListenerDirectory;
  readonly mesh: Mesh;
  /** What keeps this node from working with all others; empty when all is well. */
  degradedReasons(): readonly string[];
  /** Leaves the cluster: its listeners vanish from the directory, its links say goodbye. Safe to call twice. */
  close(): Promise<void>;
}

/** The cluster cannot be joined; the message says what to do. */
export class ClusterError extends Error {
  override readonly name = 'ClusterError';
}

const TAG_CHARS = 8;
const NO_EPOCH = `${'0'.repeat(32)}.0`;

/**
 * Opens the mesh port, takes the node's lease, and begins to link. Rejects with `ClusterError` when the
 * port cannot be had, or the directory refuses this node: another one has its id, or what is at Redis is
 * not a directory. A Redis that is away is no reason: the node works alone until it comes.
 */
export async function openCluster(
  options: ClusterOptions,
  deps: ClusterDeps,
): Promise<OpenCluster> {
  const { clock, random, log, meter, reportBug, channelOf, joinHop } = deps;
  const { nodeId, listenersMax } = options;
  let directory: ListenerDirectory | undefined;
  const opened = (): ListenerDirectory => {
    if (directory === undefined) throw new Error('The directory is not open yet');
    return directory;
  };
  let node: RelayNode | undefined;
  const nodesByTag = new Map<string, string>();
  const nodeOfTag = (tag: string): string | undefined => nodesByTag.get(tag);
  const known = (): readonly NodeRecord[] => [
    ...(directory?.nodes() ?? []),
    ...(node?.lingeringNodes() ?? []),
  ];
  const mesh = new Mesh(
    {
      clock,
      random,
      log,
      meter,
      nodeId,
      // Whoever comes before we have a lease is refused, and comes again.
      epoch: () => directory?.self().epoch ?? NO_EPOCH,
      nodes: {
        nodes: () => known().map(meshNodeOf),
        onChange: listener => {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      },
      handlers: {
        message: (from, message, answer) => {
          if (!polls.said(message, answer)) node?.said(from, message, answer);
        },
        up: (from, { version }) => {
          unlinked.linked(from);
          if (isSpokenAt('listeners', version)) directory?.announcements.linkUp(from);
        },
        down: from => {
          if (directory?.node(from) !== undefined) unlinked.joined(from);
          node?.linkDown(from);
          directory?.announcements.linkDown(from);
        },
        drained: from => directory?.announcements.drained(from),
        bug: reportBug,
      },
    },
    {
      host: options.mesh.host,
      port: options.mesh.port,
      credentials: options.mesh.credentials,
      local: options.mesh.local,
      handOver: options.mesh.handOver,
    },
  );
  const polls = new PollHops({ mesh, nodeOfTag, holdMs: options.pollHoldMs });
  const listeners = new Set<() => void>();
  const unlinked = new UnlinkedNodes(clock);
  try {
    await mesh.start();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ClusterError(`Cannot open the mesh port: ${why}. Choose another with --mesh-port`, {
      cause,
    });
  }
  directory = deps.openDirectory({
    node: nodeId,
    meshAddress: advertised(options.mesh.advertise, mesh.port),
    versions: MESH_VERSIONS,
  });
  directory.announcements.sendThrough((to, announcement) =>
    mesh.send(to, meshMessage('listeners', { ...announcement })),
  );
  const nodesChanged = (): void => {
    nodesByTag.clear();
    for (const one of known()) nodesByTag.set(tagOf(one.node), one.node);
    for (const listener of listeners) listener();
  };
  node = new RelayNode({
    directory,
    mesh,
    clock,
    onLingering: nodesChanged,
    random,
    log,
    listenersMax,
    nodeTag: tagOf(nodeId),
    nodeOfTag,
    channelOf,
    joinHop,
  });
  // Behind the node's own observer, which says who lingers.
  directory.observe(event => {
    if (event.type.startsWith('node-') || event.type.startsWith('lease-')) nodesChanged();
    if (event.type === 'node-joined' && !mesh.isUp(event.node.node)) {
      unlinked.joined(event.node.node);
    }
    if (event.type === 'node-gone') unlinked.gone(event.node.node);
    logEvent(log, event);
  });
  const joined = await directory.join();
  if (joined.type === 'refused') {
    await directory.leave();
    await mesh.close();
    throw new ClusterError(joined.message);
  }
  if (joined.type === 'alone') log.warn({ event: 'ClusterAlone' }, joined.message);
  nodesChanged();
  return {
    node,
    polls,
    directory,
    mesh,
    degradedReasons: () => [
      ...opened().degradedReasons(),
      ...unlinked.names().map(name => `no mesh link to ${name}`),
    ],
    close: async () => {
      await opened().leave();
      await mesh.close();
    },
  };
}

/** Names a node in the ids it makes. Short, and no secret. */
function tagOf(nodeId: string): string {
  return createHash('sha256').update(nodeId).digest('hex').slice(0, TAG_CHARS);
}

function meshNodeOf({ node, epoch, meshAddress }: NodeRecord): {
  readonly nodeId: string;
  readonly epoch: string;
  readonly meshAddress: string;
} {
  return { nodeId: node, epoch, meshAddress };
}

function advertised(advertise: string, boundPort: number): string {
  const hasPort = /:\d+$/.test(advertise) && !advertise.endsWith(']');
  return hasPort ? advertise : `${advertise}:${boundPort}`;
}

function logEvent(
  log: Logger,
  event: Parameters<Parameters<ListenerDirectory['observe']>[0]>[0],
): void {
  switch (event.type) {
    case 'node-joined':
      log.info({ event: 'NodeJoined', peer: event.node.node }, 'node joined');
      return;
    case 'node-gone':
      log.warn({ event: 'NodeGone', peer: event.node.node, reason: event.why }, 'node gone');
      return;
    case 'lease-lost':
      log.error({ event: 'LeaseLost' }, 'lease lost: listeners here are written again');
      return;
    case 'degraded':
      log.warn({ event: 'ClusterDegraded', reasons: event.reasons }, 'cluster degraded');
      return;
    case 'healthy':
      log.info({ event: 'ClusterHealthy' }, 'cluster healthy');
      return;
    case 'warning':
      log.warn({ event: 'ClusterWarning' }, event.message);
      return;
    default:
  }
}
