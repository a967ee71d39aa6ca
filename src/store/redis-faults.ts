import { RedisAwayError, RedisReplyError } from '../redis/errors.ts';
import { StoreError } from './relay-store.ts';

/** What a failure of Redis means for a store; other errors are bugs and stay what they are. */
export function asStoreError(
  error: unknown,
  store: {
    readonly shown: string;
    /** One that shows under what the store's keys begin. */
    readonly key: string;
  },
): unknown {
  if (error instanceof RedisAwayError) return new StoreError(error.message, { cause: error });
  if (!(error instanceof RedisReplyError)) return error;
  return new StoreError(explain(error, store), { cause: error });
}

function explain(
  error: RedisReplyError,
  { shown, key }: { readonly shown: string; readonly key: string },
): string {
  if (error.code === 'WRONGTYPE') {
    return (
      `${shown} has foreign data under keys that begin with "${key}": ` +
      'give this cluster another key prefix, or remove them'
    );
  }
  if (error.code === 'OOM') return `${shown} is out of memory: raise maxmemory`;
  return `${shown} refused a step of the store: ${error.message}`;
}
