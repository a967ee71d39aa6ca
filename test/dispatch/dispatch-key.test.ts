import { createPublicKey } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { openDetached } from '../../src/crypto/es256.ts';
import { trustedKeys } from '../../src/crypto/key-chain.ts';
import {
  DISPATCH_KEY_AGE_MS,
  DISPATCH_KEY_OVERLAP_MS,
  DispatchKeys,
} from '../../src/dispatch/dispatch-key.ts';
import { dispatchBench, type DispatchBench } from '../support/dispatch.ts';

let bench: DispatchBench;
let keys: DispatchKeys;
beforeEach(() => {
  bench = dispatchBench();
  keys = new DispatchKeys(bench.store, bench.clock);
});

/** Which of the published keys a signature of now is of. */
async function signer(by = keys): Promise<string | undefined> {
  const published = await by.published();
  const signature = await by.sign('body', 'dev/m/m1');
  let found: string | undefined;
  openDetached(signature, 'body', kid => {
    const jwk = published.find(one => one.kid === kid);
    if (jwk === undefined) return undefined;
    found = kid;
    return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x: jwk.x, y: jwk.y }, format: 'jwk' });
  });
  return found;
}

async function secrets(): Promise<number> {
  const entries = await bench.store.range('~', 'dispatch-keys', { limit: 100 });
  const records = await bench.store.getMany(
    '~',
    entries.map(({ member }) => ({ kind: 'dispatch-key', id: member })),
  );
  return records.filter(record => record?.text.includes('"secret"')).length;
}

describe('keys that sign what is sent to machines', () => {
  test('are one at first, however many processes start at once', async () => {
    const many = Array.from({ length: 4 }, () => new DispatchKeys(bench.store, bench.clock));
    const published = await Promise.all(many.map(one => one.published()));
    expect(new Set(published.map(([jwk]) => jwk?.kid)).size).toBe(1);
    expect(published[0]).toHaveLength(1);
  });

  test('are published a day before they sign, signed by their predecessor', async () => {
    const pinned = await keys.published();
    const [first] = pinned;
    await keys.rotate();
    expect((await keys.published()).map(({ kid }) => kid)[0]).toBe(first?.kid);
    await expect(signer()).resolves.toBe(first?.kid);
    const published = await keys.published();
    expect(published).toHaveLength(2);
    await expect(trustedKeys(pinned, published)).resolves.toEqual(published);
    bench.clock.advance(DISPATCH_KEY_OVERLAP_MS);
    await expect(signer()).resolves.toBe(published[1]?.kid);
    expect((await keys.published())[0]?.kid).toBe(published[1]?.kid);
  });

  test('are made one at a time, however often it is asked for: what machines know stays published', async () => {
    const pinned = await keys.published();
    for (let n = 0; n < 13; n += 1) await keys.rotate();
    const published = await keys.published();
    expect(published).toHaveLength(2);
    await expect(trustedKeys(pinned, published)).resolves.toEqual(published);
    bench.clock.advance(DISPATCH_KEY_OVERLAP_MS);
    await keys.rotate();
    await expect(keys.published()).resolves.toHaveLength(3);
  });

  test('are replaced every 90 days by one process, and taken up by all', async () => {
    const others = new DispatchKeys(bench.store, bench.clock);
    const [first] = await keys.published();
    await signer(others);
    await keys.keepFresh();
    await expect(keys.published()).resolves.toHaveLength(1);
    bench.clock.advance(DISPATCH_KEY_AGE_MS);
    await Promise.all([keys.keepFresh(), others.keepFresh(), keys.keepFresh()]);
    await expect(keys.published()).resolves.toHaveLength(2);
    bench.clock.advance(DISPATCH_KEY_OVERLAP_MS);
    const now = await signer(others);
    expect(now).not.toBe(first?.kid);
    await expect(signer()).resolves.toBe(now);
    // Both secrets are there while a process may still sign with the old one, then one.
    await keys.keepFresh();
    await expect(secrets()).resolves.toBe(2);
    bench.clock.advance(DISPATCH_KEY_OVERLAP_MS);
    await keys.keepFresh();
    await expect(secrets()).resolves.toBe(1);
  });

  test('lead on from one that was pinned years ago', async () => {
    const pinned = await keys.published();
    for (let count = 0; count < 10; count += 1) {
      bench.clock.advance(DISPATCH_KEY_AGE_MS);
      await keys.keepFresh();
    }
    const published = await keys.published();
    expect(published).toHaveLength(11);
    await expect(trustedKeys(pinned, published)).resolves.toHaveLength(11);
  });
});
