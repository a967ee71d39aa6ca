import { systemClock, type Clock } from '../base/clock.ts';
import { parseSasToken } from '../protocol/sas-token.ts';
import { signToken } from '../auth/sign-token.ts';

/** Proves a right to the relay. */
export interface RelayToken {
  /** A shared access signature, or whatever else the relay takes; never shown. */
  readonly token: string;
  /** Milliseconds since 1970; where it is not known, the token is taken to be good for as long as was asked. */
  readonly expiresAtMs?: number;
}

export interface TokenProvider {
  /**
   * A token for `audience` and all below it, such as `http://host/path/`, good for about `validForMs`
   * from now. Called for every connection, and for a listener again before the last one expires.
   */
  getToken(audience: string, validForMs: number): RelayToken | Promise<RelayToken>;
}

/** Signs tokens with the key of a shared access rule. */
export function sharedKeyTokens(
  rule: { readonly keyName: string; readonly key: string },
  clock: Clock = systemClock,
): TokenProvider {
  return {
    getToken: (audience, validForMs) => {
      const expiresAtSec = Math.floor((clock.wallMs() + validForMs) / 1_000);
      return {
        token: signToken({ audience, ...rule, expiresAtSec }),
        expiresAtMs: expiresAtSec * 1_000,
      };
    },
  };
}

/** Gives one token again and again: what it opened ends when it expires. */
export function fixedToken(token: string): TokenProvider {
  const expiresAtSec = parseSasToken(token)?.expiresAtSec;
  const fixed =
    expiresAtSec === undefined ? { token } : { token, expiresAtMs: expiresAtSec * 1_000 };
  return { getToken: () => fixed };
}
