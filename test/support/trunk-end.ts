import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Frames of native/src/trunk.h. */
export const TRUNK = { open: 1, data: 2, fin: 3, reset: 4, credit: 5 } as const;
export const STREAM_WINDOW_BYTES = 1 << 20;
const HEADER_BYTES = 8;
const CREDIT_STEP_BYTES = STREAM_WINDOW_BYTES / 4;

export function trunkFrame(
  stream: number,
  type: number,
  payload: Uint8Array = new Uint8Array(0),
): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(stream, 0);
  header.writeUInt32BE(((type << 24) | payload.length) >>> 0, 4);
  return Buffer.concat([header, payload]);
}

/** The node at the far end of a trunk, which opens the streams: in JavaScript, and by the book. */
export class TrunkEnd {
  readonly socket: Socket;
  readonly #streams = new Map<number, TrunkStream>();
  #last = 0;
  #input: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.destroy();
    });
  }

  open(record: Uint8Array): TrunkStream {
    this.#last += 1;
    const stream = new TrunkStream(this, this.#last);
    this.#streams.set(this.#last, stream);
    this.say(this.#last, TRUNK.open, record);
    return stream;
  }

  say(stream: number, type: number, payload?: Uint8Array): void {
    this.socket.write(trunkFrame(stream, type, payload));
  }

  forget(stream: number): void {
    this.#streams.delete(stream);
  }

  #take(bytes: Buffer): void {
    this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
    while (this.#input.length >= HEADER_BYTES) {
      const length = this.#input.readUInt32BE(4) & 0xff_ffff;
      if (this.#input.length < HEADER_BYTES + length) return;
      const [id, type] = [this.#input.readUInt32BE(0), this.#input.readUInt8(4)];
      const payload = this.#input.subarray(HEADER_BYTES, HEADER_BYTES + length);
      this.#input = this.#input.subarray(HEADER_BYTES + length);
      this.#streams.get(id)?.heard(type, payload);
    }
  }
}

/** One stream, as a socket of Node as far as tests use it. */
export class TrunkStream extends Duplex {
  /** As of a TCP socket: there is a way to be rude. */
  readonly remotePort = 1;
  /** What `write` was given, as Socket counts it. */
  bytesWritten = 0;
  readonly localPort = 1;
  readonly #trunk: TrunkEnd;
  readonly #id: number;
  #credit = STREAM_WINDOW_BYTES;
  #owed = 0;
  #waiting: { bytes: Buffer; taken: () => void } | undefined;

  constructor(trunk: TrunkEnd, id: number) {
    super({ allowHalfOpen: true, emitClose: true });
    this.#trunk = trunk;
    this.#id = id;
  }

  resetAndDestroy(): this {
    this.destroy();
    return this;
  }

  heard(type: number, payload: Buffer): void {
    if (type === TRUNK.credit) {
      this.#credit += payload.readUInt32BE(0);
      this.#flush();
    } else if (type === TRUNK.fin) this.push(null);
    else if (type === TRUNK.reset) this.destroy();
    else {
      this.#owed += payload.length;
      if (this.push(Buffer.from(payload))) this.#grant();
    }
  }

  override _read(): void {
    this.#grant();
  }

  override _write(bytes: Buffer, _encoding: unknown, taken: () => void): void {
    this.bytesWritten += bytes.length;
    this.#waiting = { bytes, taken };
    this.#flush();
  }

  override _final(done: () => void): void {
    this.#trunk.say(this.#id, TRUNK.fin);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.readableEnded || !this.writableFinished) {
      if (!this.#trunk.socket.destroyed) this.#trunk.say(this.#id, TRUNK.reset);
    }
    this.#trunk.forget(this.#id);
    done(error);
  }

  #grant(): void {
    if (this.#owed < CREDIT_STEP_BYTES) return;
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(this.#owed);
    this.#owed = 0;
    this.#trunk.say(this.#id, TRUNK.credit, bytes);
  }

  #flush(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || this.#credit === 0) return;
    const part = waiting.bytes.subarray(0, this.#credit);
    this.#credit -= part.length;
    this.#trunk.say(this.#id, TRUNK.data, part);
    waiting.bytes = waiting.bytes.subarray(part.length);
    if (waiting.bytes.length > 0) return;
    this.#waiting = undefined;
    waiting.taken();
  }
}
