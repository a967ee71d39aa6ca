import { fingerprintOf, isFingerprintOf } from '../../crypto/fingerprint.ts';
import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import type { TargetKey } from '../../dispatch-client/sealing.ts';
import { CommandError } from '../command-error.ts';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import type { FoundTarget } from './find-record.ts';
import { pinsFile, pinsOf, pinTargetOf, readPins, writePin } from './key-pins.ts';
import { plain } from './show.ts';

export interface TrustOptions extends ApiOptions {
  readonly fingerprint?: string;
  readonly acceptNewKey?: boolean;
}

/**
 * The key to seal to. It is refused when it is not the one that --fingerprint names, and when another was known for
 * this target and nobody said that it may have changed; a key that is seen first is shown, and kept.
 */
export async function trustedKey(
  client: DispatchClient,
  target: FoundTarget,
  options: TrustOptions,
  context: CommandContext,
): Promise<TargetKey> {
  const key = await client.publicKeyOf(target);
  const { kid } = key.holder;
  const what = `the ${target.kind} ${plain(target.name)}`;
  if (options.fingerprint !== undefined && !isFingerprintOf(options.fingerprint, kid)) {
    throw new CommandError(
      `The key of ${what} is not the one that --fingerprint names; nothing was sealed\n  it is ${key.fingerprint}`,
    );
  }
  const file = pinsFile(context);
  const pinTarget = pinTargetOf(client, target);
  const known = pinsOf(readPins(file), pinTarget);
  const other = known.find(pin => pin.kid !== kid);
  const isVouchedFor = options.fingerprint !== undefined || options.acceptNewKey === true;
  if (other !== undefined && !isVouchedFor) {
    throw new CommandError(
      `The key of ${what} has changed; nothing was sealed\n` +
        `  known: ${fingerprintOf(other.kid)} (${other.id})\n` +
        `  now:   ${key.fingerprint} (${target.id})\n` +
        '  It was registered anew, its key was rotated, or somebody wants to read what is sealed.\n' +
        '  Compare with `halfway machine status` there, then give --accept-new-key or --fingerprint',
    );
  }
  const isKnown = known.length === 1 && known[0]?.kid === kid && known[0]?.id === target.id;
  if (!isKnown) writePin(file, { ...pinTarget, kid });
  if (options.quiet !== true) {
    const note = isKnown || options.fingerprint !== undefined ? '' : NEW_KEY_NOTE;
    context.stderr.write(`Sealing to ${what}, fingerprint ${key.fingerprint}${note}\n`);
  }
  return key;
}

const NEW_KEY_NOTE =
  '\n  seen for the first time: compare it with what `halfway machine status` shows there';
