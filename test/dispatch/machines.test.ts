import { beforeEach, describe, expect, test } from 'vitest';
import { ActivationCodes } from '../../src/dispatch/activation-codes.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import type { Caller } from '../../src/dispatch/access.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { Groups } from '../../src/dispatch/groups.ts';
import { MachinePresence } from '../../src/dispatch/machine-presence.ts';
import { MachineRegistration } from '../../src/dispatch/machine-registration.ts';
import { MachineTokens } from '../../src/dispatch/machine-tokens.ts';
import { Machines } from '../../src/dispatch/machines.ts';
import { MACHINE, PRESENCE } from '../../src/dispatch/records.ts';
import { Repository } from '../../src/dispatch/repository.ts';
import type { Hello } from '../../src/jobs/messages.ts';
import type { DispatchStore } from '../../src/store/dispatch-store.ts';
import { ANN, dispatchBench, ENVIRONMENT_DEV, type DispatchBench } from '../support/dispatch.ts';
import { MachineKeys } from '../support/machine-keys.ts';

const BOB: Caller = { name: 'user:bob', isAdmin: false, role: 'user' };

let bench: DispatchBench;
let endpoints: Set<string>;
let codes: ActivationCodes;
let registration: MachineRegistration;
let machines: Machines;
let presence: MachinePresence;
let tokens: MachineTokens;
const keys = new MachineKeys();
const minAgentVersion = () => Promise.resolve('0.9.0');

beforeEach(() => {
  bench = dispatchBench();
  const { repository, changes, clock, store } = bench;
  endpoints = new Set();
  const port = {
    create: (path: string) => Promise.resolve(void endpoints.add(path)),
    delete: (path: string) => Promise.resolve(void endpoints.delete(path)),
  };
  codes = new ActivationCodes(repository, clock);
  const dispatchKeys = new DispatchKeys(store, clock);
  registration = new MachineRegistration({
    repository,
    clock,
    codes,
    endpoints: port,
    keys: dispatchKeys,
  });
  machines = new Machines({ repository, changes, clock, endpoints: port, minAgentVersion });
  presence = new MachinePresence(repository, clock);
  tokens = new MachineTokens(store, clock, {
    mint: (path, right, seconds) => Promise.resolve(`${right} ${path} ${seconds}`),
  });
});

async function register(change: object = {}, caller: Caller | undefined = ANN): Promise<string> {
  const body = keys.registration(change);
  return (await registration.register(ENVIRONMENT_DEV, caller, body)).machine.id;
}

function tryWith(body: object) {
  return registration.register(ENVIRONMENT_DEV, ANN, body);
}

function hello(machineId: string, change: Partial<Hello> = {}): Hello {
  return {
    v: 1,
    type: 'hello',
    machineId,
    installId: 'install-1',
    instance: 'i1',
    agentVersion: '1.2.0',
    os: 'linux',
    capacity: { unattended: 2, attended: 1 },
    sessions: [],
    labels: {},
    keys: [],
    clock: new Date(bench.clock.wallMs() + 2_000).toISOString(),
    journal: [],
    ...change,
  };
}

