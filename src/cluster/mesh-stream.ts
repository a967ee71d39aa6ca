import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import type { JsonRecord } from '../protocol/mesh-frames.ts';
import { MeshChannel } from './mesh-channel.ts';

export interface StreamOptions {
  readonly clock: Clock;
  readonly nodeId: string;
  readonly head: JsonRecord;
  /** It is closed, or somebody took the socket. */
  readonly onLeft: () => void;
  /** The other node sent what are no frames. */
  readonly onFault: (fault: string) => void;
}

/**
 * A connection of its own to another node, for one rendezvous: unmasked WebSocket frames both ways from
 * the first byte. Nothing is read until somebody takes it, in one of two ways, once.
 */
export class MeshStream {
  /** The node at the other end. */
  readonly nodeId: string;
  /** What the opener sent with its key. */
  readonly head: JsonRecord;
  readonly #socket: Socket;
  readonly #options: StreamOptions;
  #rest: Buffer;
  #isTaken = false;
  #cut: (() => void) | undefined;
  readonly #leave = (): void => this.#options.onLeft();

  constructor(socket: Socket, rest: Buffer, options: StreamOptions) {
    this.#socket = socket;
    this.#rest = rest;
    this.#options = options;
    this.nodeId = options.nodeId;
    this.head = options.head;
    socket.pause();
    socket.once('close', this.#leave);
  }

  /**
   * For a data plane below JavaScript: the socket and the bytes of frames that were read already. From
   * here on it belongs to the caller, who duplicates the descriptor and destroys this one; Node reads no
   * more of it. Until the caller calls `left` the stream counts as open, and is cut by `cut` when the other
   * node is gone for good; without `cut` it is left at once. Undefined: on TLS, where the bytes are not what
   * the descriptor gives; while Node has still to send some; when it is gone; or when it was taken.
   */
  takeSocket(
    cut?: () => void,
  ): { readonly socket: Socket; readonly head: Buffer; readonly left: () => void } | undefined {
    const socket = this.#socket;
    if (this.#isTaken || socket.destroyed || socket instanceof TLSSocket) return undefined;
    if (socket.writableLength > 0) return undefined;
    this.#isTaken = true;
    this.#cut = cut;
    const waiting: unknown = socket.read();
    stopReading(socket);
    const head = Buffer.isBuffer(waiting) ? Buffer.concat([this.#rest, waiting]) : this.#rest;
    this.#rest = Buffer.alloc(0);
    socket.off('close', this.#leave);
    if (cut === undefined) this.#leave();
    return { socket, head, left: this.#leave };
  }

  /** As the relay's Channel, in JavaScript. Undefined when it was taken. */
  channel(): MeshChannel | undefined {
    if (this.#isTaken) return undefined;
    this.#isTaken = true;
    return new MeshChannel(this.#socket, this.#rest, this.#options);
  }

  /** Cuts it. Safe to call twice, and after the channel or the socket was taken. */
  destroy(): void {
    if (this.#cut === undefined) this.#socket.destroy();
    else this.#cut();
  }
}

/**
 * A paused socket of Node goes on reading until its buffer is full. There is no public way to stop it at
 * once, and whoever has the descriptor would miss what was read. Nothing public starts it again, either.
 */
function stopReading(socket: Socket): void {
  socket.pause();
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null || !('readStop' in handle)) return;
  if (typeof handle.readStop === 'function') handle.readStop();
}
