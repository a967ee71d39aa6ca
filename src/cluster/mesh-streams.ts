// Streams: one for each rendezvous that crosses nodes. The node that expects it draws a key and gives it to the other
// over their link; the other opens the stream by a record that proves the key (stream-records.ts), and goes on with raw
// frames at once. Nothing is answered: a stream that is refused is cut. A stream goes over a connection of its own, or
// shares a trunk; between nodes of one machine the client's connection is given in its place, with the same record.
import type { Socket } from 'node:net';
import { assert } from '../base/assert.ts';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { encodeRecord, type JsonRecord, type MeshRecord } from '../protocol/mesh-frames.ts';
import type { Channel } from '../relay/ports.ts';
import { HandedStream, type HandOver } from './handed-stream.ts';
import type { MeshKeys } from './mesh-credentials.ts';
import type { MeshNode } from './mesh-link.ts';
import { handOverName } from './mesh-local.ts';
import { MESH_REFUSALS, type MeshRefusal } from './mesh-refusals.ts';
import { MeshStream } from './mesh-stream.ts';
import { MeshTrunks, type MakeTrunk } from './mesh-trunks.ts';
import type { RecordSocket } from './record-socket.ts';
import { StreamDial, type StreamPath } from './stream-dial.ts';
import {
  idIn,
  newStreamKey,
  proofIn,
  streamIdOf,
  StreamRecords,
  type Purpose,
} from './stream-records.ts';

export interface StreamLimits {
  readonly connectTimeoutMs: number;
  /** Streams that are open: each holds a socket. */
  readonly streamsMax: number;
  /** Streams that are expected and have not come. */
  readonly expectedStreamsMax: number;
}

/** A stream that did not come about. `reason` is for logs and metrics. */
export class MeshStreamError extends Error {
  override readonly name = 'MeshStreamError';
  readonly reason: MeshStreamFailure;

  constructor(reason: MeshStreamFailure, detail?: string) {
    super(`Cannot open a stream: ${detail ?? reason}`);
    this.reason = reason;
  }
}

/** `late`: it did not come in time. `aborted`: whoever wanted it does not any more. */
export type MeshStreamFailure =
  | 'unknown-node'
  | 'unreachable'
  | 'late'
  | 'aborted'
  | 'streams-max'
  | 'head-too-long'
  | 'closing';

interface Expected {
  readonly key: string;
  readonly from: string | undefined;
  readonly takesHanded: boolean;
  readonly settle: (outcome: MeshStream | HandedStream | MeshStreamError) => void;
}

export interface Expectation {
  readonly key: string;
  readonly from?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

const KEY = /^[0-9a-f]{32}$/;
/** Trunks are few: who makes more than this has reasons of its own. Beyond it the oldest are forgotten. */
const TRUNK_PROOFS_MAX = 10_000;

export interface StreamDeps {
  readonly clock: Clock;
  readonly keys: MeshKeys;
  readonly limits: StreamLimits;
  readonly nodeId: string;
  readonly onFault: (nodeId: string, fault: string) => void;
  /** A stream was opened from here. */
  readonly onOpened: (path: StreamPath) => void;
  /** Without it streams have a connection each. */
  readonly makeTrunk: MakeTrunk | undefined;
  /** What came on a trunk is refused. */
  readonly onRefused: (reason: MeshRefusal) => void;
}

/** Opens streams to other nodes, and matches those that come in with who expects them. */
export class MeshStreams {
  readonly #deps: StreamDeps;
  readonly #expected = new Map<string, Expected>();
  readonly #open = new Set<MeshStream>();
  readonly #records: StreamRecords;
  readonly #dial: StreamDial;
  readonly #trunks: MeshTrunks | undefined;
  #isClosed = false;
  /** Who has it may make a trunk to this process. Told to members over their links. */
  readonly trunkKey: string | undefined;
  readonly #trunkId: string;
  /** Of trunks that were made to this process: each is good once. */
  readonly #trunkProofs = new Set<string>();

  constructor(deps: StreamDeps) {
    this.#deps = deps;
    const { clock, keys, limits, makeTrunk, nodeId } = deps;
    this.#records = new StreamRecords(keys, nodeId);
    this.#dial = new StreamDial({ clock, keys, timeoutMs: limits.connectTimeoutMs });
    const isAble = makeTrunk !== undefined && keys.tls === undefined;
    this.trunkKey = isAble ? newStreamKey() : undefined;
    this.#trunkId = isAble ? streamIdOf(this.trunkKey ?? '') : '';
    this.#trunks = isAble
      ? new MeshTrunks(makeTrunk, (channel, record) => {
          const reason = this.#acceptChannel(channel, record, 'stream');
          if (reason !== undefined) deps.onRefused(reason);
        })
      : undefined;
  }