describe('register()', () => {
  test('makes the record, its endpoint and an audit entry, and tells what to pin', async () => {
    const body = keys.registration();
    const made = await registration.register(ENVIRONMENT_DEV, ANN, body);
    const { id, value } = made.machine;
    expect(made.relayPath).toBe(`dev/m/${id}`);
    expect([...endpoints]).toEqual([made.relayPath]);
    expect(made.dispatchKeys).toHaveLength(1);
    expect(value).toMatchObject({ owner: 'user:ann', name: 'desk', installId: 'install-1' });
    expect(JSON.stringify(value)).not.toContain('proof');
    const [entry] = await readAudit(bench.repository, { after: 0, limit: 1 });
    const details = { kid: value.encryptionKey.kid };
    expect(entry).toMatchObject({ action: 'machine.register', by: 'user:ann', details });
    await expect(machines.get(ANN, id)).resolves.toMatchObject({
      presenceState: 'NeverConnected',
      state: 'Active',
      waiting: 0,
    });
  });

  test('refuses a proof over something else, keys that are none, and one key for both', async () => {
    const changed = { ...keys.registration(), name: 'other' };
    await expect(tryWith(changed)).rejects.toMatchObject({ code: 'TokenInvalid' });
    const elsewhere = keys.registration({}, 'prod');
    await expect(tryWith(elsewhere)).rejects.toMatchObject({ code: 'TokenInvalid' });
    const point = 'B'.repeat(87);
    await expect(tryWith(keys.registration({ identityKey: point }))).rejects.toMatchObject({
      errors: [{ path: 'identityKey' }],
    });
    const bad = keys.registration({ encryptionKey: { suite: 'p256', point } });
    await expect(tryWith(bad)).rejects.toMatchObject({ errors: [{ path: 'encryptionKey.point' }] });
    const twins = new MachineKeys();
    const one = Object.entries(twins.registration()).find(([name]) => name === 'identityKey')?.[1];
    const twin = twins.registration({ encryptionKey: { suite: 'p256', point: String(one) } });
    await expect(tryWith(twin)).rejects.toMatchObject({
      errors: [{ path: 'encryptionKey.point' }],
    });
    expect(endpoints.size).toBe(0);
  });

  test('takes a role that makes machines, or a code', async () => {
    await expect(register({}, BOB)).rejects.toMatchObject({ code: 'AccessDenied' });
    const body = keys.registration();
    await expect(registration.register(ENVIRONMENT_DEV, undefined, body)).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
    expect(endpoints.size).toBe(0);
  });

  test('of an installation again takes force, and deletes nothing of others', async () => {
    const first = await register();
    await expect(register()).rejects.toMatchObject({ code: 'MachineIdentityConflict' });
    expect(endpoints.size).toBe(1);
    const carl: Caller = { name: 'user:carl', isAdmin: false, role: 'maker' };
    await expect(register({ force: true }, carl)).rejects.toMatchObject({ code: 'AccessDenied' });
    const body = keys.registration({ force: true });
    const again = await registration.register(ENVIRONMENT_DEV, ANN, body);
    expect(again.replaced).toBe(first);
    await machines.remove('user:ann', first);
    expect([...endpoints]).toEqual([again.relayPath]);
    await expect(machines.get(ANN, first)).rejects.toMatchObject({ code: 'MachineNotFound' });
    await expect(register()).rejects.toMatchObject({ code: 'MachineIdentityConflict' });
  });
});

