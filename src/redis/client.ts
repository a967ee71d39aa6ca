import { readFileSync } from 'node:fs';
import { Cluster, Redis } from 'ioredis';
import type { Clock } from '../base/clock.ts';
import { RedisAwayError, RedisReplyError } from './errors.ts';
import type { RedisTarget } from './redis-url.ts';

/** One connection to Redis, whatever its form. Commands fail fast while it is down. */
export interface RedisClient {
  /** Where it leads, without secrets. */
  readonly shown: string;
  readonly isUp: boolean;
  /** Commands sent so far; those inside scripts are Redis's own affair. */
  readonly commandsSent: number;
  /** Times it went down after it had been up. */
  readonly losses: number;
  /** Why the last attempt to connect failed, or '' when there was none. */
  readonly lastFault: string;
  /**
   * Sends one command. Rejects with `RedisAwayError` when Redis is down, did not answer within
   * `timeoutMs`, or too many commands are waiting; with `RedisReplyError` when it said no.
   */
  call(command: string, args: readonly RedisArgument[], timeoutMs?: number): Promise<unknown>;
  /** Calls the observer on each change of `isUp`. */
  onUpChange(observer: (isUp: boolean) => void): void;
  /** Resolves when it is up, or after `timeoutMs` with what `isUp` is then. */
  untilUp(timeoutMs: number): Promise<boolean>;
  /** Breaks the connection and makes a new one; commands under way reject with `RedisAwayError`. */
  reconnect(): void;
  close(): void;
}

export type RedisArgument = string | number;

export interface RedisClientOptions {
  readonly target: RedisTarget;
  readonly clock: Clock;
  /** Takes the place of the URL's password; a line break at its end does not belong to it. */
  readonly passwordFile?: string;
  /** Password of the Sentinels themselves. */
  readonly sentinelPasswordFile?: string;
  /** Certificate authorities in PEM that sign the server's certificate; the system's unless given. */
  readonly tlsCa?: string;
  /** Shown by `CLIENT LIST`. */
  readonly connectionName: string;
  /** How long a command may take. Longer means that Redis is away. */
  readonly commandTimeoutMs: number;
  /** How much longer than that commands on this connection may block, at most. */
  readonly blockingMsMax: number;
  /** From 0 to 1, for the jitter of reconnection. */
  readonly random?: () => number;
}

/** Commands that may wait for their answers on one connection; the next one fails at once. */
export const COMMANDS_IN_FLIGHT_MAX = 1_024;
const RECONNECT_DELAY_MS_MIN = 50;
export const RECONNECT_DELAY_MS_MAX = 2_000;
/** Redirections and failover retries of one command on a Redis Cluster, 100 ms apart. */
const REDIRECTIONS_MAX = 8;
/** Silence after which the socket itself is given up, beyond the longest command. */
const SOCKET_GRACE_MS = 1_000;

/** Doubles from 50 ms to 2 s; half of it random, so that many nodes do not return in step. */
export function reconnectDelayMs(attempt: number, random: () => number): number {
  const fullMs = Math.min(
    RECONNECT_DELAY_MS_MAX,
    RECONNECT_DELAY_MS_MIN * 2 ** Math.min(attempt, 16),
  );
  return Math.round(fullMs * (0.5 + random() / 2));
}

/** Opens a connection and returns at once; it is up when it says so. Throws when a password file cannot be read. */
export function openRedis(options: RedisClientOptions): RedisClient {
  return new IoredisClient(options);
}

class IoredisClient implements RedisClient {
  readonly shown: string;
  readonly #redis: Redis | Cluster;
  readonly #clock: Clock;
  readonly #commandTimeoutMs: number;
  readonly #observers = new Set<(isUp: boolean) => void>();
  #isUp = false;
  #isClosed = false;
  #inFlight = 0;
  commandsSent = 0;
  losses = 0;
  lastFault = '';

