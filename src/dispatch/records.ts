import * as v from 'valibot';
import { envelopeSchema } from '../jobs/messages.ts';
import type { Kind } from './repository.ts';

// What is kept of everything but runs (run-record.ts): the forms in the store, not those of REST. Times
// are wall-clock milliseconds. Ids of people's choosing, names and texts were checked before they came here.

/** Until there are several, all records belong to this tenant; envelopes are bound to it. */
export const TENANT = 'default';
/** The partition of what is beside all environments. */
export const COMMON_PARTITION = '~';

export const NAME_CHARS_MAX = 100;
export const DESCRIPTION_CHARS_MAX = 2_000;

export const idSchema = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~-]{1,64}$/));
/** Names of environments are part of relay paths. */
export const environmentIdSchema = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/),
);
/** Who acts: `user:ann`, `token:ci`, `machine:<id>`. */
export const principalSchema = v.pipe(
  v.string(),
  v.regex(/^(?:user|token|machine):[A-Za-z0-9._~-]{1,64}$/),
);
export const nameSchema = v.pipe(
  v.string(),
  v.trim(),
  v.minLength(1),
  v.maxLength(NAME_CHARS_MAX),
  v.regex(/^\P{Cc}*$/u, 'must have no control characters'),
);
export const descriptionSchema = v.pipe(v.string(), v.maxLength(DESCRIPTION_CHARS_MAX));
export const momentSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const countSchema = momentSchema;
export const labelsSchema = v.pipe(
  v.record(v.pipe(v.string(), v.maxLength(64)), v.pipe(v.string(), v.maxLength(256))),
  v.check(labels => Object.keys(labels).length <= 32, 'must be at most 32 labels'),
);

export const roleSchema = v.picklist(['owner', 'maker', 'user', 'reader']);
export type Role = v.InferOutput<typeof roleSchema>;

export const grantSchema = v.picklist(['co-owner', 'edit', 'use', 'user']);
/** What a principal was given on one record; `use` and `user` are the same right. */
export type Grant = v.InferOutput<typeof grantSchema>;
export const accessSchema = v.record(principalSchema, grantSchema);

/** What every record that can be shared has. */
export const shared = {
  owner: principalSchema,
  access: accessSchema,
  createdAtMs: momentSchema,
  createdBy: principalSchema,
};

export const environmentSchema = v.object({
  id: environmentIdSchema,
  tenant: v.string(),
  displayName: v.string(),
  roles: v.record(principalSchema, roleSchema),
  minAgentVersion: v.optional(v.string()),
  /** How long runs are kept after their end; undefined: `RUN_DAYS_DEFAULT`. */
  runDays: v.optional(countSchema),
  createdAtMs: momentSchema,
});
export type Environment = v.InferOutput<typeof environmentSchema>;

export const userSchema = v.object({
  id: idSchema,
  displayName: v.string(),
  /** Owner of every environment. */
  isAdmin: v.boolean(),
  isDisabled: v.boolean(),
  createdAtMs: momentSchema,
});
export type User = v.InferOutput<typeof userSchema>;

export const tokenSchema = v.object({
  /** Follows from the token's own text. */
  id: idSchema,
  name: v.string(),
  /** Whoever acts with it; `token:<id>` when it stands for nobody but itself. */
  principal: principalSchema,
  /** Of a token that stands for itself. */
  isAdmin: v.boolean(),
  /** SHA-256 of the whole text, base64url: the text itself is kept nowhere. */
  sha256: v.string(),
  expiresAtMs: v.optional(momentSchema),
  createdAtMs: momentSchema,
  createdBy: principalSchema,
});
export type ApiToken = v.InferOutput<typeof tokenSchema>;

/** A public key that credentials are sealed to. */
export const publicKeySchema = v.object({
  kid: v.string(),
  suite: v.literal('p256'),
  /** The uncompressed point, base64url. */
  point: v.string(),
});
export type PublicKey = v.InferOutput<typeof publicKeySchema>;

/** A key that was replaced: whoever has it keeps it until then, for what is under way. */
const formerKeySchema = v.object({
  publicKey: publicKeySchema,
  replacedAtMs: momentSchema,
  dropAtMs: momentSchema,
});
export type FormerKey = v.InferOutput<typeof formerKeySchema>;

