// What nodes say to each other, as bytes: records while a connection is made, messages on a link. The
// kinds of messages and their heads are in mesh-messages.ts. Whatever changes here or there changes
// MESH_VERSIONS; a test holds the shapes to it.

/**
 * Versions of the mesh protocol that this build speaks, both inclusive. Two nodes use the greatest
 * that both speak, so a build must go on speaking its predecessor's: that is what lets a cluster be
 * upgraded one node at a time.
 */
export const MESH_VERSIONS = { min: 1, max: 2 } as const;

export interface VersionRange {
  readonly min: number;
  readonly max: number;
}

/** The greatest version that both speak; undefined when there is none. */
export function commonVersion(a: VersionRange, b: VersionRange): number | undefined {
  const version = Math.min(a.max, b.max);
  return version >= Math.max(a.min, b.min) ? version : undefined;
}

/** A JSON object, not yet checked for anything else. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** What a record is for. `stream` is the only one of a stream's connection; the others make a link. */
export const RECORD_TYPES = {
  hello: 1,
  challenge: 2,
  proof: 3,
  welcome: 4,
  refused: 5,
  stream: 16,
} as const;
export type RecordType = keyof typeof RECORD_TYPES;

/**
 * A record: one step in the making of a connection. Frozen for all versions, for versions are agreed
 * upon by records.
 *
 *      0             4        5              7
 *     +-------------+--------+--------------+----------------
 *     | magic "HWm" | type   | length (u16) | payload …
 *     |  and 0x01   | (u8)   |              |
 *     +-------------+--------+--------------+----------------
 */
export interface MeshRecord {
  readonly type: RecordType;
  /** A decoded one shares its memory with the bytes it was in. */
  readonly payload: Uint8Array;
}

const MAGIC = [0x48, 0x57, 0x6d, 0x01] as const;
const RECORD_HEADER_BYTES = 7;

/** Longest payload of a record of a link's making. */
export const RECORD_BYTES_MAX = 1_024;
/** Longest payload of a `stream` record, whose head the opener fills. */
export const STREAM_RECORD_BYTES_MAX = 16_384;

/** Why bytes are not what they should be. */
export type FrameFault = 'not-mesh' | 'oversized' | 'malformed';

export function encodeRecord(type: RecordType, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + payload.length);
  bytes.set(MAGIC);
  const view = new DataView(bytes.buffer);
  view.setUint8(4, RECORD_TYPES[type]);
  view.setUint16(5, payload.length);
  bytes.set(payload, RECORD_HEADER_BYTES);
  return bytes;
}

/** Reads one record at the start of `bytes`; undefined while bytes of it are missing. Never throws. */
export function decodeRecord(
  bytes: Uint8Array,
): { readonly record: MeshRecord; readonly bytesRead: number } | FrameFault | undefined {
  const magicBytes = Math.min(bytes.length, MAGIC.length);
  for (let i = 0; i < magicBytes; i += 1) if (bytes[i] !== MAGIC[i]) return 'not-mesh';
  if (bytes.length < RECORD_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_HEADER_BYTES);
  const type = RECORD_NAMES.get(view.getUint8(4));
  if (type === undefined) return 'malformed';
  const payloadBytes = view.getUint16(5);
  if (payloadBytes > (type === 'stream' ? STREAM_RECORD_BYTES_MAX : RECORD_BYTES_MAX)) {
    return 'oversized';
  }
  const bytesRead = RECORD_HEADER_BYTES + payloadBytes;
  if (bytes.length < bytesRead) return undefined;
  return { record: { type, payload: bytes.subarray(RECORD_HEADER_BYTES, bytesRead) }, bytesRead };
}

const RECORD_NAMES = new Map<number, RecordType>();
for (const [name, code] of Object.entries(RECORD_TYPES)) {
  if (isRecordType(name)) RECORD_NAMES.set(code, name);
}

function isRecordType(name: string): name is RecordType {
  return name in RECORD_TYPES;
}

/** How a message stands to others: it is for itself, wants an answer, or is one. */
export const ROLES = ['says', 'asks', 'answers'] as const;
export type MeshRole = (typeof ROLES)[number];

/** What is said on a link: a kind (see mesh-messages.ts), a JSON head, and bytes. */
export interface MeshMessage {
  readonly kind: number;
  readonly head: JsonRecord;
  /** Empty when there is none. A decoded body shares its memory with what was received with it. */
  readonly body: Uint8Array;
}

/**
 * A message as it travels on a link.
 *
 *      0        1              5        6                 10                14
 *     +--------+--------------+--------+-----------------+-----------------+----------+--------
 *     | kind   | length (u32) | role   | correlation     | head bytes      | head     | body
 *     | (u8)   | of the rest  | (u8)   | (u32)           | (u32)           | (JSON)   |
 *     +--------+--------------+--------+-----------------+-----------------+----------+--------
 *
 * The asking side numbers its questions as it likes; the answer carries the number back. 0 for `says`.
 */
export interface MeshFrame extends MeshMessage {
  readonly role: MeshRole;
  readonly correlation: number;
}

const MESSAGE_HEADER_BYTES = 14;
/** What `length` does not count: the kind, and itself. */
const UNCOUNTED_BYTES = 5;

