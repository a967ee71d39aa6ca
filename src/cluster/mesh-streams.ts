// Streams: one for each rendezvous that crosses nodes. The node that expects it draws a key and gives it to the other
// over their link; the other opens the stream by a record that proves the key (stream-records.ts), and goes on with raw
// frames at once. Nothing is answered: a stream that is refused is cut. Between nodes of one machine the client's
// connection is given in its place, with the same record.
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
import type { RecordSocket } from './record-socket.ts';
import { StreamDial, type StreamPath } from './stream-dial.ts';
import { idIn, streamIdOf, StreamRecords, type Purpose } from './stream-records.ts';

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

/** `late`: it did not come in time. `aborted`: whoever wanted it does not any more. `link-down`: see `giveUp`. */
export type MeshStreamFailure =
  | 'unknown-node'
  | 'unreachable'
  | 'late'
  | 'aborted'
  | 'link-down'
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

export interface StreamDeps {
  readonly clock: Clock;
  readonly keys: MeshKeys;
  readonly limits: StreamLimits;
  readonly nodeId: string;
  readonly onFault: (nodeId: string, fault: string) => void;
  /** A stream was opened from here. */
  readonly onOpened: (path: StreamPath) => void;
}

/** Opens streams to other nodes, and matches those that come in with who expects them. */
export class MeshStreams {
  readonly #deps: StreamDeps;
  readonly #expected = new Map<string, Expected>();
  readonly #open = new Set<MeshStream>();
  readonly #records: StreamRecords;
  readonly #dial: StreamDial;
  #isClosed = false;

  constructor(deps: StreamDeps) {
    this.#deps = deps;
    const { clock, keys, limits, nodeId } = deps;
    this.#records = new StreamRecords(keys, nodeId);
    this.#dial = new StreamDial({ clock, keys, timeoutMs: limits.connectTimeoutMs });
  }

  get openStreams(): number {
    return this.#open.size;
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
    if (node === undefined) throw new MeshStreamError('unknown-node');
    this.#checkRoom();
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
    socket.write(encodeRecord('stream', this.#records.make(key, 'stream', head, socket)));
    this.#deps.onOpened(path);
    return this.#keep(socket, Buffer.alloc(0), node.nodeId, head);
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
    const admitted = this.#find(record, 'handOver', undefined);
    if (typeof admitted !== 'string' && admitted.expected.takesHanded) {
      const { expected, node, head } = admitted;
      expected.settle(new HandedStream(node, head, channel));
      return undefined;
    }
    channel.destroy();
    return typeof admitted === 'string' ? admitted : 'stream-unknown';
  }

  /** Expects nothing from this node any more that it had to open: it is unlikely to come, and others can be asked. */
  giveUp(nodeId: string): void {
    for (const { from, settle } of this.#expected.values()) {
      if (from === nodeId) settle(new MeshStreamError('link-down'));
    }
  }

  /** Breaks the streams with a node that is gone for good. Those whose socket was taken are not ours. */
  destroyFor(nodeId: string): void {
    this.#dial.forget(nodeId);
    for (const stream of this.#open) if (stream.nodeId === nodeId) stream.destroy();
  }

  /** Final. */
  close(): void {
    this.#isClosed = true;
    for (const { settle } of this.#expected.values()) settle(new MeshStreamError('closing'));
    for (const stream of this.#open) stream.destroy();
  }

  #checkRoom(): void {
    if (this.#isClosed) throw new MeshStreamError('closing');
    if (this.#open.size >= this.#deps.limits.streamsMax) {
      throw new MeshStreamError('streams-max', MESH_REFUSALS['streams-max']);
    }
  }

  #admit(records: RecordSocket, record: MeshRecord): MeshRefusal | undefined {
    const admitted = this.#find(record.payload, 'stream', records.socket);
    if (typeof admitted === 'string') return admitted;
    if (this.#open.size >= this.#deps.limits.streamsMax) return 'streams-max';
    const { expected, node, head } = admitted;
    expected.settle(this.#keep(records.socket, records.release(), node, head));
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
