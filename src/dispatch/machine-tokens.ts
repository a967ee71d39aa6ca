import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { openCompact, verifyingKeyOf } from '../crypto/es256.ts';
import {
  ASSERTION_SECONDS_MAX,
  CLOCK_SKEW_MS_MAX,
  LISTEN_TOKEN_SECONDS,
  MACHINE_TOKEN_SECONDS,
} from '../jobs/limits.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { takeOnce } from './assertions.ts';
import { audienceOf } from './offers.ts';
import { Problem } from './problem.ts';
import type { RelayTokens } from './ports.ts';
import { COMMON_PARTITION, environmentIdSchema, idSchema, MACHINE, SERVER_KEY } from './records.ts';
import { Draft, Repository } from './repository.ts';

const KEY_ID = 'machine-tokens';
const KEY_BYTES = 32;
const PREFIX = 'hwm_';

const claimsSchema = v.object({
  iss: v.string(),
  sub: v.string(),
  aud: v.string(),
  iat: v.pipe(v.number(), v.finite()),
  exp: v.pipe(v.number(), v.finite()),
  /** Without one, a machine makes one assertion a second at most. */
  jti: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(128))),
});
const accessSchema = v.object({ env: environmentIdSchema, sub: idSchema, exp: v.number() });

export interface MachineTokenAnswer {
  readonly accessToken: string;
  readonly accessTokenExpiresAtMs: number;
  /** For the relay: to listen on its own path and nothing else. */
  readonly listenToken: string;
  readonly listenTokenExpiresAtMs: number;
  readonly relayPath: string;
}

/** What a machine proves itself with after it has registered: an assertion once, then a token of minutes. */
export class MachineTokens {
  readonly #store: DispatchStore;
  readonly #clock: Clock;
  readonly #relayTokens: RelayTokens;
  #key: Buffer | undefined;

  constructor(store: DispatchStore, clock: Clock, relayTokens: RelayTokens) {
    this.#store = store;
    this.#clock = clock;
    this.#relayTokens = relayTokens;
  }

  /**
   * Takes a client assertion (JWT, ES256 by the identity key; `iss` and `sub` the machine's id, `aud` as
   * `assertionAudience` says, 5 minutes at most; after RFC 7523), once. Throws `TokenInvalid`,
   * `AuthTokenNotYetValid` when its clock is ahead, `MachineIdentityConflict`, `MachineNotFound`.
   */
  async exchange(
    environment: string,
    machineId: string,
    assertion: string,
  ): Promise<MachineTokenAnswer> {
    const repository = new Repository(this.#store, environment);
    const machine = await repository.get(MACHINE, machineId);
    if (machine === undefined) throw new Problem('MachineNotFound');
    const publicKey = verifyingKeyOf(machine.value.identityKey);
    const claims =
      publicKey === undefined
        ? undefined
        : v.safeParse(claimsSchema, openCompact(assertion, publicKey));
    if (claims?.success !== true) throw new Problem('TokenInvalid');
    this.#check(claims.output, environment, machineId);
    if (machine.value.hasIdentityConflict) throw new Problem('MachineIdentityConflict');
    await takeOnce(repository, {
      machineId,
      text: claims.output.jti ?? assertion.slice(0, assertion.lastIndexOf('.')),
      goodUntilMs: claims.output.exp * 1_000 + CLOCK_SKEW_MS_MAX,
    });
    const nowMs = this.#clock.wallMs();
    const relayPath = audienceOf(environment, machineId);
    const exp = Math.floor(nowMs / 1_000) + MACHINE_TOKEN_SECONDS;
    return {
      accessToken: await this.#sign({ env: environment, sub: machineId, exp }),
      accessTokenExpiresAtMs: exp * 1_000,
      listenToken: await this.#relayTokens.mint(relayPath, 'Listen', LISTEN_TOKEN_SECONDS),
      listenTokenExpiresAtMs: nowMs + LISTEN_TOKEN_SECONDS * 1_000,
      relayPath,
    };
  }

  /** Which machine has this access token, and that it is still registered. Throws `TokenInvalid`. */
  async authenticate(
    text: string,
  ): Promise<{ readonly environment: string; readonly machineId: string }> {
    const [payload = '', mac = '', ...more] = text.slice(PREFIX.length).split('.');
    const expected = await this.#macOf(payload);
    const given = Buffer.from(mac, 'base64url');
    const isOurs =
      text.startsWith(PREFIX) &&
      more.length === 0 &&
      given.length === expected.length &&
      timingSafeEqual(given, expected);
    if (!isOurs) throw new Problem('TokenInvalid');
    const claims = v.parse(accessSchema, JSON.parse(Buffer.from(payload, 'base64url').toString()));
    if (claims.exp * 1_000 <= this.#clock.wallMs()) throw new Problem('TokenInvalid');
    const machine = await new Repository(this.#store, claims.env).get(MACHINE, claims.sub);
    if (machine === undefined) throw new Problem('TokenInvalid', 'the machine is not registered');
    return { environment: claims.env, machineId: claims.sub };
  }

  #check(claims: v.InferOutput<typeof claimsSchema>, environment: string, machineId: string): void {
    const nowMs = this.#clock.wallMs();
    const { iss, sub, aud, iat, exp } = claims;
    const isForUs =
      iss === machineId && sub === machineId && aud === assertionAudience(environment);
    if (!isForUs || exp - iat > ASSERTION_SECONDS_MAX || exp <= iat) {
      throw new Problem('TokenInvalid');
    }
    if (iat * 1_000 > nowMs + CLOCK_SKEW_MS_MAX) throw new Problem('AuthTokenNotYetValid');
    if (exp * 1_000 <= nowMs - CLOCK_SKEW_MS_MAX) {
      throw new Problem('TokenInvalid', 'it is expired; see that the clocks agree');
    }
  }

  async #sign(claims: v.InferOutput<typeof accessSchema>): Promise<string> {
    const payload = Buffer.from(JSON.stringify(claims)).toString('base64url');
    return `${PREFIX}${payload}.${(await this.#macOf(payload)).toString('base64url')}`;
  }

  async #macOf(payload: string): Promise<Buffer> {
    this.#key ??= await this.#loadKey();
    return createHmac('sha256', this.#key).update(payload).digest();
  }

  async #loadKey(): Promise<Buffer> {
    const repository = new Repository(this.#store, COMMON_PARTITION);
    const secret = await repository.change(async () => {
      const known = await repository.get(SERVER_KEY, KEY_ID);
      if (known !== undefined) return { draft: new Draft(), answer: known.value.secret };
      const made = randomBytes(KEY_BYTES).toString('base64url');
      const value = { kid: KEY_ID, secret: made, createdAtMs: this.#clock.wallMs() };
      return { draft: new Draft().create(SERVER_KEY, KEY_ID, value), answer: made };
    });
    return Buffer.from(secret, 'base64url');
  }
}

export function assertionAudience(environment: string): string {
  return `hyco-jobs/1 token ${environment}`;
}