  /** With a connection of their own, or on a trunk. */
  get openStreams(): number {
    const { count = 0, streams = 0 } = this.#trunks ?? {};
    return this.#open.size - count + streams;
  }

  get expectedStreams(): number {
    return this.#expected.size;
  }

  /**
   * Waits for the stream that is opened with `key`, once: 128 random bits as `newStreamKey` draws them.
   * Rejects with a MeshStreamError. Only `from` may open it, when given.
   */
  async expect(expectation: Expectation): Promise<MeshStream> {
    const stream = await this.#expect(expectation, false);
    assert(stream instanceof MeshStream, 'only who takes connections is handed one');
    return stream;
  }

  /** The same, and the other node may hand over its client's connection instead. */
  expectEither(expectation: Expectation): Promise<MeshStream | HandedStream> {
    return this.#expect(expectation, true);
  }

  #expect(expectation: Expectation, takesHanded: boolean): Promise<MeshStream | HandedStream> {
    const { key, from, timeoutMs, signal } = expectation;
    if (!KEY.test(key)) throw new Error('A stream key must be 32 lower-case hex digits');
    const { clock, limits } = this.#deps;
    return new Promise((resolve, reject) => {
      const id = streamIdOf(key);
      let cancel: CancelTimer | undefined;
      const abort = (): void => settle(new MeshStreamError('aborted'));
      const settle: Expected['settle'] = outcome => {
        cancel?.();
        signal?.removeEventListener('abort', abort);
        if (this.#expected.get(id)?.settle === settle) this.#expected.delete(id);
        if (outcome instanceof MeshStreamError) reject(outcome);
        else resolve(outcome);
      };
      if (this.#isClosed) settle(new MeshStreamError('closing'));
      else if (signal?.aborted === true) abort();
      else if (this.#expected.size >= limits.expectedStreamsMax || this.#expected.has(id)) {
        settle(new MeshStreamError('streams-max'));
      } else {
        this.#expected.set(id, { key, from, takesHanded, settle });
        cancel = clock.after(timeoutMs, () => settle(new MeshStreamError('late')));
        signal?.addEventListener('abort', abort);
      }
    });
  }

  /** Whether the record of a fresh connection opens a stream; if not it has been refused for the reason. */
  accept(records: RecordSocket, record: MeshRecord): MeshRefusal | undefined {
    const reason = this.#admit(records, record);
    if (reason !== undefined) records.socket.destroy();
    return reason;
  }

  /**
   * Resolves as soon as frames may flow: connected, key sent. `localName`: the node's Unix socket, which is tried
   * first. Rejects with a MeshStreamError.
   */
  async open(
    node: MeshNode | undefined,
    key: string,
    head: JsonRecord,
    localName?: string,
  ): Promise<MeshStream> {
    const { stream, path } = await this.#connect(node, {
      key,
      purpose: 'stream',
      head,
      localName,
    });
    this.#deps.onOpened(path);
    return stream;
  }

