import { beforeEach, describe, expect, test } from 'vitest';
import type { Principal } from '../../src/dispatch/access.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import { RunAs } from '../../src/dispatch/run-as.ts';
import { TriggerFiring } from '../../src/dispatch/trigger-firing.ts';
import { shownTrigger, Triggers } from '../../src/dispatch/triggers.ts';
import { signWebhook } from '../../src/dispatch/webhook-signature.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';

const ADMIN: Principal = { name: 'token:bootstrap', isAdmin: true };
const BOB = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
const RUN = {
  connectionId: 'c1',
  job: { ref: 'orders', kind: 'command', command: ['true'] },
  inputs: { site: 'b' },
};

let bench: DispatchBench;
let triggers: Triggers;
let firing: TriggerFiring;
let isOwnerGone: boolean;

beforeEach(async () => {
  bench = dispatchBench();
  isOwnerGone = false;
  const environments = new Environments(bench.store, bench.clock);
  await environments.create(ADMIN, { id: 'dev' });
  await environments.setRole(ADMIN, 'dev', 'user:ann', 'maker');
  triggers = new Triggers(bench.repository, bench.clock);
  const runAs = new RunAs({
    environment: 'dev',
    environments,
    runs: bench.runs,
    principalNamed: name => Promise.resolve(isOwnerGone ? undefined : { name, isAdmin: false }),
  });
  firing = new TriggerFiring(bench.repository, runAs, bench.clock);
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

async function make(change: object = {}) {
  const { trigger, secret = '' } = await triggers.create(ANN, {
    name: 'shop',
    run: RUN,
    ...change,
  });
  return { id: trigger.id, version: trigger.version, secret: secret.slice('whsec_'.length) };
}

/** A delivery as a sender makes it. */
function delivery(secret: string, text: string, change: { id?: string; atMs?: number } = {}) {
  const { id = 'msg_1', atMs = bench.clock.wallMs() } = change;
  const timestamp = String(Math.floor(atMs / 1_000));
  const signature = signWebhook(secret, { id, timestamp }, text);
  return { headers: { id, timestamp, signature }, body: Buffer.from(text) };
}

describe('receive()', () => {
  test('starts a run whose input is what was sent', async () => {
    const { id, secret } = await make();
    const { run } = await firing.receive(id, delivery(secret, '{"order": 7}'));
    expect(run.value).toMatchObject({ owner: 'user:ann', trigger: 'webhook', jobRef: 'orders' });
    const { inputs } = await bench.runs.input(ANN, run.id);
    expect(inputs).toEqual({ site: 'b', payload: { order: 7 } });
    const { run: empty } = await firing.receive(id, delivery(secret, '', { id: 'msg_2' }));
    await expect(bench.runs.input(ANN, empty.id)).resolves.toMatchObject({
      inputs: { payload: null },
    });
  });

  test('takes a delivery once: again it is the same run, with another body it is refused', async () => {
    const { id, secret } = await make();
    const first = await firing.receive(id, delivery(secret, '{}'));
    bench.clock.advance(60_000);
    const again = await firing.receive(id, delivery(secret, '{}'));
    expect(again).toMatchObject({ isRepeated: true, run: { id: first.run.id } });
    await expect(firing.receive(id, delivery(secret, '[]'))).rejects.toMatchObject({
      code: 'IdempotencyKeyReused',
    });
    const both = await Promise.all(
      [1, 2].map(() => firing.receive(id, delivery(secret, '{}', { id: 'msg_2' }))),
    );
    expect(both[0]?.run.id).toBe(both[1]?.run.id);
    await expect(bench.repository.count('runs')).resolves.toBe(2);
  });

  test('refuses what is not signed, is old, is of another trigger, or of none', async () => {
    const { id, secret } = await make();
    const other = await make();
    const refused = (given: Parameters<typeof firing.receive>[1], to = id) =>
      expect(firing.receive(to, given)).rejects.toMatchObject({ code: 'TokenInvalid' });
    const good = delivery(secret, '{}');
    await refused({ ...good, body: Buffer.from('{ }') });
    await refused({ ...good, headers: { ...good.headers, id: 'msg_9' } });
    await refused({ ...good, headers: { ...good.headers, signature: undefined } });
    await refused({ ...good, headers: { ...good.headers, timestamp: undefined } });
    await refused(delivery(other.secret, '{}'));
    await refused(good, 'none');
    await refused(delivery(secret, '{}', { id: 'a b' }));
    const now = bench.clock.wallMs();
    await refused(delivery(secret, '{}', { atMs: now - 301_000 }));
    await refused(delivery(secret, '{}', { atMs: now + 301_000 }));
    await expect(bench.repository.count('runs')).resolves.toBe(0);
    await firing.receive(id, delivery(secret, '{}', { atMs: now - 299_000 }));
  });

  test('refuses a body that is not JSON, and one that is too large', async () => {
    const { id, secret } = await make();
    for (const text of ['{', 'x', `"${'x'.repeat(2 * 1024 * 1024)}"`]) {
      await expect(firing.receive(id, delivery(secret, text))).rejects.toMatchObject({
        code: 'RequestMalformed',
      });
    }
    const bytes = Buffer.from([0x22, 0xff, 0x22]);
    const { headers } = delivery(secret, '');
    const signature = signWebhook(secret, headers, bytes.toString('latin1'));
    await expect(
      firing.receive(id, { headers: { ...headers, signature }, body: bytes }),
    ).rejects.toMatchObject({ code: 'TokenInvalid' });
  });

  test('takes so many in a minute', async () => {
    const { id, secret } = await make({ runsPerMinuteMax: 2 });
    const at = (n: number) => firing.receive(id, delivery(secret, '{}', { id: `msg_${n}` }));
    await at(1);
    await at(2);
    await expect(at(3)).rejects.toMatchObject({
      code: 'TriggerThrottled',
      retryAfterSeconds: expect.any(Number),
    });
    // One that was taken is not counted again.
    await expect(at(2)).resolves.toMatchObject({ isRepeated: true });
    bench.clock.advance(60_000);
    await at(3);
  });

  test('starts nothing while it is switched off, or when its owner is gone', async () => {
    const { id, version, secret } = await make();
    isOwnerGone = true;
    await expect(firing.receive(id, delivery(secret, '{}'))).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    isOwnerGone = false;
    await triggers.patch(ANN, id, version, { isEnabled: false });
    await expect(firing.receive(id, delivery(secret, '{}'))).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await triggers.delete(ANN, id, 2);
    await expect(firing.receive(id, delivery(secret, '{}'))).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
  });
});

describe('a trigger', () => {
  test('tells its secret once, and a new one whose predecessor is good for a day', async () => {
    const { id, secret } = await make();
    const { value } = await triggers.get(ANN, id);
    expect(JSON.stringify(shownTrigger(value))).not.toContain(secret);
    const { secret: next = '' } = await triggers.rotateSecret(ANN, id);
    const newer = next.slice('whsec_'.length);
    await firing.receive(id, delivery(secret, '{}', { id: 'msg_1' }));
    await firing.receive(id, delivery(newer, '{}', { id: 'msg_2' }));
    bench.clock.advance(24 * 3_600_000);
    await firing.receive(id, delivery(newer, '{}', { id: 'msg_3' }));
    await expect(firing.receive(id, delivery(secret, '{}'))).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toEqual([
      'trigger.create',
      'trigger.rotate-secret',
    ]);
    expect(JSON.stringify(entries)).not.toContain(secret);
  });

  test('is made by who may use its connection, once for an Idempotency-Key', async () => {
    const body = { name: 'shop', run: RUN };
    await expect(triggers.create(BOB, body)).rejects.toMatchObject({ code: 'AccessDenied' });
    const first = await triggers.create(ANN, body, 'key');
    await expect(triggers.create(ANN, body, 'key')).resolves.toMatchObject({
      trigger: { id: first.trigger.id },
      secret: undefined,
    });
    const bad = { name: '', run: { ...RUN, id: 'r1' }, runsPerMinuteMax: 0 };
    await expect(triggers.create(ANN, bad)).rejects.toMatchObject({ code: 'RequestMalformed' });
    await expect(
      triggers.patch(BOB, first.trigger.id, 1, { isEnabled: false }),
    ).rejects.toMatchObject({ code: 'AccessDenied' });
  });
});
