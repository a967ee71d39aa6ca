import type { Logger } from '../base/logger.ts';
import type { Offer } from '../jobs/messages.ts';
import type { CredentialOpener } from './ports.ts';
import { formsOf, placesOf, unfinishedFrom } from './secret-mask.ts';

const STAR = 0x2a;

/**
 * Takes secrets out of any part of a file. Each byte of a secret becomes `*`, so that places in the file are places
 * in what is shown, and what is shown of a part does not depend on the process that reads it.
 */
export class LogMask {
  readonly #forms: readonly Buffer[];
  /** So many bytes before a part and behind it decide what is shown of it. */
  readonly marginBytes: number;
  #isWiped = false;

  /** Masks all `formsOf` the secrets, which are copied: the caller wipes its own. */
  constructor(secrets: readonly Buffer[]) {
    this.#forms = formsOf(secrets);
    this.marginBytes = Math.max(1, ...this.#forms.map(({ length }) => length)) - 1;
  }

  /**
   * The bytes masked, in place. Unless they are the last: without what may be the beginning of a secret. Throws
   * when the mask was wiped.
   */
  shown(bytes: Buffer, isLast: boolean): Buffer {
    if (this.#isWiped) throw new Error('The mask of a log was wiped');
    const end = isLast ? bytes.length : unfinishedFrom(this.#forms, bytes);
    for (const [from, to] of placesOf(this.#forms, bytes)) bytes.fill(STAR, from, to);
    return bytes.subarray(0, end);
  }

  /** Safe to call twice. */
  wipe(): void {
    this.#isWiped = true;
    for (const form of this.#forms) form.fill(0);
  }
}

/**
 * A mask of the password that is sealed in an offer, whatever version was seen since: the run signed in with it.
 * Undefined: it cannot be opened any more.
 */
export async function openLogMask(
  offer: Offer,
  opener: CredentialOpener,
  log: Logger,
): Promise<LogMask | undefined> {
  if (offer.connection === undefined || offer.credential === undefined) return new LogMask([]);
  try {
    const { password } = await opener.open(offer);
    const mask = new LogMask([password]);
    password.fill(0);
    return mask;
  } catch (error) {
    const { runId, fence } = offer;
    log.error({ runId, fence, err: error }, 'a log is withheld: its password cannot be opened');
    return undefined;
  }
}
