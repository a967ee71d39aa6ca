import { timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { RefusalReason } from '../protocol/refusals.ts';
import type { Right, SasRule } from '../protocol/resources.ts';
import { audienceCovers, parseSasToken, type SasToken } from '../protocol/sas-token.ts';
import { formatExpiry } from '../protocol/timestamps.ts';
import { signatureOf } from './sign-token.ts';

/** What somebody wants to do, and the token that is to allow it. */
export interface TokenClaim {
  /** As the client sent it, URL-decoded when it came in a query. */
  readonly token: string | undefined;
  /** Rules of the hybrid connection; empty when there is no such one. */
  readonly entityRules: readonly SasRule[];
  readonly namespaceRules: readonly SasRule[];
  /** The namespace's host names, lower case, without port; empty: any. */
  readonly hosts: readonly string[];
  /** The requested path, what lies below the hybrid connection included. */
  readonly segments: readonly string[];
  readonly right: Right;
  readonly wallMs: number;
}

export type Verdict =
  | { readonly ok: true; readonly keyName: string; readonly expiresAtMs: number }
  | { readonly ok: false; readonly reason: RefusalReason; readonly detail?: string };

/** A token whose signature was good, and the key that it was good for. */
interface VerifiedSignature {
  readonly token: SasToken;
  readonly key: string;
}

const VERIFIED_TOKENS_MAX = 10_000;
/** Longer tokens are verified anew each time, so that the memory of verified ones stays bounded. */
const REMEMBERED_TOKEN_CHARS_MAX = 1_024;

const ENTRA = 'Microsoft Entra tokens (JWT) are not supported; send a SharedAccessSignature';

/**
 * Says whether a token allows something. Senders of HTTP requests repeat one token thousands of times,
 * so the texts of tokens with a good signature are remembered, with the key, for those the signature is
 * not computed again. Expiry, audience and rights are checked every time, and the remembered key must
 * still be one of the rule's: a key that was replaced is refused at once.
 */
export class TokenVerifier {
  readonly #verified: LRUCache<string, VerifiedSignature>;

  constructor(options: { readonly verifiedTokensMax?: number } = {}) {
    this.#verified = new LRUCache({ max: options.verifiedTokensMax ?? VERIFIED_TOKENS_MAX });
  }

  /**
   * Checks in the order of protocol reference 2.7: first the token by itself, then what it is for, then
   * the right; whether the hybrid connection exists is for the caller to check after that.
   */
  verify(claim: TokenClaim): Verdict {
    const text = claim.token;
    if (text === undefined || text.trim() === '') return { ok: false, reason: 'token-missing' };

    const remembered = this.#verified.get(text);
    const token = remembered?.token ?? parseSasToken(text);
    if (token === undefined) return malformed(text);

    const signer = this.#signerOf(text, token, remembered, claim);
    if (signer === undefined) return { ok: false, reason: 'signature-invalid' };

    const expiresAtMs = token.expiresAtSec * 1_000;
    if (expiresAtMs <= claim.wallMs) {
      return { ok: false, reason: 'token-expired', detail: `'${formatExpiry(expiresAtMs)}'` };
    }
    if (token.audience === undefined || !audienceCovers(token.audience, claim)) {
      return { ok: false, reason: 'audience-wrong' };
    }
    if (!signer.rights.includes(claim.right) && !signer.rights.includes('Manage')) {
      return { ok: false, reason: 'right-missing', detail: claim.right };
    }
    return { ok: true, keyName: signer.name, expiresAtMs };
  }

  /**
   * The rule that signed: one of the hybrid connection's first, then one of the namespace's with the
   * same name; of each the primary key, then the secondary (2.3).
   */
  #signerOf(
    text: string,
    token: SasToken,
    remembered: VerifiedSignature | undefined,
    { entityRules, namespaceRules }: TokenClaim,
  ): SasRule | undefined {
    for (const rules of [entityRules, namespaceRules]) {
      const rule = ruleNamed(rules, token.keyName);
      if (rule === undefined) continue;
      for (const key of [rule.primaryKey, rule.secondaryKey]) {
        // An empty key would be one that everybody knows.
        if (key === undefined || key === '') continue;
        if (remembered?.key === key) return rule;
        if (isSignedWith(token, key)) {
          if (text.length <= REMEMBERED_TOKEN_CHARS_MAX) this.#verified.set(text, { token, key });
          return rule;
        }
      }
    }
    return undefined;
  }
}

function ruleNamed(rules: readonly SasRule[], name: string): SasRule | undefined {
  const wanted = name.toLowerCase();
  return rules.find(rule => rule.name === name || rule.name.toLowerCase() === wanted);
}

/** Takes the same time wherever the signatures differ. */
function isSignedWith(token: SasToken, key: string): boolean {
  const expected = Buffer.from(signatureOf(token.signedText, key));
  const offered = Buffer.from(token.signature);
  return expected.length === offered.length && timingSafeEqual(expected, offered);
}

function malformed(text: string): Verdict {
  // Three base64url parts with dots between, bare or with the scheme word that Azure does not want.
  const isJwt = /^\s*(?:bearer\s+)?[\w-]+\.[\w-]+\.[\w-]*\s*$/i.test(text);
  return { ok: false, reason: 'token-malformed', ...(isJwt && { detail: ENTRA }) };
}
