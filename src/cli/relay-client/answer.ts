import type { Readable } from 'node:stream';
import type { HeaderRecord, RemoteEndpoint } from '../../protocol/control-messages.ts';

/** An HTTP request as a listener gets it from the relay. */
export interface RelayedRequest {
  readonly method: string;
  /** Path with the hybrid connection's name, and query. */
  readonly target: string;
  readonly headers: HeaderRecord;
  readonly remote: RemoteEndpoint | undefined;
  readonly hasBody: boolean;
  /** Ends at once when there is none; destroyed when the sender goes away. */
  readonly body: Readable;
  /** Aborted when the sender is known to have gone. */
  readonly signal: AbortSignal;
}

/** What a listener answers. */
export interface Answer {
  readonly status: number;
  readonly reason?: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: Readable | string | undefined;
}

export type Answerer = (request: RelayedRequest) => Promise<Answer>;