/** Longest message, head and body together with all that `length` counts. */
export const MESH_MESSAGE_BYTES_MAX = 262_144;

const utf8 = new TextEncoder();
const utf8Strict = new TextDecoder('utf-8', { fatal: true });

/** Holds the start of one message at a time: a buffer for each would cost more than all the rest. */
const scratch = new Uint8Array(UNCOUNTED_BYTES + MESH_MESSAGE_BYTES_MAX);
const scratchView = new DataView(scratch.buffer);
const scratchHead = scratch.subarray(MESSAGE_HEADER_BYTES);

/**
 * A message's bytes up to its body, which goes right behind them; undefined when both together are longer
 * than MESH_MESSAGE_BYTES_MAX. Lent: they are good until the next call.
 */
export function encodeMeshFrame(
  message: MeshMessage,
  role: MeshRole,
  correlation: number,
): Uint8Array | undefined {
  const text = JSON.stringify(message.head);
  const { read, written: headBytes } = utf8.encodeInto(text, scratchHead);
  const length = MESSAGE_HEADER_BYTES - UNCOUNTED_BYTES + headBytes + message.body.length;
  if (read < text.length || length > MESH_MESSAGE_BYTES_MAX) return undefined;
  scratchView.setUint8(0, message.kind);
  scratchView.setUint32(1, length);
  scratchView.setUint8(5, ROLES.indexOf(role));
  scratchView.setUint32(6, correlation);
  scratchView.setUint32(10, headBytes);
  return scratch.subarray(0, MESSAGE_HEADER_BYTES + headBytes);
}

/** Cuts a link's bytes into messages, however they were cut on their way. */
export class MeshFrameDecoder {
  /** The start of a message that has not come whole; as long as that message, once its length is known. */
  #partial = new Uint8Array(MESSAGE_HEADER_BYTES);
  #have = 0;

  /**
   * Takes the next bytes and hands on the messages that they complete. Returns a fault when they are
   * none of ours: nothing after it can be understood. Never throws by itself.
   */
  push(bytes: Uint8Array, onFrame: (frame: MeshFrame) => void): FrameFault | undefined {
    let offset = 0;
    while (offset < bytes.length) {
      if (this.#have === 0) {
        const frameBytes = frameBytesAt(bytes, offset);
        if (typeof frameBytes === 'string') return frameBytes;
        if (frameBytes !== undefined && offset + frameBytes <= bytes.length) {
          const frame = decodeWhole(bytes.subarray(offset, offset + frameBytes));
          if (frame === undefined) return 'malformed';
          offset += frameBytes;
          onFrame(frame);
          continue;
        }
        this.#partial = new Uint8Array(frameBytes ?? MESSAGE_HEADER_BYTES);
      }
      const taken = Math.min(this.#partial.length - this.#have, bytes.length - offset);
      this.#partial.set(bytes.subarray(offset, offset + taken), this.#have);
      this.#have += taken;
      offset += taken;
      if (this.#have < this.#partial.length) return undefined;
      const frameBytes = frameBytesAt(this.#partial, 0);
      if (typeof frameBytes !== 'number') return frameBytes ?? 'malformed';
      if (frameBytes > this.#partial.length) {
        const longer = new Uint8Array(frameBytes);
        longer.set(this.#partial);
        this.#partial = longer;
        continue;
      }
      const frame = decodeWhole(this.#partial);
      this.#have = 0;
      if (frame === undefined) return 'malformed';
      onFrame(frame);
    }
    return undefined;
  }
}

/** Length of the message at `offset`; undefined while its header is not whole. */
function frameBytesAt(bytes: Uint8Array, offset: number): number | FrameFault | undefined {
  if (offset + MESSAGE_HEADER_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, MESSAGE_HEADER_BYTES);
  const length = view.getUint32(1);
  if (length > MESH_MESSAGE_BYTES_MAX) return 'oversized';
  const headBytes = view.getUint32(10);
  return length < MESSAGE_HEADER_BYTES - UNCOUNTED_BYTES + headBytes
    ? 'malformed'
    : UNCOUNTED_BYTES + length;
}

function decodeWhole(bytes: Uint8Array): MeshFrame | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, MESSAGE_HEADER_BYTES);
  const role = ROLES[view.getUint8(5)];
  const headEnd = MESSAGE_HEADER_BYTES + view.getUint32(10);
  const head = parseJsonRecord(bytes.subarray(MESSAGE_HEADER_BYTES, headEnd));
  if (role === undefined || head === undefined) return undefined;
  return {
    kind: view.getUint8(0),
    role,
    correlation: view.getUint32(6),
    head,
    body: bytes.subarray(headEnd),
  };
}

/** The JSON object that `bytes` hold, or undefined. Never throws. */
export function parseJsonRecord(bytes: Uint8Array): JsonRecord | undefined {
  try {
    const value: unknown = JSON.parse(utf8Strict.decode(bytes));
    return isJsonRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function isJsonRecord(value: unknown): value is JsonRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function encodeJson(head: JsonRecord): Uint8Array {
  return utf8.encode(JSON.stringify(head));
}
