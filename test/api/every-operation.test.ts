import { createHash, createHmac, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OPERATIONS } from '../../src/api/operations.ts';
import { RouteTable } from '../../src/api/route-table.ts';
import { pointOf, signBytes } from '../../src/crypto/es256.ts';
import { bindingOf, sealedOf } from '../../src/crypto/envelope.ts';
import { open } from '../../src/crypto/hpke.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { joinProofText } from '../../src/dispatch/group-membership.ts';
import { keyChangeText } from '../../src/dispatch/machine-keys.ts';
import { settled } from '../support/fake-machines.ts';
import { MachineKeys } from '../support/machine-keys.ts';
import {
  addMachine,
  apiBench,
  E,
  fields,
  textField,
  type ApiBench,
  type Got,
  type RegisteredMachine,
  type Sent,
} from './api-bench.ts';

// Every operation is driven to every good answer that the document names. What each answer looks like is
// checked by the bench, for all of them.

const V1 = '/$api/v1';
const table = new RouteTable(OPERATIONS);
const given = new Set<string>();
let bench: ApiBench;

beforeEach(async () => {
  bench = await apiBench();
});
afterEach(() => bench.plane.dispatcher.stop());

async function call(method: string, path: string, sent: Sent = {}): Promise<Got> {
  const got = await bench.call(method, path, sent);
  const match = table.match(method, path.split('?')[0] ?? '');
  if (match.type === 'found' && got.status < 300) {
    const { operation } = match;
    given.add(`${operation.method} ${operation.path} ${got.status}`);
  }
  return got;
}

async function good(method: string, path: string, sent: Sent = {}): Promise<Got> {
  const got = await call(method, path, sent);
  expect(got.status, got.text).toBeLessThan(300);
  return got;
}

function ifMatch(got: Got): Record<string, string> {
  return { 'if-match': got.headers['ETag'] ?? '' };
}

function envelopeFor(kid: string) {
  return { v: 1, suite: 'p256', kid, enc: 'e'.repeat(87), ct: 'c'.repeat(64) };
}

async function addConnection(id: string, target: object, kid: string): Promise<Got> {
  const body = { id, name: id, target, envelope: envelopeFor(kid) };
  return good('POST', `${E}/connections`, { body, headers: { 'idempotency-key': id } });
}

const JOB = { ref: 'x', kind: 'command', command: ['true'] };

test('service, environments, users, tokens and codes', async () => {
  await good('GET', `${V1}/openapi.json`, { token: undefined });
  await good('GET', `${V1}/endpoints`, { token: undefined });
  const echo = await good('PROPFIND', `${V1}/echo`, { token: undefined, body: 'abc' });
  expect(echo.json).toMatchObject({ method: 'PROPFIND', bodyBytes: 3, remoteAddress: '192.0.2.7' });
  expect((await good('GET', `${V1}/me`)).json).toEqual({ name: 'token:bootstrap', isAdmin: true });
  const made = await good('POST', `${V1}/environments`, { body: { id: 'lab' } });
  expect(made).toMatchObject({ status: 201, headers: { ETag: '"1"' } });
  await good('GET', `${V1}/environments`);
  const lab = await good('GET', `${V1}/environments/lab`);
  await good('PATCH', `${V1}/environments/lab`, {
    headers: ifMatch(lab),
    body: { displayName: 'Lab', minAgentVersion: '1.0.0', runDays: 3 },
  });
  await good('POST', `${V1}/users`, { body: { id: 'ann' } });
  await good('PUT', `${V1}/environments/lab/roles/user%3Aann`, { body: { role: 'maker' } });
  await good('DELETE', `${V1}/environments/lab/roles/user:ann`);
  await good('GET', `${V1}/users`);
  const locked = await good('PATCH', `${V1}/users/ann`, { body: { isDisabled: true } });
  expect(locked.json).toMatchObject({ isDisabled: true, version: 2 });
  const token = await good('POST', `${V1}/tokens`, { body: { name: 'ci', isAdmin: true } });
  const mine = { token: textField(token.json, 'token') };
  expect((await good('GET', `${V1}/tokens`, mine)).text).not.toContain('hwt_');
  await good('DELETE', `${V1}/tokens/${textField(token.json, 'id')}`);
  expect((await call('GET', `${V1}/me`, mine)).status).toBe(401);
  const code = await good('POST', `${E}/activation-codes`, { body: { labels: { a: 'b' } } });
  const used = await addMachine(bench, {
    activationCode: textField(code.json, 'code'),
    labels: { atMs: 'kept as it is' },
  });
  const machine = await good('GET', `${E}/machines/${used.id}`);
  expect(machine.json).toMatchObject({ labels: { a: 'b', atMs: 'kept as it is' } });
  expect((await good('GET', `${E}/activation-codes`)).text).not.toContain('hwa_');
  await good('DELETE', `${E}/activation-codes/${textField(code.json, 'id')}`);
  const first = await good('GET', `${E}/audit?limit=2`);
  expect(first.json).toMatchObject({
    items: [{ number: 1, action: 'code.create' }, {}],
    next: '2',
  });
  const server = await good('GET', `${V1}/audit`);
  expect(server.text).toMatch(/"environment.create".*"user.create".*"role.maker:user:ann"/);
  await good('GET', `${E}/callback-key`);
});

