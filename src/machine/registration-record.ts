import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import * as v from 'valibot';
import { MachineError } from './machine-error.ts';
import type { StateFolder } from './state-folder.ts';

// What the machine knows of itself, beside its keys: nothing of it is secret. Bindings of envelopes are made of
// this, never of what comes with an offer.

const id = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~-]{1,64}$/));
const kid = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
const coordinate = kid;

/** A key that the control plane signs offers with, as it published it at registration. */
export const dispatchKeySchema = v.object({
  kty: v.literal('EC'),
  crv: v.literal('P-256'),
  kid,
  x: coordinate,
  y: coordinate,
  /** Of its predecessor, over it; undefined: it is the first. */
  signedBy: v.optional(v.object({ kid, signature: v.string() })),
});
export type DispatchKey = v.InferOutput<typeof dispatchKeySchema>;

const registrationSchema = v.object({
  v: v.literal(1),
  /** Origin of the control plane and its relay. */
  server: v.pipe(v.string(), v.url()),
  tenant: v.string(),
  environment: id,
  machineId: id,
  name: v.string(),
  relayPath: v.string(),
  identityKid: kid,
  /** One that was made and of which it is not known whether the control plane has taken it. */
  nextIdentityKid: v.optional(kid),
  encryptionKid: kid,
  /** One that is to take the place of the present one. */
  nextEncryptionKid: v.optional(kid),
  /** That something may still be sealed to. */
  formerEncryptionKids: v.optional(v.array(kid)),
  dispatchKeys: v.pipe(v.array(dispatchKeySchema), v.minLength(1)),
  /** Of the computer it was registered on; a hint only. */
  hardwareDigest: v.optional(v.string()),
  /** That this machine has the key of. */
  group: v.optional(v.object({ id, kid })),
  registeredAt: v.string(),
});
export type RegistrationRecord = v.InferOutput<typeof registrationSchema>;

const installationSchema = v.object({
  v: v.literal(1),
  installId: id,
  /** Tenants that may register this machine; undefined: all. */
  allowedTenants: v.optional(v.array(v.pipe(v.string(), v.minLength(1)))),
  labels: v.optional(v.record(v.string(), v.string())),
});
export type Installation = v.InferOutput<typeof installationSchema>;

const REGISTRATION_FILE = 'machine.json';
const INSTALLATION_FILE = 'installation.json';
/** Of the computer's own, set up by its administrator; what it says cannot be widened by an option. */
const ALLOWED_TENANTS_FILE = '/etc/halfway/allowed-tenants';

/** Undefined when this machine is not registered. */
export function readRegistration(folder: StateFolder): RegistrationRecord | undefined {
  return readJson(folder, REGISTRATION_FILE, registrationSchema);
}

/** Throws a `MachineError` when this machine is not registered. */
export function requireRegistration(folder: StateFolder): RegistrationRecord {
  const record = readRegistration(folder);
  if (record !== undefined) return record;
  throw new MachineError(
    'NotRegistered',
    `There is no registration in "${folder.path}": register this machine with "halfway machine register"`,
  );
}

export function writeRegistration(folder: StateFolder, record: RegistrationRecord): void {
  writeJson(folder, REGISTRATION_FILE, record);
}

export function removeRegistration(folder: StateFolder): void {
  folder.remove(REGISTRATION_FILE);
}

/** Drawn once, and kept whatever the machine is registered as. */
export function installationOf(folder: StateFolder): Installation {
  const known = readJson(folder, INSTALLATION_FILE, installationSchema);
  if (known !== undefined) return known;
  const made: Installation = { v: 1, installId: randomUUID() };
  writeInstallation(folder, made);
  return made;
}

export function writeInstallation(folder: StateFolder, installation: Installation): void {
  writeJson(folder, INSTALLATION_FILE, installation);
}

/**
 * Throws `UnallowedTenantForConnectWithSignIn` when the tenant is not on the machine's list, or not on the
 * computer's (/etc/halfway/allowed-tenants, one a line).
 */
export function requireAllowedTenant(
  tenant: string,
  { allowedTenants }: Pick<Installation, 'allowedTenants'>,
  file = ALLOWED_TENANTS_FILE,
): void {
  for (const [list, where] of [
    [allowedTenants, 'of this machine (--allowed-tenants)'],
    [tenantsIn(file), `in ${file}`],
  ] as const) {
    if (list === undefined || list.includes(tenant)) continue;
    throw new MachineError(
      'Refused',
      `The tenant "${tenant}" is not on the list ${where}: nothing was registered`,
      { code: 'UnallowedTenantForConnectWithSignIn' },
    );
  }
}

function tenantsIn(file: string): readonly string[] | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    // Whoever cannot read /etc has no list to keep to; without the file there is none.
    return undefined;
  }
  const lines = text.split('\n').map(line => line.replace(/#.*/, '').trim());
  return lines.filter(line => line !== '');
}

/** Tells computers apart, and says nothing about them. Undefined where the system has nothing of the kind. */
export function hardwareDigest(): string | undefined {
  try {
    const machineId = readFileSync('/etc/machine-id', 'utf8').trim();
    if (machineId === '') return undefined;
    const text = `hyco-jobs/1 hardware ${machineId} ${hostname()}`;
    return createHash('sha256').update(text).digest('base64url');
  } catch {
    // A hint that not every system can give.
    return undefined;
  }
}

function readJson<Schema extends v.GenericSchema>(
  folder: StateFolder,
  name: string,
  schema: Schema,
): v.InferOutput<Schema> | undefined {
  const bytes = folder.read(name);
  if (bytes === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    // Said below.
  }
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  throw new MachineError(
    'State',
    `The file "${folder.pathOf(name)}" is damaged: restore it, or remove it and register anew with --force`,
  );
}

function writeJson(folder: StateFolder, name: string, value: object): void {
  folder.write(name, Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`));
}
