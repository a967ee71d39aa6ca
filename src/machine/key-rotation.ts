import { encodeBase64Url } from '../crypto/base64url.ts';
import { signBytes } from '../crypto/es256.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { unwrapGroupKey, wrapGroupKey } from '../crypto/group-package.ts';
import { newScalar, openingKeyOf } from '../crypto/key-pair.ts';
import { ControlError, type ControlAnswer, type ControlCall } from './control-client.ts';
import {
  groupOf,
  keyPackageOf,
  proveGroupKey,
  putPackage,
  UNWRAP_FAULTS,
  type GroupParts,
  type JoinedGroup,
} from './group-joining.ts';
import { generatePassword, requireStrong } from './group-password.ts';
import type { IdentityKey, KeyStore } from './key-store.ts';
import { MachineError } from './machine-error.ts';
import { keyChangeText } from './proofs.ts';
import { writeRegistration, type RegistrationRecord } from './registration-record.ts';
import type { StateFolder } from './state-folder.ts';

// Keys that take the place of others. Source: job-dispatch.md sections 4.2 and 12.7.

/**
 * Makes the machine's next encryption key and has the control plane know it, vouched for by the identity key.
 * It becomes the present one when nothing is sealed to that any more, which is the control plane's to see to.
 * `tell` has the running service read its keys anew: it must have this one before it is asked to seal to it.
 * Returns the fingerprint.
 */
export async function rotateEncryptionKey(
  of: {
    readonly folder: StateFolder;
    readonly keys: KeyStore;
    readonly identity: IdentityKey;
    readonly record: RegistrationRecord;
    /** In the machine's name. */
    readonly call: (call: ControlCall) => Promise<ControlAnswer>;
  },
  tell: () => Promise<void>,
): Promise<string> {
  const { folder, keys, identity, record, call } = of;
  const { environment, machineId } = record;
  // One that was begun and not finished is gone on with.
  const key =
    record.nextEncryptionKid === undefined
      ? await keys.addEncryptionKey()
      : await keys.encryptionKey(record.nextEncryptionKid);
  writeRegistration(folder, { ...record, nextEncryptionKid: key.kid });
  await tell();
  const point = encodeBase64Url(key.point);
  const text = Buffer.from(keyChangeText('encryption-key', { environment, machineId, point }));
  const body = { point, signature: signBytes(identity.privateKey, text) };
  try {
    await call({ method: 'PUT', path: '/agent/encryption-key', body });
  } catch (error) {
    if (error instanceof ControlError && !error.isTransient) {
      const { nextEncryptionKid: _refused, ...before } = record;
      writeRegistration(folder, before);
      keys.removeEncryptionKey(key.kid);
      await tell();
    }
    throw error;
  }
  return fingerprintOf(key.kid);
}

/**
 * Gives the machine another identity key, at once: signed by the present one, and by itself. `isKnown`: whether
 * the control plane takes an identity for this machine's; asked where an earlier try had no answer.
 */
export async function rotateIdentityKey(
  of: {
    readonly folder: StateFolder;
    readonly keys: KeyStore;
    readonly identity: IdentityKey;
    readonly record: RegistrationRecord;
    readonly call: (call: ControlCall) => Promise<ControlAnswer>;
    readonly isKnown: (identity: IdentityKey) => Promise<boolean>;
  },
  tell: () => Promise<void>,
): Promise<void> {
  const { folder, keys, identity, record, call, isKnown } = of;
  const { environment, machineId, nextIdentityKid, ...rest } = record;
  const next =
    nextIdentityKid === undefined
      ? await keys.addIdentityKey()
      : await keys.identityKey(nextIdentityKid);
  const about = { environment, machineId, ...rest };
  writeRegistration(folder, { ...about, nextIdentityKid: next.kid });
  if (nextIdentityKid === undefined || !(await isKnown(next))) {
    const { point } = next;
    const text = Buffer.from(keyChangeText('identity-key', { environment, machineId, point }));
    const signature = signBytes(identity.privateKey, text);
    const body = { point, signature, proof: signBytes(next.privateKey, text) };
    await call({ method: 'PUT', path: '/agent/identity-key', body });
  }
  writeRegistration(folder, { ...about, identityKid: next.kid });
  await tell();
  keys.removeIdentityKey(identity.kid);
}

/**
 * Makes the group's next key, or takes it where another member has made it; either way shows that this machine
 * has it. Somebody must have asked the control plane for the rotation before. As with `joinGroup`, undefined
 * from `askPassword` has a password made where that is possible.
 */
export async function takeNextGroupKey(
  askPassword: (isFirst: boolean) => Promise<string | undefined>,
  parts: GroupParts,
): Promise<JoinedGroup> {
  const { id: groupId } = groupOf(parts.record);
  const next = await keyPackageOf(groupId, parts, '/secondary');
  if (next === undefined) return makeNext(groupId, await askPassword(true), parts);
  const password = await askPassword(false);
  if (password === undefined || next.groupId !== groupId) {
    throw new MachineError(
      'Refused',
      'The next key is there: give the password that was shown where it was made',
    );
  }
  // That it is the one that the control plane knows is what its challenge shows.
  const unwrapped = await unwrapGroupKey(next, password, next.kid);
  if (typeof unwrapped === 'string') throw new MachineError('Refused', UNWRAP_FAULTS[unwrapped]);
  const { key, scalar } = unwrapped;
  try {
    await proveGroupKey(groupId, key, scalar, parts, 'secondary');
    const fingerprint = fingerprintOf(key.kid);
    return { groupId, fingerprint, isFirst: false, generatedPassword: undefined };
  } finally {
    scalar.fill(0);
  }
}

async function makeNext(
  groupId: string,
  given: string | undefined,
  parts: GroupParts,
): Promise<JoinedGroup> {
  if (given !== undefined) requireStrong(given);
  const password = given ?? generatePassword();
  const present = await keyPackageOf(groupId, parts);
  if (present === undefined)
    throw new MachineError('Refused', 'The group has no key: join it anew');
  const scalar = await newScalar();
  try {
    const key = await openingKeyOf(scalar);
    const about = { groupId, kid: key.kid, generation: present.generation + 1 };
    const wrapped = await wrapGroupKey(scalar, about, password);
    const body = { point: encodeBase64Url(key.point), package: wrapped };
    await putPackage(groupId, present.generation, body, parts, '/secondary');
    await proveGroupKey(groupId, key, scalar, parts, 'secondary');
    const generatedPassword = given === undefined ? password : undefined;
    return { groupId, fingerprint: fingerprintOf(key.kid), isFirst: true, generatedPassword };
  } finally {
    scalar.fill(0);
  }
}