test('machines', async () => {
  const machine = await addMachine(bench);
  await machine.hello();
  const path = `${E}/machines/${machine.id}`;
  const registered = await good('POST', `${E}/machines:register`, {
    body: machine.keys.registration({ force: true }),
  });
  expect(registered.json).toMatchObject({ replaced: machine.id, tenant: 'default' });
  expect((await call('GET', path)).status).toBe(404);
  const second = await addMachine(bench, { installId: 'install-2' });
  const own = `${E}/machines/${second.id}`;
  await good('POST', `${own}/token`, {
    token: undefined,
    body: { assertion: second.keys.assertion(second.id, bench.clock.wallMs()) },
  });
  await second.hello({ installId: 'install-2' });
  await good('GET', `${E}/machines`);
  const seen = await good('GET', own, { token: second.token });
  expect(seen.json).toMatchObject({ state: 'Active', presence: { state: 'Connected' } });
  expect(seen.text).not.toMatch(/sha256|AtMs|UntilMs/);
  const body = { maintenance: true, name: 'front desk' };
  const patched = await good('PATCH', own, { headers: ifMatch(seen), body });
  expect(patched.json).toMatchObject({ reasons: ['Manual'], version: 2 });
  await good('POST', `${own}:drain`);
  await good('PUT', `${own}/access/user:bob`, { body: { grant: 'use' } });
  await good('DELETE', `${own}/access/user:bob`);
  await good('GET', `${own}/queue`);
  await good('GET', `${own}/public-key`);
  await good('POST', `${own}:echo`, { body: {} });
  bench.sender.answer = () => ({ type: 'answer', status: 200, body: '{"disk":"full"}' });
  expect((await good('POST', `${own}:diagnostics`)).json).toEqual({ disk: 'full' });
  bench.sender.answer = () => ({ type: 'fault', code: 'NoListenerConnected' });
  bench.machine.said = { type: 'fault', code: 'ConnectionTimeout' };
  for (const action of ['diagnostics', 'echo']) {
    expect((await call('POST', `${own}:${action}`)).status).toBe(404);
  }
  await good('DELETE', own, { token: second.token });
});

test('groups', async () => {
  const machine = await addMachine(bench);
  const made = await good('POST', `${E}/groups`, { body: { name: 'desks' } });
  const id = textField(made.json, 'id');
  const path = `${E}/groups/${id}`;
  await good('GET', `${E}/groups`);
  await good('PATCH', path, { headers: ifMatch(made), body: { description: 'all' } });
  await good('PUT', `${path}/access/user:bob`, { body: { grant: 'edit' } });
  await good('DELETE', `${path}/access/user:bob`);
  expect((await call('GET', `${path}/public-key`)).status).toBe(404);
  const key = await openingKeyOf(await newScalar());
  const body = keyPackage(id, key, 1);
  const put = await good('PUT', `${path}/key-package`, { headers: { 'if-match': '"0"' }, body });
  expect(put.headers['ETag']).toBe('"1"');
  const fetched = await good('GET', `${path}/key-package`);
  expect(fetched.json).toEqual(body.package);
  expect((await good('GET', path)).text).not.toContain(body.package.wrapped);
  expect((await good('GET', `${path}/public-key`)).json).toMatchObject({ kid: key.kid });
  await prove(id, machine, key);
  const joined = await good('GET', path, { token: machine.token });
  expect(joined.json).toMatchObject({ state: 'Active', members: [machine.id] });
  await addConnection('g1', { kind: 'group', id }, key.kid);
  await good('POST', `${E}/connections/g1:test`, { body: { everyMember: true } });
  await good('GET', `${path}/queue`);
  await good('DELETE', `${path}/members/${machine.id}`, { token: machine.token });
  const last = await good('GET', path);
  await good('DELETE', path, { headers: ifMatch(last) });
});

