import type { CancelTimer, Clock } from '../base/clock.ts';
import type { RelayToken } from './token-provider.ts';

/** Renewed after this share of a token's life, so that a slow clock or a lost message does no harm. */
const RENEW_AFTER = 0.75;
/** Pause after a renewal that failed, or that gave a token which is no better. */
const RETRY_MS = 15_000;
/** However short a token lives, its provider is not asked more often. */
const RENEW_MIN_MS = 1_000;

export interface RenewalOptions {
  readonly clock: Clock;
  readonly validForMs: number;
  readonly getToken: (validForMs: number) => Promise<RelayToken>;
  /** Tells the relay. */
  readonly send: (token: string) => void;
  readonly onFailure: (error: unknown) => void;
}

/**
 * Keeps a control channel's token good. When no better one can be had, the relay ends the channel some
 * time after the last one has expired, and whoever connects again asks the provider again.
 */
export class TokenRenewal {
  readonly #options: RenewalOptions;
  #current: RelayToken;
  #cancel: CancelTimer = () => {};
  #isStopped = false;

  constructor(token: RelayToken, options: RenewalOptions) {
    this.#options = options;
    this.#current = token;
    this.#schedule(this.#lifeMs() * RENEW_AFTER);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** What is left of the token's life. */
  #lifeMs(): number {
    const { clock, validForMs } = this.#options;
    const { expiresAtMs } = this.#current;
    return expiresAtMs === undefined ? validForMs : expiresAtMs - clock.wallMs();
  }

  #schedule(delayMs: number): void {
    this.#cancel = this.#options.clock.after(Math.max(RENEW_MIN_MS, delayMs), () => {
      this.#renew().catch((error: unknown) => {
        if (this.#isStopped) return;
        this.#options.onFailure(error);
        this.#schedule(RETRY_MS);
      });
    });
  }

  async #renew(): Promise<void> {
    const { getToken, send, validForMs } = this.#options;
    const token = await getToken(validForMs);
    if (this.#isStopped) return;
    // A provider with one token alone gives it again.
    if (token.token === this.#current.token) {
      this.#schedule(RETRY_MS);
      return;
    }
    this.#current = token;
    send(token.token);
    this.#schedule(this.#lifeMs() * RENEW_AFTER);
  }
}
