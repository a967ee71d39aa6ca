import {
  MESH_VERSIONS,
  type JsonRecord,
  type MeshMessage,
  type MeshRecord,
} from '../protocol/mesh-frames.ts';
import type { Channel } from '../relay/ports.ts';
import type { HandedStream } from './handed-stream.ts';
import { MeshKeys } from './mesh-credentials.ts';
import { dialMesh } from './mesh-dial.ts';
import { MeshDoor } from './mesh-door.ts';
import {
  acceptHandshake,
  dialHandshake,
  isNodeId,
  type HandshakeDeps,
  type LinkPeer,
} from './mesh-handshake.ts';
import { HAS_LOCAL_SOCKETS, handOverName, newLocalName } from './mesh-local.ts';
import { MeshLink, type DialOutcome, type MeshNode } from './mesh-link.ts';
import {
  MESH_DEFAULTS,
  type LinkStatus,
  type MeshDeps,
  type MeshLimits,
  type MeshOptions,
  type MeshStats,
} from './mesh-options.ts';
import type { MeshRefusal } from './mesh-refusals.ts';
import type { MeshStream } from './mesh-stream.ts';
import { MeshStreams, type Expectation } from './mesh-streams.ts';
import { WireCounters, type MeshReply } from './mesh-wire.ts';
import { RecordSocket, type HandshakeEnd } from './record-socket.ts';

/** A stranger's refusal is told once in this time for each reason: a port scan must not fill the log. */
const STRANGER_WARNING_INTERVAL_MS = 10_000;
const TOO_MANY_LINKS: HandshakeEnd = { reason: 'links-max', by: 'us' };

/**
 * This node's place among the others: a link to each that the directory names, and streams. `start` it
 * once, `close` it at the end.
 */
export class Mesh {
  readonly #deps: MeshDeps;
  readonly #options: MeshOptions;
  readonly #limits: MeshLimits;
  readonly #keys: MeshKeys;
  readonly #door: MeshDoor;
  readonly #streams: MeshStreams;
  readonly #counters = new WireCounters();
  readonly #links = new Map<string, MeshLink>();
  #known: ReadonlyMap<string, MeshNode> = new Map();
  readonly #warnedAtMs = new Map<string, number>();
  #stopWatching: () => void = () => {};
  #stopTaking: () => void = () => {};
  #port = 0;
  /** Of our Unix socket, once it is open. */
  #localName: string | undefined;
  #isClosed = false;

