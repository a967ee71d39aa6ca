import { hostname, release, type as osType } from 'node:os';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { encodeBase64Url } from '../crypto/base64url.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { signBytes } from '../crypto/es256.ts';
import { ControlError, type ControlClient } from './control-client.ts';
import type { KeyStore } from './key-store.ts';
import { MachineAccess } from './machine-access.ts';
import { MachineError } from './machine-error.ts';
import { proofText } from './proofs.ts';
import {
  dispatchKeySchema,
  hardwareDigest,
  installationOf,
  readRegistration,
  requireAllowedTenant,
  writeInstallation,
  writeRegistration,
  type RegistrationRecord,
} from './registration-record.ts';
import type { StateFolder } from './state-folder.ts';

/** Who lets the machine in: a person by an API token, or whoever made the activation code. */
export type Entrance =
  | { readonly type: 'token'; readonly token: string }
  | { readonly type: 'code'; readonly code: string };

export interface RegistrationWish {
  readonly entrance: Entrance;
  readonly environment: string;
  /** The host name by default. */
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Takes the place of the registration that this installation has, and of its connections. */
  readonly force: boolean;
  /** Kept, and asked again at each registration. */
  readonly allowedTenants?: readonly string[] | undefined;
  readonly agentVersion: string;
  /** Unattended runs at once that the machine is made for. */
  readonly capacity?: number | undefined;
}

export interface RegisteredMachine {
  readonly record: RegistrationRecord;
  /** Of the encryption key: to be compared with what whoever seals credentials is shown. */
  readonly fingerprint: string;
  /** The group that the activation code lets it join. */
  readonly groupId: string | undefined;
  /** The registration that this one took the place of. */
  readonly replaced: string | undefined;
}

const answerSchema = v.object({
  machineId: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~-]{1,64}$/)),
  tenant: v.string(),
  relayPath: v.string(),
  dispatchKeys: v.pipe(v.array(dispatchKeySchema), v.minLength(1)),
  groupId: v.optional(v.nullable(v.string())),
  replaced: v.optional(v.nullable(v.string())),
});
const environmentSchema = v.object({ tenant: v.string() });

/**
 * Makes keys, registers with their public halves, and keeps what the control plane answered. Until that
 * has been said nothing on disk changes. Rejects with `MachineError` and `ControlError`. Source:
 * job-dispatch.md section 3.3.
 */
export async function registerMachine(
  wish: RegistrationWish,
  of: {
    readonly folder: StateFolder;
    readonly keys: KeyStore;
    readonly client: ControlClient;
    readonly clock: Clock;
  },
): Promise<RegisteredMachine> {
  const { folder, keys, client, clock } = of;
  const before = readRegistration(folder);
  if (before !== undefined && !wish.force) {
    throw new MachineError(
      'Refused',
      `This machine is registered as "${before.name}" (${before.machineId}) in ${before.environment}: ` +
        'with --force it is registered anew; the connections that it has break then',
      { code: 'MachineIdentityConflict' },
    );
  }
  const installation = {
    ...installationOf(folder),
    ...(wish.allowedTenants === undefined ? {} : { allowedTenants: [...wish.allowedTenants] }),
    ...(wish.labels === undefined ? {} : { labels: wish.labels }),
  };
  const { environment, entrance } = wish;
  const token = entrance.type === 'token' ? entrance.token : undefined;
  const base = `/environments/${encodeURIComponent(environment)}`;
  // With a code the tenant is known only by the answer.
  if (token !== undefined) requireAllowedTenant(await tenantOf(client, base, token), installation);
  const made = await keys.make();
  try {
    const digest = hardwareDigest();
    const unproved = {
      name: wish.name ?? hostname(),
      ...(wish.description === undefined ? {} : { description: wish.description }),
      identityKey: made.identity.point,
      encryptionKey: { suite: 'p256', point: encodeBase64Url(made.encryption.point) },
      installId: installation.installId,
      ...(digest === undefined ? {} : { hardwareDigest: digest }),
      agentVersion: wish.agentVersion,
      os: `${osType()} ${release()}`,
      ...(wish.capacity === undefined ? {} : { capacity: wish.capacity }),
      ...(installation.labels === undefined ? {} : { labels: installation.labels }),
      force: wish.force,
      ...(entrance.type === 'code' ? { activationCode: entrance.code } : {}),
    };
    const proof = signBytes(
      made.identity.privateKey,
      Buffer.from(proofText(environment, unproved)),
    );
    const body = { ...unproved, proof };
    const answer = await client.call({
      method: 'POST',
      path: `${base}/machines:register`,
      token,
      body,
    });
    const parsed = v.safeParse(answerSchema, answer.body);
    if (!parsed.success) {
      throw new ControlError(
        'Unreachable',
        'The control plane answered without a registration: is it another version?',
      );
    }
    const { machineId, tenant, relayPath, dispatchKeys, groupId, replaced } = parsed.output;
    const record: RegistrationRecord = {
      v: 1,
      server: client.origin,
      tenant,
      environment,
      machineId,
      name: unproved.name,
      relayPath,
      identityKid: made.identity.kid,
      encryptionKid: made.encryption.kid,
      dispatchKeys,
      ...(digest === undefined ? {} : { hardwareDigest: digest }),
      registeredAt: momentText(clock.wallMs()),
    };
    const access = new MachineAccess({
      client,
      clock,
      identity: made.identity,
      environment,
      machineId,
    });
    await requireExpected(record, installation, access);
    made.keep();
    writeInstallation(folder, installation);
    // From here on this registration is the one that counts.
    writeRegistration(folder, record);
    keys.removeOthers({ identity: made.identity.kid, encryption: made.encryption.kid });
    return {
      record,
      fingerprint: fingerprintOf(made.encryption.kid),
      groupId: groupId ?? undefined,
      replaced: replaced ?? undefined,
    };
  } finally {
    made.drop();
  }
}

async function tenantOf(client: ControlClient, base: string, token: string): Promise<string> {
  const { body } = await client.call({ method: 'GET', path: base, token });
  const parsed = v.safeParse(environmentSchema, body);
  if (parsed.success) return parsed.output.tenant;
  throw new ControlError(
    'Unreachable',
    'The control plane does not tell the tenant: is it another version?',
  );
}

/** What was registered for somebody who may not is taken back. */
async function requireExpected(
  { tenant, machineId, relayPath, environment }: RegistrationRecord,
  installation: Parameters<typeof requireAllowedTenant>[1],
  access: MachineAccess,
): Promise<void> {
  try {
    requireAllowedTenant(tenant, installation);
    // What offers are for is signed; the machine must not be told another path than its own.
    if (relayPath === `${environment}/m/${machineId}`) return;
    throw new MachineError(
      'Refused',
      `The control plane gave a path that is not this machine's: "${relayPath}"`,
    );
  } catch (error) {
    await removeItself(access, machineId).catch((why: unknown) => {
      if (!(why instanceof ControlError)) throw why;
    });
    throw error;
  }
}

/** Deletes the machine in its own name. */
export async function removeItself(access: MachineAccess, machineId: string): Promise<void> {
  const path = `/machines/${machineId}`;
  const { etag } = await access.call({ method: 'GET', path });
  await access.call({ method: 'DELETE', path, ifMatch: etag });
}

/** ISO 8601. */
export function momentText(wallMs: number): string {
  // oxlint-disable-next-line no-restricted-globals -- writes a moment as text, asks no clock
  return new Date(wallMs).toISOString();
}
