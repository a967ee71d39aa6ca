// Streams: one TCP connection for each rendezvous that crosses nodes. The node that expects it draws a
// key and gives it to the other over their link; the other opens the stream with its first bytes, and
// goes on with raw frames at once:
//
//     stream record: id (16 bytes) | proof (32 bytes) | JSON: node, head
//
// The id is a hash of the key, so that the key itself never travels on the stream; the proof is over key,
// node and head. Nothing is answered: a stream that is refused is cut.
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import {
  encodeJson,
  encodeRecord,
  parseJsonRecord,
  isJsonRecord,
  STREAM_RECORD_BYTES_MAX,
  type JsonRecord,
  type MeshRecord,
} from '../protocol/mesh-frames.ts';
import { isSameProof, type MeshKeys } from './mesh-credentials.ts';
import { dialMesh } from './mesh-dial.ts';
import type { MeshNode } from './mesh-link.ts';
import { MESH_REFUSALS, type MeshRefusal } from './mesh-refusals.ts';
import { MeshStream } from './mesh-stream.ts';
import type { RecordSocket } from './record-socket.ts';

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
  readonly settle: (outcome: MeshStream | MeshStreamError) => void;
}

const KEY = /^[0-9a-f]{32}$/;
const KEY_BYTES = 16;
const ID_BYTES = 16;
const PROOF_BYTES = 32;
const PROOF_LABEL = 'halfway mesh stream';

export interface StreamDeps {
  readonly clock: Clock;
  readonly keys: MeshKeys;
  readonly limits: StreamLimits;
  readonly nodeId: string;
  readonly onFault: (nodeId: string, fault: string) => void;
}

/** Opens streams to other nodes, and matches those that come in with who expects them. */
export class MeshStreams {
  readonly #deps: StreamDeps;
  readonly #expected = new Map<string, Expected>();
  readonly #open = new Set<MeshStream>();
  #isClosed = false;

  constructor(deps: StreamDeps) {
    this.#deps = deps;
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
  expect(expectation: {
    readonly key: string;
    readonly from?: string;
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
  }): Promise<MeshStream> {
    const { key, from, timeoutMs, signal } = expectation;
    if (!KEY.test(key)) throw new Error('A stream key must be 32 lower-case hex digits');
    const { clock, limits } = this.#deps;
    return new Promise((resolve, reject) => {
      const id = idOf(key);
      let cancel: CancelTimer | undefined;
      const abort = (): void => settle(new MeshStreamError('aborted'));
      const settle = (outcome: MeshStream | MeshStreamError): void => {
        cancel?.();
        signal?.removeEventListener('abort', abort);
        if (this.#expected.get(id)?.settle === settle) this.#expected.delete(id);
        if (outcome instanceof MeshStream) resolve(outcome);
        else reject(outcome);
      };
      if (this.#isClosed) settle(new MeshStreamError('closing'));
      else if (signal?.aborted === true) abort();
      else if (this.#expected.size >= limits.expectedStreamsMax || this.#expected.has(id)) {
        settle(new MeshStreamError('streams-max'));
      } else {
        this.#expected.set(id, { key, from, settle });
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

  /** Resolves as soon as frames may flow: connected, key sent. Rejects with a MeshStreamError. */
  async open(node: MeshNode | undefined, key: string, head: JsonRecord): Promise<MeshStream> {
    const { clock, keys, limits, nodeId } = this.#deps;
    if (node === undefined) throw new MeshStreamError('unknown-node');
    if (this.#isClosed) throw new MeshStreamError('closing');
    if (this.#open.size >= limits.streamsMax) {
      throw new MeshStreamError('streams-max', MESH_REFUSALS['streams-max']);
    }
    const said = encodeJson({ node: nodeId, head });
    if (ID_BYTES + PROOF_BYTES + said.length > STREAM_RECORD_BYTES_MAX) {
      throw new MeshStreamError('head-too-long');
    }
    const timeoutMs = limits.connectTimeoutMs;
    const dialled = await dialMesh(node.meshAddress, { clock, keys, timeoutMs });
    if ('ended' in dialled) {
      const { reason, detail } = dialled.ended;
      throw new MeshStreamError('unreachable', `${node.meshAddress}: ${detail ?? reason}`);
    }
    const { socket } = dialled;
    if (this.#isClosed) {
      socket.destroy();
      throw new MeshStreamError('closing');
    }
    const id = Buffer.from(idOf(key), 'hex');
    const proof = keys.proof(socket, PROOF_LABEL, key, id, said);
    socket.write(encodeRecord('stream', Buffer.concat([id, proof, said])));
    return this.#keep(socket, Buffer.alloc(0), node.nodeId, head);
  }

  /** Breaks the streams with a node that is gone for good. Those whose socket was taken are not ours. */
  destroyFor(nodeId: string): void {
    for (const stream of this.#open) if (stream.nodeId === nodeId) stream.destroy();
  }

  /** Final. */
  close(): void {
    this.#isClosed = true;
    for (const { settle } of this.#expected.values()) settle(new MeshStreamError('closing'));
    for (const stream of this.#open) stream.destroy();
  }

  #admit(records: RecordSocket, record: MeshRecord): MeshRefusal | undefined {
    const { keys, limits } = this.#deps;
    if (this.#isClosed) return 'closing';
    const id = record.payload.subarray(0, ID_BYTES);
    const proof = record.payload.subarray(ID_BYTES, ID_BYTES + PROOF_BYTES);
    const said = record.payload.subarray(ID_BYTES + PROOF_BYTES);
    const expected = this.#expected.get(Buffer.from(id).toString('hex'));
    if (expected === undefined) return 'stream-unknown';
    const due = keys.proof(records.socket, PROOF_LABEL, expected.key, id, said);
    // The right one may still come: somebody who guesses must not spoil it.
    if (!isSameProof(proof, due)) return 'stream-forged';
    const { node, head } = parseJsonRecord(said) ?? {};
    if (typeof node !== 'string' || !isJsonRecord(head)) return 'malformed';
    if (node !== (expected.from ?? node)) return 'wrong-node';
    if (this.#open.size >= limits.streamsMax) return 'streams-max';
    const rest = records.release();
    expected.settle(this.#keep(records.socket, rest, node, head));
    return undefined;
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

/** A key for one stream. A secret: not for logs. */
export function newStreamKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}

function idOf(key: string): string {
  return createHash('sha256')
    .update(key)
    .digest('hex')
    .slice(0, ID_BYTES * 2);
}
