import * as v from 'valibot';
import { encodeBase64Url } from '../crypto/base64url.ts';
import { signBytes } from '../crypto/es256.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import {
  unwrapGroupKey,
  wrapGroupKey,
  type GroupPackage,
  type UnwrapFault,
} from '../crypto/group-package.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../crypto/key-pair.ts';
import { openEnvelope } from '../crypto/open-envelope.ts';
import { envelopeSchema } from '../jobs/messages.ts';
import { ControlError, type ControlAnswer, type ControlCall } from './control-client.ts';
import { generatePassword, requireStrong } from './group-password.ts';
import type { IdentityKey, KeyStore } from './key-store.ts';
import { MachineError } from './machine-error.ts';
import { joinProofText } from './proofs.ts';
import { writeRegistration, type RegistrationRecord } from './registration-record.ts';
import type { StateFolder } from './state-folder.ts';

/** What joining needs of the machine. */
export interface GroupParts {
  readonly folder: StateFolder;
  readonly keys: KeyStore;
  readonly identity: IdentityKey;
  readonly record: RegistrationRecord;
  /** To the control plane, `path` below the environment: in the machine's name, or a person's. */
  readonly call: (call: ControlCall) => Promise<ControlAnswer>;
}

export interface JoinedGroup {
  readonly groupId: string;
  readonly fingerprint: string;
  /** Whether this machine made the key. */
  readonly isFirst: boolean;
  /** One that was made here: to be shown once, and kept nowhere. */
  readonly generatedPassword: string | undefined;
}

const packageSchema = v.object({
  v: v.literal(1),
  groupId: v.string(),
  kid: v.string(),
  generation: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  suite: v.literal('p256'),
  kdf: v.object({
    name: v.literal('scrypt'),
    N: v.number(),
    r: v.number(),
    p: v.number(),
    salt: v.string(),
  }),
  nonce: v.string(),
  wrapped: v.string(),
});
const publicKeySchema = v.object({ kid: v.string(), suite: v.literal('p256') });
const challengeSchema = v.object({ challengeId: v.string(), sealed: envelopeSchema });

export const UNWRAP_FAULTS: Readonly<Record<UnwrapFault, string>> = {
  'kdf-too-weak':
    'The control plane asks for less work per password than this program accepts: somebody may want to guess it. ' +
    'The password was not used; tell whoever runs the control plane',
  malformed:
    'The key package of the group is damaged: change the group password on a machine that is in it',
  'wrong-password': 'The group password is wrong, or the key package was changed on its way',
  'wrong-key':
    'The key package opened, but has not the key that the group is known by: do not use this group, and tell ' +
    'whoever runs the control plane',
};

/**
 * Lets this machine into a group. The first one makes the group's key and puts it under the password; later
 * ones unwrap it here, compare it with the public key, and show that they have it. `askPassword` is called
 * once at most; undefined from it: one is made where that is possible. Rejects with `MachineError` and
 * `ControlError`. Source: job-dispatch.md sections 4.2 and 12.4.
 */
export async function joinGroup(
  groupId: string,
  askPassword: (isFirst: boolean) => Promise<string | undefined>,
  parts: GroupParts,
): Promise<JoinedGroup> {
  const { record } = parts;
  if (record.group !== undefined && record.group.id !== groupId) {
    throw new MachineError(
      'Refused',
      `This machine is in the group ${record.group.id}: let it leave first, with "halfway machine leave-group"`,
    );
  }
  const found = await keyPackageOf(groupId, parts);
  return found === undefined
    ? joinFirst(groupId, await askPassword(true), parts)
    : joinLater(groupId, found, await askPassword(false), parts);
}

async function joinFirst(
  groupId: string,
  given: string | undefined,
  parts: GroupParts,
): Promise<JoinedGroup> {
  if (given !== undefined) requireStrong(given);
  const password = given ?? generatePassword();
  const scalar = await newScalar();
  try {
    const key = await openingKeyOf(scalar);
    const about = { groupId, kid: key.kid, generation: 1 };
    await putPackage(
      groupId,
      0,
      {
        point: encodeBase64Url(key.point),
        package: await wrapGroupKey(scalar, about, password),
      },
      parts,
    );
    await proveGroupKey(groupId, key, scalar, parts);
    member(groupId, key.kid, parts);
    const generatedPassword = given === undefined ? password : undefined;
    return { groupId, fingerprint: fingerprintOf(key.kid), isFirst: true, generatedPassword };
  } finally {
    scalar.fill(0);
  }
}

async function joinLater(
  groupId: string,
  found: GroupPackage,
  password: string | undefined,
  parts: GroupParts,
): Promise<JoinedGroup> {
  if (password === undefined) {
    throw new MachineError(
      'Refused',
      'The group has a key already: give its password, as it was shown when the first machine joined',
    );
  }
  if (found.groupId !== groupId) throw new MachineError('Refused', UNWRAP_FAULTS.malformed);
  const { body } = await parts.call({ method: 'GET', path: `${pathOf(groupId)}/public-key` });
  const { kid } = read(publicKeySchema, body);
  const unwrapped = await unwrapGroupKey(found, password, kid);
  if (typeof unwrapped === 'string') throw new MachineError('Refused', UNWRAP_FAULTS[unwrapped]);
  const { key, scalar } = unwrapped;
  try {
    await proveGroupKey(groupId, key, scalar, parts);
    member(groupId, key.kid, parts);
    const fingerprint = fingerprintOf(key.kid);
    return { groupId, fingerprint, isFirst: false, generatedPassword: undefined };
  } finally {
    scalar.fill(0);
  }
}

function member(groupId: string, kid: string, { folder, record }: GroupParts): void {
  writeRegistration(folder, { ...record, group: { id: groupId, kid } });
}

