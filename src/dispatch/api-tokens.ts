import { randomBytes, timingSafeEqual } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Principal } from './access.ts';
import { audit } from './audit.ts';
import { parseBody, sha256Of } from './checks.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import {
  COMMON_PARTITION,
  nameSchema,
  principalSchema,
  TOKEN,
  USER,
  type ApiToken,
} from './records.ts';
import { Draft, Repository, type Versioned } from './repository.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';

const PREFIX = 'hwt_';
const SECRET_BYTES = 32;
const TOKEN_FORM = /^hwt_[A-Za-z0-9_-]{43}$/;
/** Of the hash, as the record's id: 132 bits, so that a token is found by what it is. */
const ID_CHARS = 22;
const INDEX = 'tokens';
const USER_PREFIX = 'user:';
const BOOTSTRAP: Principal = { name: 'token:bootstrap', isAdmin: true };
const DAY_SECONDS = 24 * 3600;

export const newTokenSchema = v.strictObject({
  name: nameSchema,
  /** Undefined: the token stands for itself and is given roles of its own. */
  user: v.optional(v.pipe(principalSchema, v.startsWith(USER_PREFIX))),
  isAdmin: v.optional(v.boolean(), false),
  expiresInSeconds: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(60), v.maxValue(5 * 365 * DAY_SECONDS)),
  ),
});

/** Tokens by which people and programs speak to the control plane: `Authorization: Bearer hwt_…`. */
export class ApiTokens {
  readonly #repository: Repository;
  readonly #clock: Clock;
  readonly #bootstrapSha256: string | undefined;

  /**
   * `bootstrapToken` is an administrator from the start, as `token:bootstrap`, and is kept as a hash alone.
   * Throws a RangeError when it is too short to be a secret.
   */
  constructor(store: DispatchStore, clock: Clock, bootstrapToken?: string) {
    this.#repository = new Repository(store, COMMON_PARTITION);
    this.#clock = clock;
    if (bootstrapToken !== undefined && bootstrapToken.length < SECRET_BYTES) {
      throw new RangeError(`an API token has at least ${SECRET_BYTES} characters`);
    }
    this.#bootstrapSha256 = bootstrapToken === undefined ? undefined : sha256Of(bootstrapToken);
  }

  /** Who has this token. Throws `TokenInvalid`, which does not say why. */
  async authenticate(text: string): Promise<Principal> {
    const sha256 = sha256Of(text);
    if (this.#bootstrapSha256 !== undefined && isEqual(sha256, this.#bootstrapSha256)) {
      return BOOTSTRAP;
    }
    if (!TOKEN_FORM.test(text)) throw new Problem('TokenInvalid');
    const token = await this.#repository.get(TOKEN, sha256.slice(0, ID_CHARS));
    if (token === undefined || !isEqual(token.value.sha256, sha256)) {
      throw new Problem('TokenInvalid');
    }
    const { principal, isAdmin } = token.value;
    if (this.#isExpired(token.value)) throw new Problem('TokenInvalid');
    if (!principal.startsWith(USER_PREFIX)) return { name: principal, isAdmin };
    const user = await this.find(principal);
    if (user === undefined) throw new Problem('TokenInvalid');
    return user;
  }

  /** What a principal may that did not ask itself; undefined when there is none (any more) of this name. */
  async find(name: string): Promise<Principal | undefined> {
    if (name === BOOTSTRAP.name) return this.#bootstrapSha256 === undefined ? undefined : BOOTSTRAP;
    const id = name.slice(name.indexOf(':') + 1);
    if (name.startsWith(USER_PREFIX)) {
      const user = await this.#repository.get(USER, id);
      if (user === undefined || user.value.isDisabled) return undefined;
      return { name, isAdmin: user.value.isAdmin };
    }
    const token = await this.#repository.get(TOKEN, id);
    const isGood = token !== undefined && !this.#isExpired(token.value);
    return isGood && token.value.principal === name
      ? { name, isAdmin: token.value.isAdmin }
      : undefined;
  }

  /** Makes a token; its text is told this once. Users make their own, administrators all. */
  async create(
    caller: Principal,
    body: unknown,
  ): Promise<{ readonly text: string; readonly token: ApiToken }> {
    const { name, user, isAdmin, expiresInSeconds } = parseBody(newTokenSchema, body);
    if (!caller.isAdmin && user !== caller.name) {
      throw new Problem('AccessDenied', 'only administrators make tokens of others');
    }
    if (user !== undefined && (await this.find(user)) === undefined) {
      throw new Problem('NotFound', 'make the user first');
    }
    const text = newTokenText();
    const sha256 = sha256Of(text);
    const id = sha256.slice(0, ID_CHARS);
    const nowMs = this.#clock.wallMs();
    const token: ApiToken = {
      id,
      name,
      principal: user ?? `token:${id}`,
      isAdmin: user === undefined && isAdmin,
      sha256,
      ...(expiresInSeconds === undefined ? {} : { expiresAtMs: nowMs + expiresInSeconds * 1_000 }),
      createdAtMs: nowMs,
      createdBy: caller.name,
    };
    return this.#repository.change(async () => {
      const draft = new Draft().create(TOKEN, id, token).add(INDEX, id, nowMs);
      audit(draft, { atMs: nowMs, action: 'token.create', by: caller.name, object: id });
      return Promise.resolve({ draft, answer: { text, token } });
    });
  }

  /** All of them for administrators, their own for users. */
  list(caller: Principal, query: PageQuery): Promise<Page<ApiToken>> {
    const from = { kind: TOKEN, index: INDEX };
    return pageOf(
      this.#repository,
      from,
      query,
      ({ principal }) => caller.isAdmin || principal === caller.name,
    );
  }

  async delete(caller: Principal, id: string): Promise<void> {
    await this.#repository.change(async () => {
      const token = await this.#ownOf(caller, id);
      const draft = new Draft().remove(TOKEN, token).drop(INDEX, id);
      const atMs = this.#clock.wallMs();
      audit(draft, { atMs, action: 'token.delete', by: caller.name, object: id });
      return { draft, answer: undefined };
    });
  }

  #isExpired({ expiresAtMs }: ApiToken): boolean {
    return expiresAtMs !== undefined && expiresAtMs <= this.#clock.wallMs();
  }

  async #ownOf(caller: Principal, id: string): Promise<Versioned<ApiToken>> {
    const token = await this.#repository.get(TOKEN, id);
    // Whoever may not see a token does not learn that it is there.
    if (token === undefined || !(caller.isAdmin || token.value.principal === caller.name)) {
      throw new Problem('NotFound');
    }
    return token;
  }
}

/** A new token's text, as `halfway dev` prints one. */
export function newTokenText(): string {
  return `${PREFIX}${randomBytes(SECRET_BYTES).toString('base64url')}`;
}

/** Hashes are compared, so that their lengths tell nothing. */
function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
