// The border between the REST interface and whatever carries HTTP. No socket, no package is known here.

/** A request whose head was read; its body is read when somebody asks for it. */
export interface ApiRequest {
  /** As sent: `GET`, `PATCH`, … */
  readonly method: string;
  /** Raw, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** By lower-case names; what came several times is joined by `, `. */
  readonly headers: ReadonlyMap<string, string>;
  /**
   * The whole body, at most so long; may be called once. Rejects with `BodyFault`. Whoever does not call it
   * leaves the body to be thrown away.
   */
  readonly readBody: (bytesMax: number) => Promise<Uint8Array>;
  /** Who asks, through trusted proxies. */
  readonly remoteAddress: string;
  /** Aborted when the client has gone or the server stops: nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Undefined: none. What is iterated is taken as fast as the client reads, and broken off when it goes. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
}

/** Never rejects. */
export type ApiHandler = (request: ApiRequest) => Promise<ApiResponse>;

/** Why a body could not be had. */
export type BodyFaultReason =
  | 'too-large'
  /** As many bytes of bodies are held as may be. */
  | 'overloaded'
  /** It stood still for too long. */
  | 'stalled'
  /** The client went away. */
  | 'gone';

export class BodyFault extends Error {
  override readonly name = 'BodyFault';
  readonly reason: BodyFaultReason;

  constructor(reason: BodyFaultReason) {
    super(`The body cannot be read: ${reason}`);
    this.reason = reason;
  }
}