  constructor(options: RedisClientOptions) {
    this.shown = options.target.shown;
    this.#clock = options.clock;
    this.#commandTimeoutMs = options.commandTimeoutMs;
    this.#redis = connect(options);
    this.#redis.on('ready', () => this.#setUp(true));
    this.#redis.on('close', () => this.#setUp(false));
    this.#redis.on('end', () => this.#setUp(false));
    // ioredis reconnects by itself; what it says is kept for whoever asks why we are down.
    this.#redis.on('error', (error: Error) => {
      this.lastFault = causeOf(error);
    });
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  onUpChange(observer: (isUp: boolean) => void): void {
    this.#observers.add(observer);
  }

  async call(
    command: string,
    args: readonly RedisArgument[],
    timeoutMs = this.#commandTimeoutMs,
  ): Promise<unknown> {
    if (!this.#isUp) throw new RedisAwayError(`Cannot reach Redis at ${this.shown}${this.#why()}`);
    if (this.#inFlight >= COMMANDS_IN_FLIGHT_MAX) {
      throw new RedisAwayError(`Redis at ${this.shown} is slow: ${this.#inFlight} commands wait`);
    }
    this.#inFlight += 1;
    this.commandsSent += 1;
    try {
      return await this.#answer(command, args, timeoutMs);
    } finally {
      this.#inFlight -= 1;
    }
  }

  async untilUp(timeoutMs: number): Promise<boolean> {
    if (this.#isUp) return true;
    return new Promise(resolve => {
      const done = (isUp: boolean): void => {
        this.#observers.delete(observer);
        cancel();
        resolve(isUp);
      };
      const observer = (isUp: boolean): void => {
        if (isUp) done(true);
      };
      const cancel = this.#clock.after(timeoutMs, () => done(this.#isUp));
      this.#observers.add(observer);
    });
  }

  reconnect(): void {
    this.#abandonConnection('reconnecting');
  }

  close(): void {
    this.#isClosed = true;
    this.#redis.disconnect();
  }

  /** A command that has no answer says that the connection is dead, whatever its socket says. */
  #answer(command: string, args: readonly RedisArgument[], timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(timeoutMs, () => {
        const what = `${command} had no answer from Redis at ${this.shown} within ${timeoutMs} ms`;
        reject(new RedisAwayError(what));
        this.#abandonConnection(what);
      });
      this.#redis.call(command, ...args).then(
        answer => {
          cancel();
          resolve(answer);
        },
        (error: unknown) => {
          cancel();
          reject(this.#asOurs(error));
        },
      );
    });
  }

  #abandonConnection(why: string): void {
    if (this.#isClosed || !this.#isUp) return;
    this.lastFault = why;
    this.#setUp(false);
    this.#redis.disconnect(true);
  }

  #asOurs(error: unknown): Error {
    const message = error instanceof Error ? error.message : String(error);
    const isReply = error instanceof Error && error.name === 'ReplyError';
    // These say that this is not, or no longer, a server that can take commands.
    if (isReply && !/^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|UNBLOCKED|TRYAGAIN)/.test(message)) {
      return new RedisReplyError(message, { cause: error });
    }
    return new RedisAwayError(`Lost Redis at ${this.shown}: ${message}`, { cause: error });
  }

  #why(): string {
    return this.lastFault === '' ? '' : `: ${this.lastFault}`;
  }

  #setUp(isUp: boolean): void {
    if (this.#isUp === isUp || (isUp && this.#isClosed)) return;
    this.#isUp = isUp;
    if (isUp) this.lastFault = '';
    else this.losses += 1;
    for (const observer of this.#observers) observer(isUp);
  }
}

function connect(options: RedisClientOptions): Redis | Cluster {
  const { target, commandTimeoutMs, random = Math.random } = options;
  const password = secretIn(options.passwordFile) ?? target.password;
  const sentinelPassword = secretIn(options.sentinelPasswordFile);
  const retry = (attempt: number): number => reconnectDelayMs(attempt, random);
  const common = {
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(password === undefined ? {} : { password }),
    ...(target.tls ? { tls: options.tlsCa === undefined ? {} : { ca: options.tlsCa } } : {}),
    connectionName: options.connectionName,
    // The older protocol has all we need, in one shape of answers from every server.
    protocol: 2 as const,
    connectTimeout: commandTimeoutMs,
    socketTimeout: commandTimeoutMs + options.blockingMsMax + SOCKET_GRACE_MS,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // A replica after a failover: only a new connection can find the new master.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
  };
  if (target.kind === 'cluster') {
    return new Cluster([...target.hosts], {
      clusterRetryStrategy: retry,
      enableOfflineQueue: false,
      maxRedirections: REDIRECTIONS_MAX,
      slotsRefreshTimeout: commandTimeoutMs,
      redisOptions: common,
    });
  }
  const [server] = target.hosts;
  const place =
    target.kind === 'sentinel'
      ? {
          sentinels: [...target.hosts],
          name: target.master,
          sentinelRetryStrategy: retry,
          enableTLSForSentinelMode: target.tls,
          ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
          ...(target.tls ? { sentinelTLS: common.tls ?? {} } : {}),
        }
      : { ...server };
  return new Redis({
    ...common,
    ...place,
    db: target.database,
    enableOfflineQueue: false,
    retryStrategy: retry,
  });
}

function secretIn(file: string | undefined): string | undefined {
  return file === undefined ? undefined : readFileSync(file, 'utf8').replace(/\r?\n$/, '');
}

/** A Cluster's error names the last node's error within; that one says more. */
function causeOf(error: Error): string {
  const last = 'lastNodeError' in error ? error.lastNodeError : undefined;
  return last instanceof Error ? `${error.message} (${last.message})` : error.message;
}