test('keys', async () => {
  const machine = await addMachine(bench);
  await machine.hello();
  const [first, second] = [
    await openingKeyOf(await newScalar()),
    await openingKeyOf(await newScalar()),
  ];
  const made = await good('POST', `${E}/groups`, { body: { name: 'desks' } });
  const id = textField(made.json, 'id');
  const path = `${E}/groups/${id}`;
  const headers = { 'if-match': '"0"' };
  await good('PUT', `${path}/key-package`, { headers, body: keyPackage(id, first, 1) });
  await prove(id, machine, first);
  expect((await call('GET', `${path}/key-rotation`)).status).toBe(404);
  await good('POST', `${path}:rotate-key`);
  await good('POST', `${path}:cancel-rotation`);
  await good('POST', `${path}:rotate-key`);
  const body = keyPackage(id, second, 2);
  const secondary = `${path}/key-package/secondary`;
  await good('PUT', secondary, { token: machine.token, headers: { 'if-match': '"1"' }, body });
  expect((await good('GET', secondary)).json).toEqual(body.package);
  expect((await good('GET', path)).text).not.toContain(body.package.wrapped);
  expect((await call('POST', `${path}:promote-secondary`)).status).toBe(409);
  await prove(id, machine, second, 'secondary');
  expect((await good('GET', `${path}/key-rotation`)).json).toMatchObject({
    secondary: { kid: second.kid, generation: 2 },
    members: [{ machineId: machine.id, hasSecondary: true }],
    connections: { left: 0, ofOwners: [] },
  });
  expect((await good('POST', `${path}:reseal`)).json).toEqual({ resealed: 0, refused: [] });
  const promoted = await good('POST', `${path}:promote-secondary`, { body: { graceDays: 1 } });
  expect(promoted.json).toMatchObject({ key: { publicKey: { kid: second.kid } } });
  const point = Buffer.from(first.point).toString('base64url');
  const about = { environment: 'dev', machineId: machine.id, point };
  await good('PUT', `${E}/agent/encryption-key`, {
    token: machine.token,
    body: { point, signature: signed(machine.keys, keyChangeText('encryption-key', about)) },
  });
  const promotion = { body: { suspendRest: true } };
  const changed = await good('POST', `${E}/machines/${machine.id}:promote-key`, promotion);
  expect(changed.json).toMatchObject({ encryptionKey: { kid: first.kid } });
  const next = new MachineKeys();
  const identity = pointOf(next.identity);
  const text = keyChangeText('identity-key', { ...about, point: identity });
  const [signature, proof] = [signed(machine.keys, text), signed(next, text)];
  await good('PUT', `${E}/agent/identity-key`, {
    token: machine.token,
    body: { point: identity, signature, proof },
  });
  const before = await good('GET', `${V1}/dispatch-keys`, { token: undefined });
  expect(fields(before.json)['items']).toHaveLength(1);
  const after = await good('POST', `${V1}/dispatch-keys:rotate`);
  expect(fields(after.json)['items']).toHaveLength(2);
});

function signed(by: MachineKeys, text: string): string {
  return signBytes(by.identity, Buffer.from(text));
}

function keyPackage(groupId: string, key: OpeningKey, generation: number) {
  return {
    point: Buffer.from(key.point).toString('base64url'),
    package: {
      v: 1,
      groupId,
      kid: key.kid,
      generation,
      suite: 'p256',
      kdf: { name: 'scrypt', N: 2 ** 17, r: 8, p: 1, salt: random(16) },
      nonce: random(12),
      wrapped: random(48),
    },
  };
}