/** Answers the control plane's challenge. The key is on disk before the machine counts as a member. */
export async function proveGroupKey(
  groupId: string,
  key: OpeningKey,
  scalar: Uint8Array,
  { keys, identity, record, call }: GroupParts,
  which: 'primary' | 'secondary' = 'primary',
): Promise<void> {
  const { machineId, tenant, environment } = record;
  const members = `${pathOf(groupId)}/members`;
  const asked = await call({
    method: 'POST',
    path: members,
    body: which === 'primary' ? { machineId } : { machineId, key: which },
  });
  const { challengeId, sealed } = read(challengeSchema, asked.body);
  const holder = { tenant, environment, kind: 'group', id: groupId } as const;
  const purpose = { type: 'challenge', machineId, challengeId } as const;
  const opened = await openEnvelope([key], holder, purpose, sealed);
  if (typeof opened === 'string') {
    throw new MachineError(
      'Refused',
      'The challenge of the control plane is sealed to another key than the group has',
      {
        code: opened,
      },
    );
  }
  const answer = encodeBase64Url(opened);
  opened.fill(0);
  const text = Buffer.from(joinProofText(groupId, challengeId, answer));
  const signature = signBytes(identity.privateKey, text);
  const wasThere = (await keys.groupKeys(groupId)).some(({ kid }) => kid === key.kid);
  keys.keepGroupKey(groupId, key.kid, scalar);
  try {
    const path = `${members}/${machineId}/proof`;
    await call({ method: 'PUT', path, body: { challengeId, answer, signature } });
  } catch (error) {
    // Where there was no answer it may be a member; then the key is of use when it joins again.
    const isRefused = error instanceof ControlError && error.code !== 'Unreachable';
    if (isRefused && !wasThere) keys.removeGroupKey(groupId, key.kid);
    throw error;
  }
}

/** Lets the machine out, and deletes its copy of the key, which is done whatever the control plane knows. */
export async function leaveGroup(parts: Omit<GroupParts, 'identity'>): Promise<string> {
  const { folder, keys, record, call } = parts;
  const groupId = groupOf(record).id;
  try {
    await call({ method: 'DELETE', path: `${pathOf(groupId)}/members/${record.machineId}` });
  } catch (error) {
    const isOut =
      error instanceof ControlError &&
      (error.code === 'NotFound' || error.code === 'MachineGroupNotFound');
    if (!isOut) throw error;
  }
  const { group: _left, ...alone } = record;
  writeRegistration(folder, alone);
  keys.removeGroupKeys(groupId);
  return groupId;
}

/**
 * Puts the group's key under another password: the given one, or one that is made and returned. Who
 * kept the old package and the old password has the same key as before.
 */
export async function changeGroupPassword(
  given: string | undefined,
  parts: Omit<GroupParts, 'identity'>,
): Promise<{ readonly groupId: string; readonly generatedPassword: string | undefined }> {
  const { id: groupId, kid } = groupOf(parts.record);
  if (given !== undefined) requireStrong(given);
  const password = given ?? generatePassword();
  const before = await keyPackageOf(groupId, parts);
  if (before === undefined) throw new MachineError('Refused', 'The group has no key: join it anew');
  if (before.kid !== kid) {
    throw new MachineError(
      'Refused',
      'The group has another key by now: join it anew with its password',
    );
  }
  const generation = before.generation + 1;
  await parts.keys.withGroupKey(groupId, kid, async scalar => {
    const { point } = await openingKeyOf(scalar);
    const wrapped = await wrapGroupKey(scalar, { groupId, kid, generation }, password);
    const body = { point: encodeBase64Url(point), package: wrapped };
    await putPackage(groupId, before.generation, body, parts);
  });
  return { groupId, generatedPassword: given === undefined ? password : undefined };
}

export async function putPackage(
  groupId: string,
  generation: number,
  body: { readonly point: string; readonly package: GroupPackage },
  { call }: Pick<GroupParts, 'call'>,
  which: '' | '/secondary' = '',
): Promise<void> {
  try {
    const path = `${pathOf(groupId)}/key-package${which}`;
    await call({ method: 'PUT', path, ifMatch: `"${generation}"`, body });
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== 'PreconditionFailed') throw error;
    const what =
      generation === 0
        ? 'Another machine was faster and has made the key of the group: join again, with the password that was shown there'
        : 'Somebody else changed the password at the same time: this change was not made';
    throw new MachineError('Refused', what, { cause: error });
  }
}

/** Undefined while the group has no key. */
export async function keyPackageOf(
  groupId: string,
  { call }: Pick<GroupParts, 'call'>,
  which: '' | '/secondary' = '',
): Promise<GroupPackage | undefined> {
  try {
    const path = `${pathOf(groupId)}/key-package${which}`;
    const { body } = await call({ method: 'GET', path });
    return read(packageSchema, body);
  } catch (error) {
    if (error instanceof ControlError && error.code === 'NotFound') return undefined;
    throw error;
  }
}

export function groupOf({ group }: RegistrationRecord): {
  readonly id: string;
  readonly kid: string;
} {
  if (group !== undefined) return group;
  throw new MachineError('Refused', 'This machine is in no group');
}

function pathOf(groupId: string): string {
  return `/groups/${encodeURIComponent(groupId)}`;
}

function read<Schema extends v.GenericSchema>(
  schema: Schema,
  body: unknown,
): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const where = issue === undefined ? '' : ` (${v.getDotPath(issue) ?? 'all'}: ${issue.message})`;
  throw new MachineError(
    'Refused',
    `The answer of the control plane cannot be read${where}: is it another version?`,
  );
}