  /** Throws when the credentials or the node id will not do. */
  constructor(deps: MeshDeps, options: MeshOptions) {
    if (!isNodeId(deps.nodeId)) {
      throw new Error(
        `Cannot start the mesh: a node id has 1 to 64 letters, digits, ".", "_" or "-", got "${deps.nodeId}"`,
      );
    }
    this.#deps = deps;
    this.#options = options;
    this.#limits = { ...MESH_DEFAULTS, ...options.limits };
    this.#keys = new MeshKeys(options.credentials);
    const { clock, handlers, log, nodeId } = deps;
    this.#streams = new MeshStreams({
      clock,
      keys: this.#keys,
      limits: this.#limits,
      nodeId,
      onOpened: path => deps.meter.count('halfway_mesh_stream_paths_total', { path }),
      onFault: (from, fault) => {
        deps.meter.count('halfway_mesh_stream_faults_total', {});
        log.error({ event: 'MeshStreamBroken', node: from, fault }, 'mesh stream broken');
      },
    });
    this.#door = new MeshDoor(
      { clock, keys: this.#keys, limits: this.#limits },
      {
        arrived: (records, first) => this.#arrived(records, first),
        refused: (end, address) => this.#refused(end, { address }),
        failed: error => log.error({ err: error }, 'mesh port cannot accept'),
        bug: bug => handlers.bug(bug),
      },
    );
  }

  /** Opens the port and begins to dial. Rejects when the port cannot be had. */
  async start(): Promise<void> {
    const { host, port } = this.#options;
    const address = await this.#door.listen(host, port);
    this.#port = address.port;
    await this.#openLocal();
    this.#stopWatching = this.#deps.nodes.onChange(() => this.#nodesChanged());
    this.#nodesChanged();
  }

  /**
   * The Unix socket for nodes of this machine. Not with certificates: they are what proves who is there, and TLS
   * keeps streams from the native data plane whatever carries it.
   */
  async #openLocal(): Promise<void> {
    if (this.#options.local !== true || !HAS_LOCAL_SOCKETS || this.#keys.tls !== undefined) return;
    const name = newLocalName();
    try {
      await this.#door.listenLocal(name);
      this.#localName = name;
      const taken = (channel: Channel, record: Uint8Array): void => {
        const reason = this.#streams.acceptHanded(channel, record);
        if (reason !== undefined) this.#refused({ reason, by: 'us' }, { address: undefined });
      };
      this.#stopTaking = this.#options.handOver?.take(handOverName(name), taken) ?? (() => {});
    } catch (error) {
      const { log } = this.#deps;
      log.warn(
        { event: 'MeshLocalMissing', err: error },
        'no Unix socket for nodes of this machine',
      );
    }
  }

  /** The port that was bound. */
  get port(): number {
    return this.#port;
  }

  isUp(nodeId: string): boolean {
    return this.#links.get(nodeId)?.peer !== undefined;
  }

  /** False: nothing was sent: the link is down or its queue full, or the message is too long. */
  send(nodeId: string, message: MeshMessage): boolean {
    return this.#links.get(nodeId)?.send(message) ?? false;
  }

  /** Asks and waits. Never rejects. */
  request(nodeId: string, message: MeshMessage, timeoutMs: number): Promise<MeshReply> {
    const link = this.#links.get(nodeId);
    return link?.ask(message, timeoutMs) ?? Promise.resolve({ type: 'failed', why: 'down' });
  }

  /** Opens the stream that the other node expects under `key`. Rejects with a MeshStreamError. */
  async openStream(nodeId: string, key: string, head: JsonRecord = {}): Promise<MeshStream> {
    const node = this.#known.get(nodeId);
    return this.#counted('opens', this.#streams.open(node, key, head, this.#localNameOf(nodeId)));
  }

  /** Waits for another node to open the stream of `key`, once. Rejects with a MeshStreamError. */
  async expectStream(expectation: Expectation): Promise<MeshStream> {
    return this.#counted('expects', this.#streams.expect(expectation));
  }

  /** The same, or the connection that the other node gives in place of a stream. */
  async expectEither(expectation: Expectation): Promise<MeshStream | HandedStream> {
    return this.#counted('expects', this.#streams.expectEither(expectation));
  }

  /**
   * Gives a client's connection to a node of this machine that expects a stream under `key`: whatever comes of it is
   * that node's alone. False: it stays, untouched; open a stream.
   */
  async giveChannel(nodeId: string, key: string, channel: Channel): Promise<boolean> {
    const localName = this.#localNameOf(nodeId);
    const { handOver } = this.#options;
    if (localName === undefined || handOver === undefined) return false;
    return this.#streams.give(channel, key, { localName, handOver });
  }

  /** Rejects what is expected from this node alone, at once. */
  giveUpStreams(nodeId: string): void {
    this.#streams.giveUp(nodeId);
  }

  /** Undefined unless both have a Unix socket. Whether they are on one machine is found out by using it. */
  #localNameOf(nodeId: string): string | undefined {
    const theirs = this.#links.get(nodeId)?.peer?.localName;
    return this.#localName === undefined ? undefined : theirs;
  }

  links(): LinkStatus[] {
    return [...this.#links.values()].map(({ nodeId, state, peer, queuedBytes, roundTripMs }) => ({
      nodeId,
      state,
      peer,
      queuedBytes,
      roundTripMs,
    }));
  }

  /** Plain numbers, to be copied into metrics when they are read. */
  stats(): MeshStats {
    const links = { up: 0, dialling: 0, apart: 0 };
    let queuedBytes = 0;
    for (const link of this.#links.values()) {
      if (link.state.phase !== 'closed') links[link.state.phase] += 1;
      queuedBytes += link.queuedBytes;
    }
    return {
      counters: this.#counters,
      links,
      queuedBytes,
      strangers: this.#door.strangers,
      openStreams: this.#streams.openStreams,
      expectedStreams: this.#streams.expectedStreams,
    };
  }

  /** Says goodbye on all links, breaks all streams that are still ours, frees the port. Safe to call twice. */
  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    this.#stopWatching();
    for (const link of this.#links.values()) link.close('closing');
    this.#stopTaking();
    this.#streams.close();
    this.#door.close();
    return Promise.resolve();
  }

  #nodesChanged(): void {
    const known = new Map<string, MeshNode>();
    for (const node of this.#deps.nodes.nodes()) {
      if (node.nodeId !== this.#deps.nodeId) known.set(node.nodeId, node);
    }
    this.#known = known;
    for (const node of known.values()) {
      const link = this.#linkTo(node.nodeId);
      if (link === undefined) this.#refused(TOO_MANY_LINKS, { address: node.meshAddress });
      link?.know(node);
    }
    for (const link of this.#links.values()) {
      if (known.has(link.nodeId)) continue;
      link.know(undefined);
      this.#forgetGone(link);
    }
  }

  #linkTo(nodeId: string): MeshLink | undefined {
    const existing = this.#links.get(nodeId);
    if (existing !== undefined) return existing;
    if (this.#noRoomFor(nodeId) !== undefined) return undefined;
    const { clock, handlers, log, meter, random } = this.#deps;
    const link: MeshLink = new MeshLink(
      nodeId,
      { dials: this.#deps.nodeId < nodeId },
      {
        clock,
        random,
        log,
        limits: this.#limits,
        counters: this.#counters,
        dial: (node, signal) => this.#dial(node, signal),
        onMessage: (message, answer) => {
          try {
            handlers.message(nodeId, message, answer);
          } catch (bug) {
            handlers.bug(bug);
          }
        },
        onDrained: () => handlers.drained(nodeId),
        onRoundTrip: ms => meter.observe('halfway_mesh_round_trip_seconds', ms / 1_000, {}),
        onUp: peer => {
          meter.count('halfway_mesh_links_opened_total', {});
          handlers.up(nodeId, peer);
        },
        onDown: reason => {
          meter.count('halfway_mesh_link_ends_total', { reason });
          handlers.down(nodeId, reason);
          this.#forgetGone(link);
        },
        onRefused: end => this.#countRefusal(end),
      },
    );
    this.#links.set(nodeId, link);
    return link;
  }

  /** A node that the directory does not name and that does not speak to us is gone, and so are its streams. */
  #forgetGone(link: MeshLink): void {
    if (this.#known.has(link.nodeId) || link.peer !== undefined) return;
    if (this.#links.get(link.nodeId) === link) this.#links.delete(link.nodeId);
    link.close('removed');
    this.#streams.destroyFor(link.nodeId);
  }

  async #dial(node: MeshNode, signal: AbortSignal): Promise<DialOutcome> {
    const { clock } = this.#deps;
    const { connectTimeoutMs, handshakeTimeoutMs } = this.#limits;
    const dialled = await dialMesh(node.meshAddress, {
      clock,
      keys: this.#keys,
      timeoutMs: connectTimeoutMs,
      signal,
    });
    if ('ended' in dialled) return dialled;
    const { socket, fault } = dialled;
    const records = new RecordSocket(socket, clock);
    const cancel = clock.after(handshakeTimeoutMs, () => records.refuse('handshake-late'));
    const abort = (): void => void socket.destroy();
    signal.addEventListener('abort', abort);
    const outcome = await dialHandshake(records, node, this.#handshakeDeps());
    cancel();
    signal.removeEventListener('abort', abort);
    if ('peer' in outcome) return { socket, rest: records.release(), peer: outcome.peer };
    // TLS refuses us only after its own handshake seems done: then the socket knows why, not the records.
    const ended = outcome.ended.reason === 'closed' ? fault() : outcome.ended;
    if (!records.isRefused) socket.destroy();
    return { ...outcome, ended };
  }

  async #arrived(records: RecordSocket, first: MeshRecord): Promise<void> {
    const address = records.socket.remoteAddress;
    if (first.type === 'stream') {
      const reason = this.#streams.accept(records, first);
      if (reason !== undefined) this.#refused({ reason, by: 'us' }, { address });
      return;
    }
    if (this.#isClosed || first.type !== 'hello') {
      const end = records.refuse(this.#isClosed ? 'closing' : 'out-of-turn');
      this.#refused(end, { address });
      return;
    }
    const outcome = await acceptHandshake(records, first, {
      ...this.#handshakeDeps(),
      knownEpoch: nodeId => this.#known.get(nodeId)?.epoch,
      noRoom: nodeId => this.#noRoomFor(nodeId),
    });
    if ('peer' in outcome) {
      this.#joined(records, outcome.peer);
      return;
    }
    if (!records.isRefused) records.socket.destroy();
    this.#refused(outcome.ended, { address, node: outcome.nodeId });
  }

  #joined(records: RecordSocket, peer: LinkPeer): void {
    // It may come before the directory names it: its proof is enough.
    const link = this.#isClosed ? undefined : this.#linkTo(peer.nodeId);
    if (link === undefined) records.socket.destroy();
    else link.open({ socket: records.socket, rest: records.release(), peer });
  }

  #noRoomFor(nodeId: string): MeshRefusal | undefined {
    if (this.#isClosed) return 'closing';
    const isFull = this.#links.size >= this.#limits.linksMax;
    return isFull && !this.#links.has(nodeId) ? 'links-max' : undefined;
  }

  #handshakeDeps(): HandshakeDeps {
    const { nodeId, epoch } = this.#deps;
    const versions = this.#options.versions ?? MESH_VERSIONS;
    const us = { nodeId, epoch: epoch() };
    return { keys: this.#keys, versions, us, localName: this.#localName };
  }

  #refused(
    end: HandshakeEnd,
    who: { readonly address: string | undefined; readonly node?: string | undefined },
  ): void {
    this.#countRefusal(end);
    const { clock, log } = this.#deps;
    const lastMs = this.#warnedAtMs.get(end.reason);
    const isNews = lastMs === undefined || clock.nowMs() - lastMs >= STRANGER_WARNING_INTERVAL_MS;
    if (isNews) this.#warnedAtMs.set(end.reason, clock.nowMs());
    const { reason, by, detail } = end;
    log[isNews ? 'warn' : 'debug'](
      { event: 'MeshConnectionRefused', reason, by, detail, ...who },
      'mesh connection refused',
    );
  }

  #countRefusal({ reason, by }: HandshakeEnd): void {
    this.#deps.meter.count('halfway_mesh_refusals_total', { reason, by });
  }

  async #counted<Stream>(side: 'opens' | 'expects', stream: Promise<Stream>): Promise<Stream> {
    let result = 'failed';
    try {
      const opened = await stream;
      result = 'opened';
      return opened;
    } finally {
      this.#deps.meter.count('halfway_mesh_streams_opened_total', { side, result });
    }
  }
}
