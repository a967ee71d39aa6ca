import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { RedisArgument, RedisClient } from './client.ts';
import { RedisReplyError } from './errors.ts';

/** Runs one Lua script as one step. The header of its file is its contract. */
export type RunScript = (
  keys: readonly string[],
  args: readonly RedisArgument[],
) => Promise<unknown>;

/** A function that makes a script of a `.lua` file: by hash, and in full when Redis has forgotten it. */
export function scriptLoader(client: RedisClient): (file: URL) => RunScript {
  return file => {
    const text = readFileSync(file, 'utf8');
    const sha = createHash('sha1').update(text).digest('hex');
    let first: Promise<unknown> | undefined;
    const run: RunScript = async (keys, args) => {
      const rest = [keys.length, ...keys, ...args];
      try {
        return await client.call('EVALSHA', [sha, ...rest]);
      } catch (error) {
        if (!(error instanceof RedisReplyError) || error.code !== 'NOSCRIPT') throw error;
        // In full once, for all that find it missing at the same time; the others wait for the hash.
        if (first !== undefined) {
          await first.catch(() => undefined);
          return run(keys, args);
        }
        first = client.call('EVAL', [text, ...rest]);
        try {
          return await first;
        } finally {
          first = undefined;
        }
      }
    };
    return run;
  };
}
