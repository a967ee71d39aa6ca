import type { Clock } from '../base/clock.ts';
import type { TransportName } from '../client/frame-channel.ts';
import { momentText } from './register.ts';
import type { RunInHand } from './ports.ts';

export type ChannelState = 'connecting' | 'online' | 'offline' | 'closed';

/** What a running service tells of itself, as JSON. Nothing of it is secret. */
export interface ServiceReport {
  readonly v: 1;
  readonly pid: number;
  readonly instance: string;
  readonly version: string;
  readonly startedAt: string;
  readonly machineId: string;
  readonly name: string;
  readonly environment: string;
  readonly server: string;
  readonly fingerprint: string;
  readonly keyProtection: string;
  readonly group: { readonly id: string; readonly hasKey: boolean } | undefined;
  readonly channel: {
    readonly state: ChannelState;
    readonly transport: TransportName | undefined;
    readonly since: string;
  };
  readonly hello: {
    readonly lastAt: string | undefined;
    readonly clockSkewMs: number | undefined;
    /** Why the last one was not taken. */
    readonly problem: string | undefined;
  };
  readonly isDraining: boolean;
  /** When somebody had the control plane drain this machine, since this process runs. */
  readonly drainAskedAt: string | undefined;
  readonly runs: readonly RunInHand[];
  /** The latest last. */
  readonly lastErrors: readonly {
    readonly at: string;
    readonly what: string;
    readonly why: string;
  }[];
}

const ERRORS_KEPT = 10;

/** How the service is, kept as it goes. */
export class ServiceStatus {
  readonly #clock: Clock;
  readonly startedAtMs: number;
  #channel: { state: ChannelState; transport: TransportName | undefined; sinceMs: number };
  #hello: { lastAtMs?: number; clockSkewMs?: number; problem?: string } = {};
  readonly #errors: { readonly atMs: number; readonly what: string; readonly why: string }[] = [];
  isDraining = false;
  drainAskedAt: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.startedAtMs = clock.wallMs();
    this.#channel = { state: 'connecting', transport: undefined, sinceMs: this.startedAtMs };
  }

  get channelState(): ChannelState {
    return this.#channel.state;
  }

  /** What carries the control channel, while it is online. */
  get transport(): TransportName | undefined {
    return this.#channel.state === 'online' ? this.#channel.transport : undefined;
  }

  channel(state: ChannelState, transport?: TransportName): void {
    this.#channel = { state, transport, sinceMs: this.#clock.wallMs() };
  }

  helloTaken(clockSkewMs: number): void {
    this.#hello = { lastAtMs: this.#clock.wallMs(), clockSkewMs };
  }

  helloRefused(problem: string): void {
    this.#hello = { ...this.#hello, problem };
  }

  error(what: string, why: string): void {
    this.#errors.push({ atMs: this.#clock.wallMs(), what, why });
    if (this.#errors.length > ERRORS_KEPT) this.#errors.shift();
  }

  parts(): Pick<
    ServiceReport,
    'startedAt' | 'channel' | 'hello' | 'isDraining' | 'drainAskedAt' | 'lastErrors'
  > {
    const { state, transport, sinceMs } = this.#channel;
    const { lastAtMs, clockSkewMs, problem } = this.#hello;
    return {
      startedAt: momentText(this.startedAtMs),
      channel: { state, transport, since: momentText(sinceMs) },
      hello: {
        lastAt: lastAtMs === undefined ? undefined : momentText(lastAtMs),
        clockSkewMs,
        problem,
      },
      isDraining: this.isDraining,
      drainAskedAt: this.drainAskedAt,
      lastErrors: this.#errors.map(({ atMs, what, why }) => ({ at: momentText(atMs), what, why })),
    };
  }
}
