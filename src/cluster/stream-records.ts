// What comes first on a stream, and with a connection that is handed over:
//
//     id (16 bytes) | proof (32 bytes) | JSON: node, head
//
// The id is a hash of the key, so that the key itself never travels with it; the proof is over key, node and head, and
// over what it is for.
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import {
  encodeJson,
  isJsonRecord,
  parseJsonRecord,
  STREAM_RECORD_BYTES_MAX,
  type JsonRecord,
} from '../protocol/mesh-frames.ts';
import { isSameProof, type MeshKeys } from './mesh-credentials.ts';
import type { MeshRefusal } from './mesh-refusals.ts';

/** What a record is for; one for another purpose proves nothing. */
export const PURPOSES = {
  stream: 'halfway mesh stream',
  handOver: 'halfway mesh hand-over',
} as const;
export type Purpose = keyof typeof PURPOSES;

const KEY_BYTES = 16;
const ID_BYTES = 16;
const PROOF_BYTES = 32;

/** A key for one stream: 128 random bits. A secret: not for logs. */
export function newStreamKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}

export function streamIdOf(key: string): string {
  return createHash('sha256')
    .update(key)
    .digest('hex')
    .slice(0, ID_BYTES * 2);
}

/** The id of a record, as hex digits. Empty or short when it is none. */
export function idIn(record: Uint8Array): string {
  return Buffer.from(record.subarray(0, ID_BYTES)).toString('hex');
}

/** Makes records in the name of a node, and reads those of others. */
export class StreamRecords {
  readonly #keys: MeshKeys;
  readonly #nodeId: string;

  constructor(keys: MeshKeys, nodeId: string) {
    this.#keys = keys;
    this.#nodeId = nodeId;
  }

  /** `socket`: the connection that it goes over and that nothing else does; its proof is good for that one alone. */
  make(key: string, purpose: Purpose, head: JsonRecord, socket: Socket | undefined): Buffer {
    const id = Buffer.from(streamIdOf(key), 'hex');
    const said = encodeJson({ node: this.#nodeId, head });
    return Buffer.concat([id, this.#keys.proof(socket, PURPOSES[purpose], key, id, said), said]);
  }

  /** Whether a record with this head is short enough. */
  fits(head: JsonRecord): boolean {
    const said = encodeJson({ node: this.#nodeId, head });
    return ID_BYTES + PROOF_BYTES + said.length <= STREAM_RECORD_BYTES_MAX;
  }

  /** What a record says that a member made with `key`; or why it is not believed. */
  read(
    record: Uint8Array,
    purpose: Purpose,
    key: string,
    socket: Socket | undefined,
  ): { readonly node: string; readonly head: JsonRecord } | MeshRefusal {
    const id = record.subarray(0, ID_BYTES);
    const proof = record.subarray(ID_BYTES, ID_BYTES + PROOF_BYTES);
    const said = record.subarray(ID_BYTES + PROOF_BYTES);
    const due = this.#keys.proof(socket, PURPOSES[purpose], key, id, said);
    // The right one may still come: somebody who guesses must not spoil it.
    if (!isSameProof(proof, due)) return 'stream-forged';
    const { node, head } = parseJsonRecord(said) ?? {};
    return typeof node === 'string' && isJsonRecord(head) ? { node, head } : 'malformed';
  }
}