/** Joins a group, or proves its next key: opens what is sealed to the key, and signs it. */
async function prove(
  groupId: string,
  machine: RegisteredMachine,
  opening: OpeningKey,
  key: 'primary' | 'secondary' = 'primary',
): Promise<void> {
  const path = `${E}/groups/${groupId}/members`;
  const asked = await good('POST', path, { body: { machineId: machine.id, key } });
  const challengeId = textField(asked.json, 'challengeId');
  const { enc, ct } = fields(fields(asked.json)['sealed']);
  const sealed = sealedOf({
    ...envelopeFor(opening.kid),
    v: 1,
    suite: 'p256',
    enc: String(enc),
    ct: String(ct),
  });
  if (sealed === undefined) throw new Error('not an envelope');
  const holder = {
    tenant: 'default',
    environment: 'dev',
    kind: 'group',
    id: groupId,
    kid: opening.kid,
  } as const;
  const purpose = { type: 'challenge', machineId: machine.id, challengeId } as const;
  const secret = await open(opening, bindingOf(holder, purpose), sealed);
  const answer = Buffer.from(secret ?? []).toString('base64url');
  const text = Buffer.from(joinProofText(groupId, challengeId, answer));
  const signature = signBytes(machine.keys.identity, text);
  await good('PUT', `${path}/${machine.id}/proof`, { body: { challengeId, answer, signature } });
}

test('connections', async () => {
  const machine = await addMachine(bench);
  const target = { kind: 'machine', id: machine.id };
  const made = await addConnection('c1', target, machine.kid);
  expect(made.status).toBe(201);
  expect((await addConnection('c1', target, machine.kid)).status).toBe(200);
  expect(made.text).not.toContain('cccccc');
  expect(made.json).toMatchObject({ kid: machine.kid, version: 1 });
  await good('GET', `${E}/connections?targetKind=machine&targetId=${machine.id}`);
  await good('GET', `${E}/connections/c1`);
  await good('PUT', `${E}/connections/c1/access/user:bob`, { body: { grant: 'use' } });
  await good('DELETE', `${E}/connections/c1/access/user:bob`);
  await good('POST', `${E}/connections/c1:test`);
  const seen = await good('GET', `${E}/connections/c1`);
  const patched = await good('PATCH', `${E}/connections/c1`, {
    headers: ifMatch(seen),
    body: { envelope: envelopeFor(machine.kid), credentialVersion: 2 },
  });
  await good('DELETE', `${E}/connections/c1`, { headers: ifMatch(patched) });
});

test('runs, as people see them', async () => {
  const machine = await addMachine(bench);
  await addConnection('c1', { kind: 'machine', id: machine.id }, machine.kid);
  const body = { connectionId: 'c1', job: JOB, inputs: { atMs: 5 } };
  const headers = { 'idempotency-key': 'one' };
  const asked = await good('POST', `${E}/runs`, { body, headers });
  const again = await good('POST', `${E}/runs`, { body, headers });
  expect([asked.status, again.status]).toEqual([202, 200]);
  const run = `${E}/runs/${textField(asked.json, 'id')}`;
  const lists = ['', '?state=Queued&limit=1', '?connectionId=c1', `?machineId=${machine.id}`];
  for (const query of lists) await good('GET', `${E}/runs${query}`);
  const seen = await good('GET', run);
  await good('PATCH', run, { headers: ifMatch(seen), body: { priority: 'high' } });
  await good('POST', `${run}:move-to-top`);
  await good('POST', `${run}:undo-move`);
  const input = await good('GET', `${run}/input`);
  expect(input.json).toMatchObject({ inputs: { atMs: 5 }, job: JOB });
  await good('GET', `${run}/outputs`);
  for (const feed of ['events', 'progress', 'logs']) await good('GET', `${run}/${feed}?wait=0`);
  await good('POST', `${run}:safe-stop`);
  const other = await good('POST', `${E}/runs`, { body });
  await good('POST', `${E}/runs/${textField(other.json, 'id')}:cancel`, { body: { mode: 'kill' } });
});

