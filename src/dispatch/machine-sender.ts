import type { JobErrorCode } from '../jobs/error-codes.ts';

/** A request to a machine, by way of the relay. */
export interface MachineRequest {
  readonly environment: string;
  readonly machineId: string;
  /** Behind the machine's own path: `runs/<id>`, `commands/<id>`. */
  readonly path: string;
  /** JSON. */
  readonly body: string;
  /** For `Halfway-Signature`: detached JWS over the body. */
  readonly signature: string;
  readonly timeoutMs: number;
}

export type MachineResponse =
  | { readonly type: 'answer'; readonly status: number; readonly body: string }
  /** Nothing was answered. `ConnectionTimeout`: whether it has come is not known. */
  | {
      readonly type: 'fault';
      readonly code:
        | 'NoListenerConnected'
        | 'ConnectionNotEstablished'
        | 'ConnectionTimeout'
        | 'DnsError'
        | 'EndpointDoNotExist';
    };

/** How machines are reached. Does not reject; gives up by itself when the time is over. */
export interface MachineSender {
  send(request: MachineRequest): Promise<MachineResponse>;
}

/** An answer that could not be read. */
export const MALFORMED: JobErrorCode = 'DesktopFlowMalformedMachineResponse';
