import { randomUUID } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { RelayToken } from '../client/token-provider.ts';
import { signCompact } from '../crypto/es256.ts';
import { RENEW_TOKEN_AFTER } from '../jobs/limits.ts';
import {
  ControlError,
  type ControlAnswer,
  type ControlCall,
  type ControlClient,
} from './control-client.ts';
import type { IdentityKey } from './key-store.ts';
import { assertionAudience } from './proofs.ts';

/** Less than the 5 minutes that are the most, so that a clock a little ahead does no harm. */
const ASSERTION_SECONDS = 240;

const answerSchema = v.object({
  accessToken: v.string(),
  accessTokenExpiresAt: v.pipe(v.string(), v.isoTimestamp()),
  listenToken: v.string(),
  listenTokenExpiresAt: v.pipe(v.string(), v.isoTimestamp()),
});

/** Both tokens; moments are the control plane's clock's, in milliseconds since 1970. */
interface Tokens {
  readonly access: string;
  readonly listen: string;
  readonly listenUntilMs: number;
  /** Of our monotonic clock: when to ask for new ones, and when the access token is over. */
  readonly renewAtMs: number;
  readonly accessOverAtMs: number;
}

/**
 * How a registered machine proves itself: an assertion that it signs for tokens of minutes. Tokens are
 * fetched when they are wanted, and anew after two thirds of their life; one request at a time.
 */
export class MachineAccess {
  readonly #client: ControlClient;
  readonly #clock: Clock;
  #identity: IdentityKey;
  readonly #environment: string;
  readonly #machineId: string;
  #tokens: Tokens | undefined;
  #fetch: Promise<Tokens> | undefined;

  constructor(of: {
    readonly client: ControlClient;
    readonly clock: Clock;
    readonly identity: IdentityKey;
    readonly environment: string;
    readonly machineId: string;
  }) {
    this.#client = of.client;
    this.#clock = of.clock;
    this.#identity = of.identity;
    this.#environment = of.environment;
    this.#machineId = of.machineId;
  }

  /** `/environments/{env}`, to put paths behind. */
  get base(): string {
    return `/environments/${encodeURIComponent(this.#environment)}`;
  }

  /** The control plane's clock, as far as it is known. */
  serverNowMs(): number {
    return this.#client.serverNowMs();
  }

  /**
   * A request in the machine's name; `path` below the environment. A token that does not count any more
   * is replaced once. Rejects with `ControlError`.
   */
  async call(call: ControlCall): Promise<ControlAnswer> {
    const path = `${this.base}${call.path}`;
    const token = await this.#access();
    try {
      return await this.#client.call({ ...call, path, token });
    } catch (error) {
      if (!(error instanceof ControlError) || error.code !== 'TokenInvalid') throw error;
      if (this.#tokens?.access === token) this.#tokens = undefined;
      return this.#client.call({ ...call, path, token: await this.#access() });
    }
  }

  /** For the relay: the right to listen on the machine's own path, and nothing else. */
  async listenToken(): Promise<RelayToken> {
    const { listen, listenUntilMs } = await this.#current();
    // The relay's client compares with this computer's clock, which may be wrong.
    const skewMs = this.#clock.wallMs() - this.#client.serverNowMs();
    return { token: listen, expiresAtMs: listenUntilMs + skewMs };
  }

  /** Proves itself with this key from now on; tokens that it has stay good. */
  useIdentity(identity: IdentityKey): void {
    this.#identity = identity;
  }

  /** Asks for tokens anew: whether the control plane knows this machine. */
  async prove(): Promise<void> {
    this.#tokens = undefined;
    await this.#current();
  }

  async #access(): Promise<string> {
    return (await this.#current()).access;
  }

  async #current(): Promise<Tokens> {
    const known = this.#tokens;
    const nowMs = this.#clock.nowMs();
    if (known !== undefined && nowMs < known.renewAtMs) return known;
    this.#fetch ??= this.#exchange().finally(() => {
      this.#fetch = undefined;
    });
    try {
      return await this.#fetch;
    } catch (error) {
      // What was to be renewed early is still good for a while.
      const isUsable = known !== undefined && nowMs < known.accessOverAtMs;
      if (isUsable && error instanceof ControlError && error.isTransient) return known;
      throw error;
    }
  }

  async #exchange(): Promise<Tokens> {
    const askedAtMs = this.#clock.nowMs();
    const answer = await this.#client.call({
      method: 'POST',
      path: `${this.base}/machines/${this.#machineId}/token`,
      body: { assertion: this.#assertion() },
    });
    const parsed = v.safeParse(answerSchema, answer.body);
    if (!parsed.success) {
      throw new ControlError(
        'Unreachable',
        'The control plane answered without tokens: is it another version?',
      );
    }
    const { accessToken, accessTokenExpiresAt, listenToken, listenTokenExpiresAt } = parsed.output;
    const accessMs = momentOf(accessTokenExpiresAt) - this.#client.serverNowMs();
    this.#tokens = {
      access: accessToken,
      listen: listenToken,
      listenUntilMs: momentOf(listenTokenExpiresAt),
      renewAtMs: askedAtMs + accessMs * RENEW_TOKEN_AFTER,
      accessOverAtMs: askedAtMs + accessMs,
    };
    return this.#tokens;
  }

  #assertion(): string {
    const iat = Math.floor(this.#clock.wallMs() / 1_000);
    return signCompact(this.#identity, {
      iss: this.#machineId,
      sub: this.#machineId,
      aud: assertionAudience(this.#environment),
      iat,
      exp: iat + ASSERTION_SECONDS,
      jti: randomUUID(),
    });
  }
}

function momentOf(text: string): number {
  // oxlint-disable-next-line no-restricted-globals -- reads a text, asks no clock
  return Date.parse(text);
}