test('schedules, triggers and hooks', async () => {
  const machine = await addMachine(bench);
  await addConnection('c1', { kind: 'machine', id: machine.id }, machine.kid);
  const run = { connectionId: 'c1', job: JOB };
  const schedule = await good('POST', `${E}/schedules`, {
    body: { name: 'nightly', cron: '0 3 * * *', run },
  });
  const trigger = await good('POST', `${E}/triggers`, { body: { name: 'hook', run } });
  for (const [name, made] of [
    ['schedules', schedule],
    ['triggers', trigger],
  ] as const) {
    const path = `${E}/${name}/${textField(made.json, 'id')}`;
    await good('GET', `${E}/${name}`);
    await good('GET', path);
    await good('PATCH', path, { headers: ifMatch(made), body: { name: 'other' } });
    await good('PUT', `${path}/access/user:bob`, { body: { grant: 'use' } });
    await good('DELETE', `${path}/access/user:bob`);
  }
  const scheduled = `${E}/schedules/${textField(schedule.json, 'id')}`;
  await good('GET', `${scheduled}/history`);
  const id = textField(trigger.json, 'id');
  const rotated = await good('POST', `${E}/triggers/${id}:rotate-secret`);
  expect((await good('GET', `${E}/triggers/${id}`)).text).not.toContain('whsec_');
  const delivery = signedDelivery(textField(rotated.json, 'secret'), '{"a":1}');
  const first = await good('POST', `${V1}/hooks/dev/${id}`, delivery);
  const second = await good('POST', `${V1}/hooks/dev/${id}`, delivery);
  expect([first.status, second.status]).toEqual([202, 200]);
  for (const path of [scheduled, `${E}/triggers/${id}`]) {
    await good('DELETE', path, { headers: ifMatch(await good('GET', path)) });
  }
});

function random(bytes: number): string {
  return randomBytes(bytes).toString('base64url');
}

function signedDelivery(secret: string, body: string): Sent {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const timestamp = String(Math.floor(bench.clock.wallMs() / 1_000));
  const mac = createHmac('sha256', key).update(`d1.${timestamp}.${body}`).digest('base64');
  const headers = {
    'webhook-id': 'd1',
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${mac}`,
  };
  return { token: undefined, body, headers };
}

test('runs, as machines report them', async () => {
  await bench.plane.dispatcher.start();
  const machine = await addMachine(bench);
  await good('POST', `${E}/agent/hello`, {
    token: machine.token,
    body: fields(JSON.parse(helloText(machine.id))),
  });
  await addConnection('c1', { kind: 'machine', id: machine.id }, machine.kid);
  const submit = async (): Promise<string> => {
    const body = { connectionId: 'c1', job: JOB };
    const run = await good('POST', `${E}/runs`, { body });
    await settled();
    return textField(run.json, 'id');
  };
  const { token } = machine;
  const first = await submit();
  const about = { v: 1, runId: first, attempt: 1, fence: 1 };
  const attempt = `${E}/agent/runs/${first}/attempts/1`;
  const { fence } = about;
  await good('PUT', `${attempt}/start`, { token, body: { fence, instance: 'i1' } });
  await good('PUT', `${attempt}/renew`, { token, body: { fence, isLaunched: true } });
  await good('POST', `${attempt}/progress`, {
    token,
    body: { ...about, type: 'progress', step: 's' },
  });
  const bytes = Buffer.from('line');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const log = `${attempt}/logs?offset=0&fence=1&sha256=${sha256}`;
  const headers = { 'content-type': 'application/octet-stream' };
  await good('POST', log, { token, body: bytes, headers });
  const failed = { code: 'AgentNotReachable', message: 'it broke', inner: 'stack' };
  await good('PUT', `${attempt}/result`, {
    token,
    body: { ...about, type: 'result', status: 'Failed', error: failed, exitCode: 3 },
  });
  const run = await good('GET', `${E}/runs/${first}`);
  expect(run.json).toMatchObject({ fault: { code: 'AgentNotReachable' }, exitCode: 3 });
  const second = await submit();
  const taken = `${E}/agent/runs/${second}/attempts/1`;
  await good('PUT', `${taken}/start`, { token, body: { fence: 1, instance: 'i1' } });
  await good('PUT', `${taken}/start-interrupted`, { token, body: { fence: 1 } });
});

function helloText(machineId: string): string {
  return JSON.stringify({
    v: 1,
    type: 'hello',
    machineId,
    installId: 'install-1',
    instance: 'i1',
    agentVersion: '1.0.0',
    os: 'linux',
    capacity: { unattended: 1, attended: 1 },
    sessions: [{ user: 'ann', state: 'active' }],
    labels: {},
    keys: [],
    clock: '2023-11-14T22:13:20Z',
    journal: [],
  });
}

test('every good answer of every operation was given above', () => {
  const documented = OPERATIONS.flatMap(({ method, path, answers }) =>
    answers.map(({ status }) => `${method} ${path} ${status}`),
  );
  expect(documented.filter(answer => !given.has(answer))).toEqual([]);
});
