import * as v from 'valibot';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { shownConnection } from '../dispatch/connections.ts';
import type { GroupView } from '../dispatch/groups.ts';
import type { MachineView } from '../dispatch/machines.ts';
import {
  activationCodeSchema,
  connectionSchema,
  countSchema,
  environmentSchema,
  groupSchema,
  idSchema,
  machineSchema,
  presenceSchema,
  principalSchema,
  publicKeySchema,
  tokenSchema,
  userSchema,
  type Connection,
} from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import { runSchema, type Run } from '../dispatch/run-record.ts';
import { momentText, momentTextSchema, shownEntries, shownRecord, showValue } from './shown.ts';

// Records as people and programs are shown them: nothing secret, nothing sealed, nothing of the store's own.

const fingerprintSchema = v.pipe(v.string(), v.regex(/^[a-z]{5}(?:-[a-z]{5}){7}$/));
const kidSchema = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));

export const ENVIRONMENT_SHOWN = shownRecord(environmentSchema);
export const USER_SHOWN = shownRecord(userSchema);
export const TOKEN_SHOWN = shownRecord(tokenSchema);
export const CODE_SHOWN = shownRecord(activationCodeSchema);

const CONNECTION_SHOWN = shownRecord(connectionSchema, { kid: v.optional(kidSchema) });
export const connectionShownSchema = CONNECTION_SHOWN.schema;

export function showConnection(connection: Versioned<Connection>): Record<string, unknown> {
  const { kid } = shownConnection(connection.value);
  return CONNECTION_SHOWN.of(connection, { kid });
}

const {
  earlierInstances: _earlier,
  returned: _returned,
  ...presenceEntries
} = presenceSchema.entries;
const presenceBase = v.object(presenceEntries);
const presenceShownSchema = v.union([
  v.strictObject({ state: v.literal('NeverConnected') }),
  v.strictObject({
    state: v.picklist(['Connected', 'Stale', 'Disconnected']),
    ...shownEntries(presenceBase),
  }),
]);

const MACHINE_SHOWN = shownRecord(machineSchema, {
  state: v.picklist(['Active', 'Maintenance', 'Inactive']),
  reasons: v.array(
    v.picklist([
      'Manual',
      'GroupMaintenance',
      'Draining',
      'RequiresReconnection',
      'RequiresGroupKey',
      'RequiresUpdate',
    ]),
  ),
  presence: presenceShownSchema,
  running: v.strictObject({ unattended: countSchema, attended: countSchema }),
  waiting: countSchema,
  fingerprint: fingerprintSchema,
});
export const machineShownSchema = MACHINE_SHOWN.schema;

export function showMachine(view: MachineView): Record<string, unknown> {
  const { machine, presence, presenceState, state, reasons, running, waiting } = view;
  return MACHINE_SHOWN.of(machine, {
    state,
    reasons,
    presence: {
      state: presenceState,
      ...(presence === undefined ? {} : objectOf(showValue(presenceBase, presence))),
    },
    running,
    waiting,
    fingerprint: fingerprintOf(machine.value.encryptionKey.kid),
  });
}

/** A key that credentials are sealed to. Sealing clients work out `kid` and `fingerprint` by themselves. */
export const keyShownSchema = v.strictObject({
  ...publicKeySchema.entries,
  fingerprint: fingerprintSchema,
  /** Of a group: one more with each package. */
  generation: v.optional(countSchema),
});

/** What offers are signed with (RFC 7517), with the word of the key before it (src/crypto/key-chain.ts). */
export const jwkShownSchema = v.strictObject({
  kty: v.literal('EC'),
  crv: v.literal('P-256'),
  alg: v.literal('ES256'),
  use: v.literal('sig'),
  kid: v.string(),
  x: v.string(),
  y: v.string(),
  signedBy: v.optional(v.strictObject({ kid: v.string(), signature: v.string() })),
});

const GROUP_SHOWN = shownRecord(groupSchema, {
  key: v.optional(
    v.strictObject({
      publicKey: publicKeySchema,
      generation: countSchema,
      createdAt: momentTextSchema,
      passwordChangedAt: momentTextSchema,
      passwordChangedBy: principalSchema,
    }),
  ),
  state: v.picklist(['NeedsKey', 'Active', 'Maintenance']),
  members: v.array(idSchema),
  waiting: countSchema,
  fingerprint: v.optional(fingerprintSchema),
});
export const groupShownSchema = GROUP_SHOWN.schema;

/** Without the key package, each look at which counts. */
export function showGroup({ group, state, members, waiting }: GroupView): Record<string, unknown> {
  const { key } = group.value;
  const shownKey =
    key === undefined
      ? undefined
      : {
          publicKey: key.publicKey,
          generation: key.package.generation,
          createdAt: momentText(key.createdAtMs),
          passwordChangedAt: momentText(key.passwordChangedAtMs),
          passwordChangedBy: key.passwordChangedBy,
        };
  const fingerprint = key === undefined ? undefined : fingerprintOf(key.publicKey.kid);
  return GROUP_SHOWN.of(group, { key: shownKey, state, members, waiting, fingerprint });
}

const RUN_SHOWN = shownRecord(runSchema, {
  output: v.optional(v.strictObject({ bytes: countSchema })),
});
export const runShownSchema = RUN_SHOWN.schema;

export function showRun(run: Versioned<Run>): Record<string, unknown> {
  const { output } = run.value;
  return RUN_SHOWN.of(run, {
    output: output === undefined ? undefined : { bytes: output.bytes },
  });
}

/** A page of a list. `next`: give it as `after`; absent: this was the last page. */
export function pageSchema(item: v.GenericSchema): v.GenericSchema {
  return v.strictObject({ items: v.array(item), next: v.optional(v.string()) });
}

function objectOf(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {};
}
