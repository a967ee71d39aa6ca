import type { Caller } from '../../src/dispatch/access.ts';
import {
  CONNECTION,
  GROUP,
  MACHINE,
  PRESENCE,
  type Connection,
  type Environment,
  type Group,
  type Machine,
  type Presence,
  type Target,
} from '../../src/dispatch/records.ts';
import { Draft, Repository } from '../../src/dispatch/repository.ts';
import { RunChanges } from '../../src/dispatch/run-changes.ts';
import { RunControl } from '../../src/dispatch/run-control.ts';
import { RunLogs } from '../../src/dispatch/run-logs.ts';
import { RunReports } from '../../src/dispatch/run-reports.ts';
import { moveSealed } from '../../src/dispatch/sealed-index.ts';
import { Runs } from '../../src/dispatch/runs.ts';
import type { DispatchStore } from '../../src/store/dispatch-store.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { FakeClock } from './fake-clock.ts';

export const DISPATCH_START_MS = 1_700_000_000_000;

export const ANN: Caller = { name: 'user:ann', isAdmin: false, role: 'maker' };

export const ENVIRONMENT_DEV: Environment = {
  id: 'dev',
  tenant: 'default',
  displayName: 'dev',
  roles: { 'user:ann': 'maker', 'user:bob': 'user', 'user:reader': 'reader' },
  createdAtMs: DISPATCH_START_MS,
};

/** The control plane's records in memory, with a clock of the test's and the services over them. */
export function dispatchBench(store: DispatchStore = openMemoryDispatchStore()) {
  const clock = new FakeClock(DISPATCH_START_MS);
  const repository = new Repository(store, 'dev');
  const changes = new RunChanges(repository, clock);
  const runs = new Runs(repository, clock, name => Promise.resolve({ name, isAdmin: false }));
  const control = new RunControl(repository, changes, clock);
  const reports = new RunReports(repository, changes, clock);
  const logs = new RunLogs(repository, changes);
  const put = (fill: (draft: Draft) => void): Promise<void> =>
    repository.change(async () => {
      const draft = new Draft();
      fill(draft);
      return Promise.resolve({ draft, answer: undefined });
    });
  return {
    store,
    clock,
    repository,
    changes,
    runs,
    control,
    reports,
    logs,
    addMachine: (id: string, change: Partial<Machine> = {}) =>
      put(draft => {
        draft.create(MACHINE, id, machineRecord(id, change)).add('machines', id, 0);
        const groupId = change.group?.id;
        if (groupId !== undefined) draft.add(`members:${groupId}`, id, 0);
      }),
    addGroup: (id: string, change: Partial<Group> = {}) =>
      put(draft => draft.create(GROUP, id, groupRecord(id, change)).add('groups', id, 0)),
    /** The group's key is that of this id; who has proved it says so in its record. */
    haveGroupKey: (groupId: string, kid: string) =>
      repository.change(async () => {
        const group = await repository.get(GROUP, groupId);
        if (group === undefined) throw new Error(`there is no group ${groupId}`);
        const draft = new Draft().replace(GROUP, group, {
          ...group.value,
          key: groupKeyOf(groupId, kid),
        });
        return { draft, answer: undefined };
      }),
    addConnection: (id: string, target: Target, change: Partial<Connection> = {}) =>
      put(draft => {
        const value = connectionRecord(id, target, change);
        moveSealed(draft.create(CONNECTION, id, value), undefined, value);
      }),
    /** Members of a queue without records: nobody is served from it. */
    async fillQueue(index: string, count: number): Promise<void> {
      for (let from = 0; from < count; from += 100) {
        await put(draft => {
          for (let n = from; n < Math.min(from + 100, count); n += 1) draft.add(index, `x${n}`, 0);
        });
      }
    },
    /** Says what the machine would say of itself in its `hello`. */
    setPresence: (id: string, change: Partial<Presence> = {}) =>
      repository.change(async () => {
        const before = await repository.get(PRESENCE, id);
        const value = { ...presenceRecord(clock.wallMs()), ...change };
        const draft = new Draft();
        if (before === undefined) draft.create(PRESENCE, id, value);
        else draft.replace(PRESENCE, before, value);
        draft.add(`wake:${id}`, 'at', clock.wallMs());
        return { draft, answer: undefined };
      }),
    /** A draft that makes machines members of a group, as if they had proved its key. */
    async membersOf(groupId: string, ids: readonly string[]) {
      const draft = new Draft();
      for (const id of ids) draft.add(`members:${groupId}`, id, 0);
      return Promise.resolve({ draft, answer: undefined });
    },
    /** The machine goes on being there. */
    signal: (id: string) =>
      repository.change(async () => {
        const before = await repository.get(PRESENCE, id);
        const draft = new Draft();
        const lastSignalAtMs = clock.wallMs();
        if (before !== undefined) {
          draft.replace(PRESENCE, before, { ...before.value, lastSignalAtMs });
        }
        return { draft, answer: undefined };
      }),
    /** Submits a run as Ann does; answers its id. */
    async submit(body: object = {}): Promise<string> {
      const job = { ref: 'job', kind: 'command', command: ['true'] };
      const whole = { connectionId: 'c1', job, ...body };
      const { run } = await runs.submit(ANN, ENVIRONMENT_DEV, { body: whole, trigger: 'api' });
      return run.id;
    },
    async state(runId: string): Promise<string> {
      return (await changes.get(runId)).value.state;
    },
  };
}
export type DispatchBench = ReturnType<typeof dispatchBench>;

