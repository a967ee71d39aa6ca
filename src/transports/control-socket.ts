import type { WebSocket } from 'uWebSockets.js';
import type { ControlChannel } from '../relay/control-channel.ts';
import type { ControlSocket } from '../relay/ports.ts';
import type { Outbox } from './outbox.ts';
import type { SocketData, UpgradedSocket } from './upgraded-socket.ts';

export interface ControlSocketLimits {
  /** Bytes that may wait to be sent. */
  readonly queueBytesMax: number;
  /** Largest message that a listener may send. */
  readonly messageBytesMax: number;
}

/** A listener's control WebSocket: whole messages, which are small, through uWebSockets.js itself. */
export class ControlWebSocket implements ControlSocket, UpgradedSocket {
  readonly #outbox: Outbox;
  readonly #queueBytesMax: number;
  readonly #messageBytesMax: number;
  readonly #open: (socket: ControlSocket) => ControlChannel;
  #ws: WebSocket<SocketData> | undefined;
  #channel: ControlChannel | undefined;
  #queue: { readonly text: string; readonly body: Uint8Array | undefined }[] = [];
  #queuedBytes = 0;

  constructor(
    outbox: Outbox,
    limits: ControlSocketLimits,
    open: (socket: ControlSocket) => ControlChannel,
  ) {
    this.#outbox = outbox;
    this.#queueBytesMax = limits.queueBytesMax;
    this.#messageBytesMax = limits.messageBytesMax;
    this.#open = open;
  }

  opened(ws: WebSocket<SocketData>): void {
    this.#ws = ws;
    this.#channel = this.#open(this);
  }

  message(message: ArrayBuffer, isBinary: boolean): void {
    if (message.byteLength > this.#messageBytesMax) this.#channel?.tooBig();
    else if (isBinary) this.#channel?.binary(new Uint8Array(message));
    else this.#channel?.text(Buffer.from(message).toString());
  }

  drained(): void {}

  closed(code: number): void {
    this.#ws = undefined;
    this.#channel?.closed(code);
  }

  send(text: string, body?: Uint8Array): boolean {
    if (this.#ws === undefined) return false;
    // Characters stand for bytes here: JSON is nearly always ASCII, and this is a safety limit.
    const bytes = text.length + (body?.length ?? 0);
    // Bodies leave half of the room to messages without one: a body can go by rendezvous instead.
    const bytesMax = body === undefined ? this.#queueBytesMax : this.#queueBytesMax / 2;
    if (this.#ws.getBufferedAmount() + this.#queuedBytes + bytes > bytesMax) return false;
    this.#queuedBytes += bytes;
    this.#queue.push({ text, body });
    if (this.#queue.length === 1) this.#outbox.put(() => this.#flush());
    return true;
  }

  close(code: number, reason: string): void {
    this.#flush();
    this.#ws?.end(code, reason);
  }

  #flush(): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    const ws = this.#ws;
    ws?.cork(() => {
      for (const { text, body } of queue) {
        ws.send(text, false);
        if (body !== undefined) ws.send(body, true);
      }
    });
  }
}
