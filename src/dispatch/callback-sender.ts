/** One request to an address that somebody gave for the end of a run. */
export interface CallbackRequest {
  /** `https:`; checked for its form when it was given. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
}

export type CallbackAnswer =
  | { readonly type: 'answer'; readonly status: number }
  /** `address-refused`: the name leads to where nobody from outside may send us. */
  | {
      readonly type: 'fault';
      readonly why: 'address-refused' | 'name-unknown' | 'unreachable' | 'timeout';
    };

/**
 * How callbacks are made. Connects to no address but public ones, whatever the name says at that moment, and
 * follows no redirect. Does not reject; gives up by itself when the time is over.
 */
export interface CallbackSender {
  send(request: CallbackRequest): Promise<CallbackAnswer>;
}
