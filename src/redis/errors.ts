/** Redis cannot be reached, or did not answer in time: whether the command took effect is unknown. */
export class RedisAwayError extends Error {
  override readonly name = 'RedisAwayError';
}

/** Redis answered with an error. `code` is its first word: `WRONGTYPE`, `NOPERM`, `OOM`, … */
export class RedisReplyError extends Error {
  override readonly name = 'RedisReplyError';
  readonly code: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = /^[A-Z]+/.exec(message)?.[0] ?? 'ERR';
  }
}