  /**
   * The same on a trunk, which is made first if there is none. Undefined: it cannot be; `open` it. Rejects with a
   * MeshStreamError.
   */
  async openOnTrunk(
    node: MeshNode | undefined,
    key: string,
    to: { readonly trunkKey: string; readonly localName: string | undefined },
  ): Promise<Channel | undefined> {
    if (node === undefined || this.#trunks === undefined) return undefined;
    this.#checkRoom();
    const dial = async (): Promise<MeshStream> => {
      // Without a nonce all its records would be one, and one that is played back as good as the first.
      const head = { nonce: newStreamKey() };
      const { trunkKey: trunk, localName } = to;
      const way = { key: trunk, purpose: 'trunk', head, localName } as const;
      return (await this.#connect(node, way)).stream;
    };
    const record = this.#records.make(key, 'stream', {}, undefined);
    const channel = await this.#trunks.open(node.nodeId, record, dial);
    if (channel !== undefined) this.#deps.onOpened('trunk');
    return channel;
  }

  #checkRoom(): void {
    if (this.#isClosed) throw new MeshStreamError('closing');
    if (this.openStreams >= this.#deps.limits.streamsMax) {
      throw new MeshStreamError('streams-max', MESH_REFUSALS['streams-max']);
    }
  }

  async #connect(
    node: MeshNode | undefined,
    way: {
      readonly key: string;
      readonly purpose: Purpose;
      readonly head: JsonRecord;
      readonly localName: string | undefined;
    },
  ): Promise<{ readonly stream: MeshStream; readonly path: StreamPath }> {
    if (node === undefined) throw new MeshStreamError('unknown-node');
    this.#checkRoom();
    const { key, purpose, head, localName } = way;
    if (!this.#records.fits(head)) throw new MeshStreamError('head-too-long');
    const { path, ...dialled } = await this.#dial.dial(node, localName);
    if ('ended' in dialled) {
      const { reason, detail } = dialled.ended;
      throw new MeshStreamError('unreachable', `${node.meshAddress}: ${detail ?? reason}`);
    }
    const { socket } = dialled;
    if (this.#isClosed) {
      socket.destroy();
      throw new MeshStreamError('closing');
    }
    socket.write(encodeRecord('stream', this.#records.make(key, purpose, head, socket)));
    return { stream: this.#keep(socket, Buffer.alloc(0), node.nodeId, head), path };
  }

  /**
   * Gives a client's connection to the node that expects a stream under `key`, in place of one. False: it cannot be,
   * and nothing has happened; `open` one.
   */
  async give(
    channel: Channel,
    key: string,
    to: { readonly localName: string; readonly handOver: HandOver },
  ): Promise<boolean> {
    if (this.#isClosed) return false;
    const record = this.#records.make(key, 'handOver', {}, undefined);
    const isGiven = await to.handOver.give(channel, handOverName(to.localName), record);
    if (isGiven) this.#deps.onOpened('handed');
    return isGiven;
  }

  /** A connection that was given to this process; if it is not expected it has been cut for the reason. */
  acceptHanded(channel: Channel, record: Uint8Array): MeshRefusal | undefined {
    return this.#acceptChannel(channel, record, 'handOver');
  }

  #acceptChannel(channel: Channel, record: Uint8Array, purpose: Purpose): MeshRefusal | undefined {
    const admitted = this.#find(record, purpose, undefined);
    if (typeof admitted !== 'string' && admitted.expected.takesHanded) {
      const { expected, node, head } = admitted;
      expected.settle(new HandedStream(node, head, channel));
      return undefined;
    }
    channel.destroy();
    return typeof admitted === 'string' ? admitted : 'stream-unknown';
  }

  /** Breaks the streams with a node that is gone for good. Those whose socket was taken are not ours. */
  destroyFor(nodeId: string): void {
    this.#dial.forget(nodeId);
    this.#trunks?.destroyFor(nodeId);
    for (const stream of this.#open) if (stream.nodeId === nodeId) stream.destroy();
  }

  /** Final. */
  close(): void {
    this.#isClosed = true;
    for (const { settle } of this.#expected.values()) settle(new MeshStreamError('closing'));
    this.#trunks?.close();
    for (const stream of this.#open) stream.destroy();
  }

  #admit(records: RecordSocket, record: MeshRecord): MeshRefusal | undefined {
    if (this.#trunks !== undefined && idIn(record.payload) === this.#trunkId) {
      return this.#admitTrunk(records, record.payload);
    }
    const admitted = this.#find(record.payload, 'stream', records.socket);
    if (typeof admitted === 'string') return admitted;
    if (this.#open.size >= this.#deps.limits.streamsMax) return 'streams-max';
    const { expected, node, head } = admitted;
    expected.settle(this.#keep(records.socket, records.release(), node, head));
    return undefined;
  }

  #admitTrunk(records: RecordSocket, record: Uint8Array): MeshRefusal | undefined {
    if (this.#isClosed) return 'closing';
    const said = this.#records.read(record, 'trunk', this.trunkKey ?? '', records.socket);
    if (typeof said === 'string') return said;
    const proof = proofIn(record);
    if (this.#trunkProofs.has(proof)) return 'stream-unknown';
    this.#trunkProofs.add(proof);
    const [oldest] = this.#trunkProofs;
    if (oldest !== undefined && this.#trunkProofs.size > TRUNK_PROOFS_MAX) {
      this.#trunkProofs.delete(oldest);
    }
    const stream = this.#keep(records.socket, records.release(), said.node, said.head);
    this.#trunks?.take(stream);
    return undefined;
  }

  /** Who expects what comes with this record, and what it says; or why it is refused. */
  #find(
    record: Uint8Array,
    purpose: Purpose,
    socket: Socket | undefined,
  ):
    | { readonly expected: Expected; readonly node: string; readonly head: JsonRecord }
    | MeshRefusal {
    if (this.#isClosed) return 'closing';
    const expected = this.#expected.get(idIn(record));
    if (expected === undefined) return 'stream-unknown';
    const said = this.#records.read(record, purpose, expected.key, socket);
    if (typeof said === 'string') return said;
    if (said.node !== (expected.from ?? said.node)) return 'wrong-node';
    return { expected, ...said };
  }

  #keep(socket: Socket, rest: Buffer, nodeId: string, head: JsonRecord): MeshStream {
    const { clock, onFault } = this.#deps;
    const stream: MeshStream = new MeshStream(socket, rest, {
      clock,
      nodeId,
      head,
      onLeft: () => this.#open.delete(stream),
      onFault: fault => onFault(nodeId, fault),
    });
    this.#open.add(stream);
    return stream;
  }
}
