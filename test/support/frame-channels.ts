import type { ChannelEvents, FrameChannel } from '../../src/client/frame-channel.ts';

export interface SentFrame {
  readonly opcode: number;
  readonly fin: boolean;
  readonly payload: string;
  readonly bytes: number;
}

/** One end of a channel, whose other end is the test. */
export class TestChannel implements FrameChannel {
  readonly protocol = '';
  readonly transport = 'websocket';
  readonly sent: SentFrame[] = [];
  sentClose: { readonly code: number | undefined; readonly reason: string | undefined } | undefined;
  isDestroyed = false;
  isPaused = false;
  /** Whether `send` says to stop. */
  isFull = false;
  #events: ChannelEvents | undefined;

  receive(events: ChannelEvents): void {
    this.#events = events;
  }

  /** What the peer and the network do. */
  get peer(): ChannelEvents {
    if (this.#events === undefined) throw new Error('Nobody receives');
    return this.#events;
  }

  send(opcode: number, fin: boolean, payload: Uint8Array): boolean {
    const text = Buffer.from(payload).toString('latin1');
    const shown = text.length > 100 ? '…' : text;
    this.sent.push({ opcode, fin, payload: shown, bytes: payload.length });
    return !this.isFull;
  }

  close(code?: number, reason?: string): void {
    this.sentClose ??= { code, reason };
  }

  destroy(): void {
    if (this.isDestroyed) return;
    this.isDestroyed = true;
    queueMicrotask(() => this.#events?.gone(1006));
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }
}
