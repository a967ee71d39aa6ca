import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import {
  decodeRecord,
  encodeJson,
  encodeRecord,
  parseJsonRecord,
  type MeshRecord,
  type RecordType,
} from '../protocol/mesh-frames.ts';
import { isMeshRefusal, type MeshRefusal } from './mesh-refusals.ts';

/** Why no further record comes: what we refuse, what the peer refused, or the connection ended. */
export interface HandshakeEnd {
  readonly reason: MeshRefusal | 'closed' | 'unreachable';
  readonly by: 'us' | 'peer';
  /** What the peer added, made fit for a log. */
  readonly detail?: string;
}

/** How long a refused peer has to read why, before it is cut. */
const REFUSAL_LINGER_MS = 1_000;
const DETAIL_CHARACTERS_MAX = 200;
const NOTHING = Buffer.alloc(0);

/**
 * A fresh connection, on which records are exchanged until it is a link or a stream. Reads one record at
 * a time and holds no more than one receive besides: a stranger cannot make it grow.
 */
export class RecordSocket {
  readonly socket: Socket;
  readonly #clock: Clock;
  #refusal: HandshakeEnd | undefined;
  #input: Buffer = NOTHING;
  #end: HandshakeEnd | undefined;
  #waiting: ((next: MeshRecord | HandshakeEnd) => void) | undefined;
  readonly #onData = (chunk: Buffer): void => {
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    this.#settle();
  };
  readonly #onEnd = (): void => this.#finish({ reason: 'closed', by: 'peer' });

  constructor(socket: Socket, clock: Clock) {
    this.socket = socket;
    this.#clock = clock;
    socket.pause();
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onEnd);
  }

  /** The socket closes by itself, soon. */
  get isRefused(): boolean {
    return this.#refusal !== undefined;
  }

  send(type: RecordType, payload: Uint8Array): void {
    this.socket.write(encodeRecord(type, payload));
  }

  /** The next record, or why there is none. One call at a time. */
  next(): Promise<MeshRecord | HandshakeEnd> {
    return new Promise(resolve => {
      this.#waiting = resolve;
      this.#settle();
    });
  }

  /** Says no: the peer reads why, then the connection is closed. */
  refuse(reason: MeshRefusal, detail?: string): HandshakeEnd {
    if (this.#refusal !== undefined) return this.#refusal;
    const end: HandshakeEnd = { reason, by: 'us', ...(detail === undefined ? {} : { detail }) };
    this.#refusal = end;
    this.#input = NOTHING;
    this.#finish(end);
    this.#detach();
    if (this.socket.destroyed) return end;
    this.send('refused', encodeJson({ reason, detail }));
    this.socket.end();
    // Unread bytes at the moment of closing would make TCP throw away what was just written.
    this.socket.resume();
    const cancel = this.#clock.after(REFUSAL_LINGER_MS, () => this.socket.destroy());
    this.socket.once('end', () => this.socket.destroy());
    this.socket.once('close', cancel);
    return end;
  }

  /** Gives the socket away, paused, with the bytes that came behind the last record. */
  release(): Buffer {
    this.#detach();
    this.socket.pause();
    const rest = this.#input;
    this.#input = NOTHING;
    return rest;
  }

  #settle(): void {
    const resolve = this.#waiting;
    if (resolve === undefined) return;
    const decoded = decodeRecord(this.#input);
    if (typeof decoded === 'string') {
      this.refuse(decoded);
      return;
    }
    if (decoded === undefined) {
      if (this.#end === undefined) this.socket.resume();
      else this.#answer(this.#end);
      return;
    }
    this.socket.pause();
    this.#input = this.#input.subarray(decoded.bytesRead);
    const { record } = decoded;
    this.#answer(record.type === 'refused' ? refusalIn(record) : record);
  }

  #finish(end: HandshakeEnd): void {
    this.#end ??= end;
    this.#answer(this.#end);
  }

  #answer(next: MeshRecord | HandshakeEnd): void {
    const resolve = this.#waiting;
    this.#waiting = undefined;
    resolve?.(next);
  }

  #detach(): void {
    this.socket.off('data', this.#onData);
    this.socket.off('end', this.#onEnd);
    this.socket.off('close', this.#onEnd);
  }
}

/** A refusal comes from whoever answered, so nothing in it is believed to be what we would write. */
function refusalIn(record: MeshRecord): HandshakeEnd {
  const said = parseJsonRecord(record.payload);
  const reason = said?.['reason'];
  const detail = said?.['detail'];
  return {
    reason: typeof reason === 'string' && isMeshRefusal(reason) ? reason : 'malformed',
    by: 'peer',
    ...(typeof detail === 'string' ? { detail: forLog(detail) } : {}),
  };
}

function forLog(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, DETAIL_CHARACTERS_MAX);
}