export const machineSchema = v.object({
  ...shared,
  id: idSchema,
  tenant: v.string(),
  name: v.string(),
  description: v.string(),
  /** Drawn once for each installation of the machine service. */
  installId: idSchema,
  hardwareDigest: v.optional(v.string()),
  /** Public key of its signatures (ES256): the uncompressed point, base64url. */
  identityKey: v.string(),
  encryptionKey: publicKeySchema,
  os: v.string(),
  registeredVersion: v.string(),
  labels: labelsSchema,
  /** Runs without a user at the machine that its owner allows at once. */
  allocatedBots: countSchema,
  reuseSessions: v.boolean(),
  /** How many runs behind a head that cannot be placed may go before it. */
  lookAhead: countSchema,
  isInMaintenance: v.boolean(),
  isDraining: v.boolean(),
  /** Another installation spoke in its name: it is not offered anything until it is registered again. */
  hasIdentityConflict: v.boolean(),
  group: v.optional(
    v.object({
      id: idSchema,
      /** Of the keys that it has proved, the one that was the group's own last. */
      provedKid: v.optional(v.string()),
      /** Others of the group's keys that it has proved: the next one, or former ones. */
      otherKids: v.optional(v.array(v.string())),
    }),
  ),
  /** The encryption key that is to take the place of the present one. */
  secondaryKey: v.optional(v.object({ publicKey: publicKeySchema, createdAtMs: momentSchema })),
  formerKeys: v.optional(v.array(formerKeySchema)),
  /** The group that its activation code lets it join. */
  mayJoin: v.optional(idSchema),
  /** Something that makes it eligible again changed. */
  eligibleAtMs: momentSchema,
});
export type Machine = v.InferOutput<typeof machineSchema>;

/** What a machine last said and when: a record of its own, since it is written so often. */
export const presenceSchema = v.object({
  lastSignalAtMs: momentSchema,
  /** When it was last not there before. */
  gainedAtMs: momentSchema,
  instance: v.string(),
  /** Earlier processes of the service, the latest first; one of them that comes back is a second computer. */
  earlierInstances: v.array(v.string()),
  /** Those that came back in a row, as often as they did. */
  returned: v.optional(v.array(v.string()), []),
  agentVersion: v.string(),
  os: v.string(),
  capacity: v.object({ unattended: countSchema, attended: countSchema }),
  sessions: v.array(v.object({ user: v.string(), state: v.string() })),
  labels: labelsSchema,
  keys: v.array(v.string()),
  transport: v.optional(v.string()),
  sourceAddress: v.optional(v.string()),
  /** The machine's clock less ours. */
  clockSkewMs: v.number(),
});
export type Presence = v.InferOutput<typeof presenceSchema>;

export const groupPackageSchema = v.object({
  v: v.literal(1),
  groupId: idSchema,
  kid: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/)),
  generation: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  suite: v.literal('p256'),
  kdf: v.object({
    name: v.literal('scrypt'),
    N: v.pipe(v.number(), v.safeInteger(), v.minValue(2 ** 16), v.maxValue(2 ** 20)),
    r: v.literal(8),
    p: v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(4)),
    salt: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{22}$/)),
  }),
  nonce: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{16}$/)),
  /** A scalar of 32 bytes and a tag of 16. */
  wrapped: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{64}$/)),
});

const groupKeySchema = v.object({
  publicKey: publicKeySchema,
  package: groupPackageSchema,
  createdAtMs: momentSchema,
  passwordChangedAtMs: momentSchema,
  passwordChangedBy: principalSchema,
});
export type GroupKey = v.InferOutput<typeof groupKeySchema>;

export const groupSchema = v.object({
  ...shared,
  id: idSchema,
  tenant: v.string(),
  name: v.string(),
  description: v.string(),
  isInMaintenance: v.boolean(),
  lookAhead: countSchema,
  /** Undefined until the first machine has joined. */
  key: v.optional(groupKeySchema),
  /** Another key is to take its place; undefined until a member has made it. */
  rotation: v.optional(
    v.object({
      startedAtMs: momentSchema,
      startedBy: principalSchema,
      secondary: v.optional(groupKeySchema),
    }),
  ),
  formerKeys: v.optional(v.array(formerKeySchema)),
});
export type Group = v.InferOutput<typeof groupSchema>;

