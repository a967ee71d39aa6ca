import type { Logger } from '../base/logger.ts';
import { JOB_ERRORS } from '../jobs/error-codes.ts';
import type { Offer } from '../jobs/messages.ts';
import { parseAccountName, type AccountName } from './account-name.ts';
import { failed, INPUT_SECRET, type Outcome } from './executor/messages.ts';
import { wipeSecrets, type Secrets } from './executor/frames.ts';
import { OpeningError, type CredentialOpener, type OpenedCredential } from './ports.ts';

/** What was sealed in an offer, opened. To be wiped as soon as it was used. */
export interface OpenedSecrets extends Disposable {
  /** For the sign-in and the mask of the log; no executor is told. */
  readonly credential: OpenedCredential | undefined;
  readonly account: AccountName | undefined;
  /** The sealed inputs, by the names that executors know. */
  readonly secrets: Secrets;
}

/**
 * Opens all that is sealed in an offer. An outcome instead: it stays shut, or is older than what was seen of
 * the connection before. Source: job-dispatch.md section 12.3.
 *
 * @param versionSeen the highest version of the connection's credentials that was opened here
 */
export async function openSecrets(
  offer: Offer,
  opener: CredentialOpener,
  versionSeen: number,
  log: Logger,
): Promise<OpenedSecrets | { readonly outcome: Outcome }> {
  const { connection, credential: envelope, runId } = offer;
  let credential: OpenedCredential | undefined;
  try {
    if (connection !== undefined && envelope !== undefined) {
      if (connection.version < versionSeen) return refused('CredentialVersionStale', offer, log);
      credential = await opener.open(offer);
    }
    const hasInputs = Object.keys(offer.sealedInputs).length > 0;
    const inputs = hasInputs ? await opener.openInputs(offer) : {};
    const named = Object.entries(inputs).map(([name, value]) => [`${INPUT_SECRET}${name}`, value]);
    const secrets: Secrets = Object.fromEntries(named);
    const account =
      credential === undefined ? undefined : parseAccountName(credential.user, credential.domain);
    const wipe = (): void => {
      credential?.password.fill(0);
      wipeSecrets(secrets);
    };
    return { credential, account, secrets, [Symbol.dispose]: wipe };
  } catch (error) {
    credential?.password.fill(0);
    if (error instanceof OpeningError) return refused(error.code, offer, log);
    log.error({ runId, err: error }, 'sealed credentials could not be opened');
    const message = 'The machine service failed to open the credentials; see its log';
    return { outcome: failed('CredentialCannotBeOpened', message) };
  }
}

function refused(
  code: OpeningError['code'] | 'CredentialVersionStale',
  { runId, connection }: Offer,
  log: Logger,
): { readonly outcome: Outcome } {
  // Somebody tries what no program of ours does, or a key was changed.
  const about = { runId, connectionId: connection?.id, code };
  log.error({ event: 'security', ...about }, 'credentials were refused');
  return { outcome: failed(code, JOB_ERRORS[code].text) };
}