function sharedBy(owner: string) {
  return { owner, access: {}, createdAtMs: DISPATCH_START_MS, createdBy: owner };
}

export function machineRecord(id: string, change: Partial<Machine> = {}): Machine {
  return {
    ...sharedBy('user:ann'),
    id,
    tenant: 'default',
    name: id,
    description: '',
    installId: `install-${id}`,
    identityKey: '',
    encryptionKey: { kid: `kid-${id}`, suite: 'p256', point: '' },
    os: 'linux',
    registeredVersion: '1.0.0',
    labels: {},
    allocatedBots: 1,
    reuseSessions: false,
    lookAhead: 0,
    isInMaintenance: false,
    isDraining: false,
    hasIdentityConflict: false,
    eligibleAtMs: DISPATCH_START_MS,
    ...change,
  };
}

export function groupRecord(id: string, change: Partial<Group> = {}): Group {
  return {
    ...sharedBy('user:ann'),
    id,
    tenant: 'default',
    name: id,
    description: '',
    isInMaintenance: false,
    lookAhead: 0,
    ...change,
  };
}

/** A group's key whose package nobody opens. */
export function groupKeyOf(groupId: string, kid: string): NonNullable<Group['key']> {
  return {
    publicKey: { kid, suite: 'p256', point: '' },
    package: {
      v: 1,
      groupId,
      kid: 'k'.repeat(43),
      generation: 1,
      suite: 'p256',
      kdf: { name: 'scrypt', N: 2 ** 17, r: 8, p: 1, salt: 's'.repeat(22) },
      nonce: 'n'.repeat(16),
      wrapped: 'w'.repeat(64),
    },
    createdAtMs: DISPATCH_START_MS,
    passwordChangedAtMs: DISPATCH_START_MS,
    passwordChangedBy: 'user:ann',
  };
}

export function connectionRecord(
  id: string,
  target: Target,
  change: Partial<Connection> = {},
): Connection {
  return {
    ...sharedBy('user:ann'),
    id,
    tenant: 'default',
    name: id,
    kind: 'password',
    target,
    runOwner: 'user:ann',
    credentialVersion: 1,
    envelope: { v: 1, suite: 'p256', kid: 'k'.repeat(43), enc: 'e'.repeat(87), ct: 'c'.repeat(64) },
    mayReseal: false,
    updatedAtMs: DISPATCH_START_MS,
    ...change,
  };
}

export function presenceRecord(nowMs: number): Presence {
  return {
    lastSignalAtMs: nowMs,
    gainedAtMs: nowMs,
    instance: 'i1',
    earlierInstances: [],
    returned: [],
    agentVersion: '1.0.0',
    os: 'linux',
    capacity: { unattended: 10, attended: 1 },
    sessions: [],
    labels: {},
    keys: [],
    clockSkewMs: 0,
  };
}