/** Somebody asked to join and has not proved the key yet. */
export const challengeSchema = v.object({
  id: idSchema,
  groupId: idSchema,
  machineId: idSchema,
  kid: v.string(),
  /** SHA-256 of what was sealed, base64url. */
  sha256: v.string(),
  expiresAtMs: momentSchema,
});
export type Challenge = v.InferOutput<typeof challengeSchema>;

export const targetSchema = v.object({ kind: v.picklist(['machine', 'group']), id: idSchema });
/** Where runs go: whoever holds the key that the connection's credentials are sealed to. */
export type Target = v.InferOutput<typeof targetSchema>;

export const connectionSchema = v.object({
  ...shared,
  id: idSchema,
  tenant: v.string(),
  name: v.string(),
  /** `none`: attended, with whoever is signed in at the machine. */
  kind: v.picklist(['password', 'vaultRef', 'none']),
  target: targetSchema,
  /** For people; undefined unless the owner tells it. */
  accountName: v.optional(v.string()),
  /** Whose rights on the target count when it runs. */
  runOwner: principalSchema,
  /** Of the sealed credentials; envelopes are bound to it. */
  credentialVersion: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  envelope: v.optional(envelopeSchema),
  vaultRef: v.optional(v.string()),
  /** Machines may seal it anew to another key without its owner. */
  mayReseal: v.boolean(),
  /** Signing in failed: nothing runs with it until it was edited, or the account would be locked. */
  suspended: v.optional(v.object({ code: v.string(), atMs: momentSchema })),
  updatedAtMs: momentSchema,
});
export type Connection = v.InferOutput<typeof connectionSchema>;

export const activationCodeSchema = v.object({
  id: idSchema,
  /** SHA-256 of the code, base64url. */
  sha256: v.string(),
  name: v.string(),
  expiresAtMs: momentSchema,
  usesLeft: countSchema,
  groupId: v.optional(idSchema),
  labels: labelsSchema,
  createdAtMs: momentSchema,
  createdBy: principalSchema,
});
export type ActivationCode = v.InferOutput<typeof activationCodeSchema>;

/** Which machine an installation is registered as. */
export const installSchema = v.object({ machineId: idSchema });

/** What a request with an `Idempotency-Key` made. */
export const idempotencySchema = v.object({
  bodySha256: v.string(),
  resourceId: v.string(),
  expiresAtMs: momentSchema,
});

/** A secret of the control plane itself, such as the key that signs offers. */
export const serverKeySchema = v.object({
  kid: v.string(),
  /** A private key as PKCS#8, or bytes of a secret; base64url. */
  secret: v.string(),
  createdAtMs: momentSchema,
});
export type ServerKey = v.InferOutput<typeof serverKeySchema>;

export const ENVIRONMENT: Kind<Environment> = { name: 'environment', schema: environmentSchema };
export const USER: Kind<User> = { name: 'user', schema: userSchema };
export const TOKEN: Kind<ApiToken> = { name: 'token', schema: tokenSchema };
export const MACHINE: Kind<Machine> = { name: 'machine', schema: machineSchema };
export const PRESENCE: Kind<Presence> = { name: 'presence', schema: presenceSchema };
export const GROUP: Kind<Group> = { name: 'group', schema: groupSchema };
export const CHALLENGE: Kind<Challenge> = { name: 'challenge', schema: challengeSchema };
export const CONNECTION: Kind<Connection> = { name: 'connection', schema: connectionSchema };
export const CODE: Kind<ActivationCode> = { name: 'code', schema: activationCodeSchema };
export const INSTALL: Kind<v.InferOutput<typeof installSchema>> = {
  name: 'install',
  schema: installSchema,
};
export const IDEMPOTENCY: Kind<v.InferOutput<typeof idempotencySchema>> = {
  name: 'idem',
  schema: idempotencySchema,
};
export const SERVER_KEY: Kind<ServerKey> = { name: 'server-key', schema: serverKeySchema };
