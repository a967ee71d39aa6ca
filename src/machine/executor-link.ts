import { timingSafeEqual } from 'node:crypto';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import * as v from 'valibot';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { readFrames, writeJson, writeSecrets, type Secrets } from './executor/frames.ts';
import {
  fromExecutorSchema,
  PING_INTERVAL_MS,
  PINGS_MISSED_MAX,
  type FromExecutor,
  type Go,
  type Handover,
  type ProgressReport,
  type ToExecutor,
} from './executor/messages.ts';

type HelloOfExecutor = Extract<FromExecutor, { type: 'hello' }>;

export interface LinkObserver {
  /** Of the right token; each time it connects. */
  onHello(hello: HelloOfExecutor): void;
  onLog(): void;
  onProgress(report: ProgressReport): void;
  onFinished(): void;
  /** It may come back. */
  onDisconnected(): void;
  /** Did not answer to so many pings, or did not come back for as long. */
  onUnresponsive(): void;
}

/** Connections that have not shown the token: any account may make some, and the executor must come through. */
const STRANGERS_MAX = 8;
const HELLO_TIMEOUT_MS = 5_000;

/**
 * The service's end of one run's socket. The executor connects, again and again if need be; a new
 * connection with the right token takes the place of the one before.
 */
export class ExecutorLink {
  readonly #handover: Handover;
  readonly #clock: Clock;
  readonly #observer: LinkObserver;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #executor: Socket | undefined;
  #missed = 0;
  #cancelPing: CancelTimer | undefined;

  constructor(handover: Handover, clock: Clock, observer: LinkObserver) {
    this.#handover = handover;
    this.#clock = clock;
    this.#observer = observer;
    this.#server = createServer(socket => this.#welcome(socket));
  }

  /**
   * Begins to listen, in place of whoever listened there before. Rejects when it cannot.
   *
   * @param isForOthers executors of other accounts connect; the token keeps strangers out
   */
  async listen(isForOthers: boolean): Promise<void> {
    const { socketPath } = this.#handover;
    await rm(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, resolve);
    });
    this.#server.on('error', () => undefined);
    await chmod(socketPath, isForOthers ? 0o666 : 0o600);
  }

  /** From now on silence counts. Safe to call twice. */
  watch(): void {
    this.#cancelPing ??= this.#clock.after(PING_INTERVAL_MS, () => this.#ping());
  }

  get isConnected(): boolean {
    return this.#executor !== undefined;
  }

  /** The secrets are copied and the copies wiped; the caller wipes its own. */
  async go(go: Go, secrets: Secrets): Promise<void> {
    if (this.#executor === undefined) return;
    const handed = writeSecrets(this.#executor, secrets);
    this.#send(go);
    await handed;
  }

  end(mode: 'safe-stop' | 'stop' | 'kill', graceSeconds: number): void {
    this.#send({ type: 'end', mode, graceSeconds });
  }

  async close(): Promise<void> {
    this.#cancelPing?.();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise(resolve => void this.#server.close(resolve));
    await rm(this.#handover.socketPath, { force: true });
  }

  #send(message: ToExecutor): void {
    if (this.#executor !== undefined) writeJson(this.#executor, message);
  }

  #ping(): void {
    this.#missed += 1;
    this.#cancelPing = this.#clock.after(PING_INTERVAL_MS, () => this.#ping());
    if (this.#missed > PINGS_MISSED_MAX) this.#observer.onUnresponsive();
    else this.#send({ type: 'ping' });
  }

  #welcome(socket: Socket): void {
    const strangers = [...this.#sockets].filter(one => one !== this.#executor);
    // The one that has had the longest time to say hello goes, not the one that may be about to.
    if (strangers.length >= STRANGERS_MAX) strangers[0]?.destroy();
    this.#sockets.add(socket);
    const cancelHello = this.#clock.after(HELLO_TIMEOUT_MS, () => socket.destroy());
    socket.on('error', () => undefined);
    readFrames(socket, frame => {
      const value = frame.type === 'json' ? frame.value : undefined;
      const parsed = v.safeParse(fromExecutorSchema, value);
      if (!parsed.success) return;
      const message = parsed.output;
      if (message.type === 'hello') {
        if (!isEqual(message.token, this.#handover.token)) {
          socket.destroy();
          return;
        }
        cancelHello();
        const before = this.#executor;
        this.#executor = socket;
        if (before !== socket) before?.destroy();
      }
      if (socket === this.#executor) this.#take(message);
    });
    socket.once('close', () => {
      cancelHello();
      this.#sockets.delete(socket);
      if (this.#executor !== socket) return;
      this.#executor = undefined;
      this.#observer.onDisconnected();
    });
  }

  #take(message: FromExecutor): void {
    this.#missed = 0;
    if (message.type === 'hello') this.#observer.onHello(message);
    else if (message.type === 'log') this.#observer.onLog();
    else if (message.type === 'progress') this.#observer.onProgress(message.report);
    else if (message.type === 'finished') this.#observer.onFinished();
  }
}

function isEqual(one: string, other: string): boolean {
  const [left, right] = [Buffer.from(one), Buffer.from(other)];
  return left.length === right.length && timingSafeEqual(left, right);
}
