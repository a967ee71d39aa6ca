import type { WebSocket } from 'uWebSockets.js';
import { FRAGMENT_BYTES_MAX } from '../protocol/frame-relay.ts';
import { OPCODE, type Channel, type ChannelReceiver, type DataOpcode } from '../relay/ports.ts';
import type { SocketData, UpgradedSocket } from './upgraded-socket.ts';

/** Calls of uWebSockets.js that its types do not know. */
interface FragmentCalls {
  sendFirstFragment(message: Uint8Array, isBinary: boolean): number;
  sendFragment(message: Uint8Array): number;
  sendLastFragment(message: Uint8Array): number;
}

type MessageWebSocket = WebSocket<SocketData> & FragmentCalls;

interface HeldMessage {
  readonly isBinary: boolean;
  readonly payload: Uint8Array;
}

/**
 * The degraded way, where the native data plane is missing: whole messages through uWebSockets.js.
 * It cannot stop a socket from being read, so what arrives while the core holds back is queued, and
 * an overflowing queue closes the channel with 1011. A Close is answered by uWebSockets.js at once:
 * there is no half-close. Pings are answered here and do not cross.
 */
export class MessageChannel implements Channel, UpgradedSocket {
  readonly #queueBytesMax: number;
  readonly #onChannel: (channel: Channel) => void;
  readonly #onOverflow: () => void;
  #ws: MessageWebSocket | undefined;
  #receiver: ChannelReceiver | undefined;
  #isPaused = true;
  #held: HeldMessage[] = [];
  #heldBytes = 0;
  #closedWith: { readonly code: number; readonly reason: string } | undefined;
  #isInMessage = false;
  #isReminding = false;

  constructor(
    queueBytesMax: number,
    onChannel: (channel: Channel) => void,
    onOverflow: () => void,
  ) {
    this.#queueBytesMax = queueBytesMax;
    this.#onChannel = onChannel;
    this.#onOverflow = onOverflow;
  }

  opened(ws: WebSocket<SocketData>): void {
    if (hasFragmentCalls(ws)) this.#ws = ws;
    this.#onChannel(this);
  }

  message(message: ArrayBuffer, isBinary: boolean): void {
    const payload = new Uint8Array(message);
    if (!this.#isPaused && this.#held.length === 0) {
      this.#deliver(isBinary, payload);
      return;
    }
    if (this.#heldBytes + payload.length > this.#queueBytesMax) {
      this.#onOverflow();
      this.close(1011, 'The other side reads too slowly');
      return;
    }
    this.#heldBytes += payload.length;
    this.#held.push({ isBinary, payload: payload.slice() });
  }

  drained(): void {
    if (this.#ws?.getBufferedAmount() === 0) this.#receiver?.drained();
  }

  closed(code: number, reason: string): void {
    this.#ws = undefined;
    this.#closedWith = { code, reason };
    this.#reportEnd();
  }

  receive(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#reportEnd();
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    const ws = this.#ws;
    if (ws === undefined) return true;
    const isBinary = opcode === OPCODE.binary;
    let rest = payload;
    while (rest.length > FRAGMENT_BYTES_MAX) {
      this.#sendFrame(ws, isBinary, false, rest.subarray(0, FRAGMENT_BYTES_MAX));
      rest = rest.subarray(FRAGMENT_BYTES_MAX);
    }
    this.#sendFrame(ws, isBinary, fin, rest);
    if (ws.getBufferedAmount() === 0) return true;
    if (!this.#isReminding) this.#remindLater();
    return false;
  }

  close(code: number, reason: string): void {
    this.#ws?.end(code, reason);
  }

  destroy(): void {
    this.#ws?.close();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    while (!this.#isPaused) {
      const next = this.#held.shift();
      if (next === undefined) break;
      this.#heldBytes -= next.payload.length;
      this.#deliver(next.isBinary, next.payload);
    }
    this.#reportEnd();
  }

  /**
   * What is written from within another socket's event now and then makes uWebSockets.js forget to
   * wait until this one can be written to again: no `drain` would ever come. Writing nothing, once
   * that event is over, sends what can be sent and makes it wait for the rest.
   */
  #remindLater(): void {
    this.#isReminding = true;
    setImmediate(() => {
      this.#isReminding = false;
      if (this.#ws === undefined || this.#ws.getBufferedAmount() === 0) return;
      this.#ws.cork(() => {});
      this.drained();
    });
  }

  #sendFrame(ws: MessageWebSocket, isBinary: boolean, fin: boolean, payload: Uint8Array): void {
    if (!this.#isInMessage && fin) ws.send(payload, isBinary);
    else if (!this.#isInMessage) ws.sendFirstFragment(payload, isBinary);
    else if (fin) ws.sendLastFragment(payload);
    else ws.sendFragment(payload);
    this.#isInMessage = !fin;
  }

  #deliver(isBinary: boolean, payload: Uint8Array): void {
    this.#receiver?.fragment(isBinary ? OPCODE.binary : OPCODE.text, true, payload);
  }

  /** The end is news only after everything that came before it. */
  #reportEnd(): void {
    const receiver = this.#receiver;
    const closedWith = this.#closedWith;
    if (receiver === undefined || closedWith === undefined || this.#held.length > 0) return;
    this.#receiver = undefined;
    if (closedWith.code !== 1006) receiver.closed(closedWith.code, closedWith.reason);
    receiver.gone();
  }
}

function hasFragmentCalls(ws: WebSocket<SocketData>): ws is MessageWebSocket {
  return 'sendFirstFragment' in ws;
}
