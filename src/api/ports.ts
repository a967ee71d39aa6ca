import type { JobErrorCode } from '../jobs/error-codes.ts';

// What the REST interface asks of the server that it runs in.

/** Where this server is reached, for firewalls and for diagnosis. Source: job-dispatch.md row A6. */
export interface PublicInfo {
  /** What all names of this deployment end with. */
  readonly relaySuffix: string;
  readonly host: string;
  readonly ports: readonly number[];
  /** Addresses and ranges that must be reachable from machines; empty: those that the host's name has. */
  readonly addresses: readonly string[];
  /** `host` or `host:port` where machines register, when nothing is relayed at the host that was asked. */
  readonly machineHost?: string;
}

/** Asks a machine for a sign of life, through the relay. */
export interface MachineEcho {
  /** GET of `<env>/m/<machineId>/echo`. Does not reject; gives up by itself. */
  echo(environment: string, machineId: string, signal: AbortSignal): Promise<EchoAnswer>;
}

export type EchoAnswer =
  | { readonly type: 'answer'; readonly status: number; readonly roundTripMs: number }
  | { readonly type: 'fault'; readonly code: JobErrorCode };