describe('activation codes', () => {
  test('register as often as they say, for whoever made them, with their labels', async () => {
    const { text, code } = await codes.create(ANN, { uses: 2, labels: { site: 'b' } });
    const at = (n: number) => {
      const installId = `install-${n}`;
      const change = { activationCode: text, installId, labels: { site: 'a', gpu: 'no' } };
      return registration.register(ENVIRONMENT_DEV, undefined, keys.registration(change));
    };
    const { machine } = await at(1);
    expect(machine.value).toMatchObject({
      owner: 'user:ann',
      labels: { site: 'b', gpu: 'no' },
    });
    // Two at once for the last use: one is refused.
    const outcomes = await Promise.allSettled([at(2), at(3)]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(endpoints.size).toBe(2);
    const stored = await bench.store.get('dev', { kind: 'code', id: code.id });
    expect(stored?.text).not.toContain(text);
  });

  test('are for a group only when their maker may change it: whoever has one gets its key package', async () => {
    const { id } = await new Groups(bench.repository, bench.changes, bench.clock).create(ANN, {
      name: 'desks',
    });
    const carl: Caller = { name: 'user:carl', isAdmin: false, role: 'maker' };
    await expect(codes.create(carl, { groupId: id })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await expect(codes.create(ANN, { groupId: id })).resolves.toMatchObject({
      code: { groupId: id },
    });
    await expect(codes.create(ANN, { groupId: 'none' })).rejects.toMatchObject({
      code: 'MachineGroupNotFound',
    });
  });

  test('end with their time, and when they are deleted', async () => {
    const { text } = await codes.create(ANN, {});
    const { text: other, code } = await codes.create(ANN, {});
    await codes.delete(ANN, code.id);
    await expect(codes.find(other)).rejects.toMatchObject({ code: 'TokenInvalid' });
    bench.clock.advance(24 * 3600_000);
    await expect(codes.find(text)).rejects.toMatchObject({ code: 'TokenInvalid' });
    await expect(codes.create(ANN, { expiresInSeconds: 31 * 24 * 3600 })).rejects.toMatchObject({
      errors: [{ path: 'expiresInSeconds' }],
    });
  });
});

describe('tokens of machines', () => {
  test('are given for an assertion of the machine’s own key', async () => {
    const id = await register();
    const now = bench.clock.wallMs();
    const given = await tokens.exchange('dev', id, keys.assertion(id, now));
    expect(given.listenToken).toBe(`Listen dev/m/${id} 3600`);
    const who = { environment: 'dev', machineId: id };
    await expect(tokens.authenticate(given.accessToken)).resolves.toEqual(who);
    bench.clock.advance(15 * 60_000);
    await expect(tokens.authenticate(given.accessToken)).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
  });

  test('are given once for each assertion, whatever is done to its signature', async () => {
    const id = await register();
    const now = bench.clock.wallMs();
    const assertion = keys.assertion(id, now);
    await tokens.exchange('dev', id, assertion);
    const again = (text: string) => expect(tokens.exchange('dev', id, text)).rejects;
    await again(assertion).toMatchObject({ code: 'TokenInvalid' });
    // The same claims signed anew: ECDSA has many signatures of one text.
    const bare = { jti: undefined };
    await tokens.exchange('dev', id, keys.assertion(id, now, bare));
    await again(keys.assertion(id, now, bare)).toMatchObject({ code: 'TokenInvalid' });
    bench.clock.advance(300_000 - 1_000);
    await again(assertion).toMatchObject({ code: 'TokenInvalid' });
    await tokens.exchange('dev', id, keys.assertion(id, bench.clock.wallMs()));
  });

  test('are good no longer than the machine is registered', async () => {
    const id = await register();
    const { accessToken } = await tokens.exchange(
      'dev',
      id,
      keys.assertion(id, bench.clock.wallMs()),
    );
    await machines.remove('user:ann', id);
    await expect(tokens.authenticate(accessToken)).rejects.toMatchObject({ code: 'TokenInvalid' });
  });

  test('are refused for whatever is not exactly that', async () => {
    const id = await register();
    const now = bench.clock.wallMs();
    const sec = Math.floor(now / 1_000);
    const refusedWith = (assertion: string) =>
      expect(tokens.exchange('dev', id, assertion)).rejects;
    for (const change of [
      { iss: 'x' },
      { sub: 'x' },
      { aud: 'x' },
      { exp: sec + 301 },
      { exp: sec },
    ]) {
      await refusedWith(keys.assertion(id, now, change)).toMatchObject({ code: 'TokenInvalid' });
    }
    const stranger = new MachineKeys().assertion(id, now);
    await refusedWith(stranger).toMatchObject({ code: 'TokenInvalid' });
    await refusedWith('a.b.c').toMatchObject({ code: 'TokenInvalid' });
    await refusedWith(keys.assertion(id, now - 601_000)).toMatchObject({ code: 'TokenInvalid' });
    await refusedWith(keys.assertion(id, now + 3600_000)).toMatchObject({
      code: 'AuthTokenNotYetValid',
    });
    await expect(tokens.exchange('dev', 'none', 'x')).rejects.toMatchObject({
      code: 'MachineNotFound',
    });
    for (const text of ['', 'hwm_', 'hwm_e30.AAAA', 'hwt_x']) {
      await expect(tokens.authenticate(text)).rejects.toMatchObject({ code: 'TokenInvalid' });
    }
  });
});

describe('presence', () => {
  test('hello() makes a machine connected, silence makes it stale and disconnected', async () => {
    const id = await register();
    const { clockSkewMs } = await presence.hello(id, hello(id), '10.0.0.1');
    expect(clockSkewMs).toBe(2_000);
    const state = async () => (await machines.get(ANN, id)).presenceState;
    await expect(state()).resolves.toBe('Connected');
    bench.clock.advance(75_001);
    await expect(state()).resolves.toBe('Stale');
    bench.clock.advance(45_000);
    await expect(state()).resolves.toBe('Disconnected');
    await presence.signal(id);
    await expect(state()).resolves.toBe('Connected');
    await presence.left(id);
    await expect(state()).resolves.toBe('Stale');
  });

  test('wakes the dispatcher when a machine comes or changes, not with each signal', async () => {
    const id = await register();
    const wokenAt = () => bench.repository.score(`wake:${id}`, 'at');
    await presence.hello(id, hello(id));
    const first = await wokenAt();
    bench.clock.advance(20_000);
    await presence.signal(id);
    await presence.hello(id, hello(id));
    await expect(wokenAt()).resolves.toBe(first);
    const sessions = [{ user: 'ann', state: 'active' as const }];
    await presence.hello(id, hello(id, { sessions }));
    await expect(wokenAt()).resolves.toBe(bench.clock.wallMs());
  });

  test('heard() reads nothing between two signals that are written, but what left() wrote', async () => {
    const id = await register();
    await presence.hello(id, hello(id));
    let reads = 0;
    const { store, clock } = bench;
    const counting: DispatchStore = {
      ...store,
      get: (partition, key) => {
        reads += 1;
        return store.get(partition, key);
      },
      step: (partition, step) => store.step(partition, step),
    };
    const heardBy = new MachinePresence(new Repository(counting, 'dev'), clock);
    const readsOf = async (after: number) => {
      clock.advance(after);
      reads = 0;
      await heardBy.heard(id);
      return reads;
    };
    const lastSignal = async () => (await bench.repository.get(PRESENCE, id))?.value.lastSignalAtMs;
    expect(await readsOf(1_000)).toBe(1);
    for (let n = 0; n < 8; n += 1) expect(await readsOf(1_000)).toBe(0);
    expect(await readsOf(1_000)).toBe(1);
    await expect(lastSignal()).resolves.toBe(clock.wallMs());
    expect(await readsOf(9_999)).toBe(0);
    await heardBy.left(id);
    await heardBy.heard(id);
    await expect(lastSignal()).resolves.toBe(clock.wallMs());
  });

  test('another installation in its name is a conflict until it is registered again', async () => {
    const id = await register();
    await presence.hello(id, hello(id));
    const clone = presence.hello(id, hello(id, { installId: 'install-2' }));
    await expect(clone).rejects.toMatchObject({ code: 'MachineIdentityConflict' });
    await expect(presence.hello(id, hello(id))).rejects.toMatchObject({
      code: 'MachineIdentityConflict',
    });
    await expect(
      tokens.exchange('dev', id, keys.assertion(id, bench.clock.wallMs())),
    ).rejects.toMatchObject({ code: 'MachineIdentityConflict' });
    await expect(machines.get(ANN, id)).resolves.toMatchObject({
      state: 'Maintenance',
      reasons: ['RequiresReconnection'],
    });
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toContain('machine.identity-conflict');
  });

  test('a service that restarts is no conflict, two that take turns are', async () => {
    const id = await register();
    for (const instance of ['i1', 'i2', 'i3', 'i4']) {
      await presence.hello(id, hello(id, { instance }));
    }
    for (const instance of ['i3', 'i4', 'i3']) {
      await presence.hello(id, hello(id, { instance }));
    }
    await expect(presence.hello(id, hello(id, { instance: 'i4' }))).rejects.toMatchObject({
      code: 'MachineIdentityConflict',
    });
  });

  test('what ended processes said and was held up is no conflict', async () => {
    const id = await register();
    for (const instance of ['i1', 'i2', 'i3', 'i2', 'i3', 'i1', 'i3', 'i3', 'i4', 'i3', 'i4']) {
      await presence.hello(id, hello(id, { instance }));
    }
    await expect(machines.get(ANN, id)).resolves.toMatchObject({ reasons: [] });
  });
});

describe('machines as people set them', () => {
  test('patch() changes what was read, wakes the dispatcher and shows why nothing is offered', async () => {
    const id = await register();
    await expect(machines.patch(ANN, id, undefined, {})).rejects.toMatchObject({
      code: 'PreconditionRequired',
    });
    const changed = await machines.patch(ANN, id, 1, { maintenance: true, allocatedBots: 3 });
    expect(changed).toMatchObject({ version: 2, value: { name: 'desk', allocatedBots: 3 } });
    await expect(machines.get(ANN, id)).resolves.toMatchObject({ reasons: ['Manual'] });
    await expect(machines.patch(ANN, id, 1, {})).rejects.toMatchObject({
      code: 'PreconditionFailed',
    });
    await machines.drain(ANN, id);
    await expect(machines.get(ANN, id)).resolves.toMatchObject({ state: 'Inactive' });
    await machines.patch(ANN, id, 3, { maintenance: false });
    await expect(machines.get(ANN, id)).resolves.toMatchObject({ state: 'Active' });
    await expect(machines.patch(BOB, id, 4, {})).rejects.toMatchObject({ code: 'AccessDenied' });
  });

  test('setAccess() lets others use a machine, and co-owners share it on', async () => {
    const id = await register();
    await expect(machines.setAccess(BOB, id, 'user:bob', 'user')).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await machines.setAccess(ANN, id, 'user:bob', 'co-owner');
    await machines.setAccess(BOB, id, 'user:carl', 'user');
    const record = await bench.repository.get(MACHINE, id);
    expect(record?.value.access).toEqual({ 'user:bob': 'co-owner', 'user:carl': 'user' });
  });

  test('delete() fails what waits for it and leaves its fingerprint in the audit log', async () => {
    const id = await register();
    await bench.addConnection('c1', { kind: 'machine', id });
    const run = await bench.submit();
    await machines.delete(ANN, id, 1);
    await expect(bench.changes.get(run)).resolves.toMatchObject({
      value: { state: 'Failed', fault: { code: 'MachineNotFound' } },
    });
    expect(endpoints.size).toBe(0);
    await expect(bench.submit()).rejects.toMatchObject({ code: 'MachineNotFound' });
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    const deleted = entries.find(({ action }) => action === 'machine.delete');
    expect(deleted?.details['kid']).toHaveLength(43);
  });
});
