import type { Readable } from 'node:stream';
import type { HeaderRecord, RemoteEndpoint } from '../protocol/control-messages.ts';

/** An HTTP request as a listener gets it from the relay. */
export interface RelayedRequest {
  /** The relay's name for it. */
  readonly id: string;
  readonly method: string;
  /** Path with the hybrid connection's name, and query. */
  readonly target: string;
  /** Names as the sender wrote them; of repeated ones the values are joined. */
  readonly headers: HeaderRecord;
  /** Where the sender is, as the relay sees it. */
  readonly remote: RemoteEndpoint | undefined;
  readonly hasBody: boolean;
  /** Ends at once when there is none; destroyed when the sender goes away. Comes no faster than it is read. */
  readonly body: Readable;
  /** Aborted when the sender is known to have gone, which not every sender's relay tells. */
  readonly signal: AbortSignal;
}

export type AnswerBody = string | Uint8Array | AsyncIterable<string | Uint8Array>;

/** What a listener answers. */
export interface Answer {
  readonly status: number;
  /** Reason phrase; the usual one by default. */
  readonly reason?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Whole, or in pieces as they come: a `Readable`, a generator. When it fails, the sender's answer breaks off. */
  readonly body?: AnswerBody | undefined;
}

export type Answerer = (request: RelayedRequest) => Answer | Promise<Answer>;
