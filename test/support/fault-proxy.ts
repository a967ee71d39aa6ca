import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export type Direction = 'to-target' | 'to-client';

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
}

/**
 * A TCP proxy that can be made to fail: `cut` connections, let one direction or both stand still without
 * closing anything, or delay every chunk. What stands still goes on where it stopped.
 */
export class FaultProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #pairs = new Set<Pair>();
  readonly #stalled = new Set<Direction>();
  #delayMs = 0;
  #isRefusing = false;
  /** Bytes passed on since the start; and what they were, when recording. */
  readonly passed: Record<Direction, number> = { 'to-target': 0, 'to-client': 0 };
  readonly recorded: Record<Direction, Buffer[]> = { 'to-target': [], 'to-client': [] };
  isRecording = false;

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, client =>
      this.#accept(client),
    );
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Breaks what is connected, with a reset on both sides. */
  cut(): void {
    for (const { client, target } of this.#pairs) {
      client.resetAndDestroy();
      target.resetAndDestroy();
    }
  }

  /** From here on connections are closed as soon as they are accepted; `false` ends that. */
  refuse(isRefusing: boolean): void {
    this.#isRefusing = isRefusing;
  }

  stall(...directions: readonly Direction[]): void {
    for (const direction of directions) this.#stalled.add(direction);
    this.#apply();
  }

  flow(): void {
    this.#stalled.clear();
    this.#apply();
  }

  /** Puts bytes of its own into all connections. */
  inject(direction: Direction, ...chunks: readonly Uint8Array[]): void {
    for (const { client, target } of this.#pairs) {
      const socket = direction === 'to-target' ? target : client;
      for (const chunk of chunks) socket.write(chunk);
    }
  }

  delay(ms: number): void {
    this.#delayMs = ms;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise(resolve => void this.#server.close(resolve));
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    client.on('error', () => client.destroy());
    if (this.#isRefusing) {
      client.destroy();
      return;
    }
    const target = connect({
      port: this.#targetPort,
      host: '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    });
    target.on('error', () => target.destroy());
    const pair = { client, target };
    this.#pairs.add(pair);
    this.#carry(client, target, 'to-target');
    this.#carry(target, client, 'to-client');
    for (const socket of [client, target]) {
      socket.once('close', () => {
        this.#pairs.delete(pair);
        client.destroy();
        target.destroy();
      });
    }
    this.#apply();
  }

  #carry(from: Socket, to: Socket, direction: Direction): void {
    const pass = (chunk: Buffer): void => {
      this.passed[direction] += chunk.length;
      if (this.isRecording) this.recorded[direction].push(chunk);
      if (to.write(chunk)) return;
      from.pause();
      to.once('drain', () => {
        if (!this.#stalled.has(direction)) from.resume();
      });
    };
    from.on('data', chunk => {
      if (this.#delayMs === 0) pass(chunk);
      else setTimeout(pass, this.#delayMs, chunk);
    });
    from.on('end', () => {
      if (this.#delayMs === 0) to.end();
      else setTimeout(() => to.end(), this.#delayMs);
    });
  }

  #apply(): void {
    for (const { client, target } of this.#pairs) {
      if (this.#stalled.has('to-target')) client.pause();
      else client.resume();
      if (this.#stalled.has('to-client')) target.pause();
      else target.resume();
    }
  }
}

/** Stands before a port of this machine. */
export async function startFaultProxy(targetPort: number): Promise<FaultProxy> {
  return new FaultProxy(targetPort).listen();
}
