import { linkSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { newScalar, openingKeyOf } from '../../src/crypto/key-pair.ts';
import { KeyStore } from '../../src/machine/key-store.ts';
import { plainProtector, wrappingProtector } from '../../src/machine/protector.ts';
import { StateFolder } from '../../src/machine/state-folder.ts';
import { someFolder } from '../support/some-folder.ts';

function bench() {
  const place = someFolder();
  const folder = StateFolder.open(join(place.path, 'state'));
  const store = new KeyStore(folder, plainProtector());
  return { folder, store, [Symbol.dispose]: place[Symbol.dispose] };
}

describe('KeyStore', () => {
  test('keys that were kept are the same when they are loaded; those that were dropped are nowhere', async () => {
    using it = bench();
    const made = await it.store.make();
    expect(it.folder.names()).toEqual([]);
    made.keep();
    const kids = { identity: made.identity.kid, encryption: made.encryption.kid };
    const loaded = await it.store.load(kids);
    expect(loaded.identity.point).toBe(made.identity.point);
    expect(loaded.encryption.point).toEqual(made.encryption.point);
    expect(loaded.identity.kid).not.toBe(loaded.encryption.kid);
    (await it.store.make()).drop();
    expect(it.folder.names()).toHaveLength(2);
  });

  test('load() says what to do about a key that is missing', async () => {
    using it = bench();
    const gone = { identity: 'i'.repeat(43), encryption: 'e'.repeat(43) };
    await expect(it.store.load(gone)).rejects.toThrow(/is missing: restore it.*--force/);
  });

  test('what is removed is overwritten where it was', async () => {
    using it = bench();
    const { kid } = await it.store.addEncryptionKey();
    const [name = ''] = it.folder.names();
    const path = it.folder.pathOf(name);
    const before = readFileSync(path);
    const other = `${path}.link`;
    linkSync(path, other);
    it.store.removeEncryptionKey(kid);
    expect(it.folder.names()).toEqual([`${name}.link`]);
    const after = readFileSync(other);
    expect(after).toHaveLength(before.length);
    expect(after).not.toEqual(before);
  });

  test('keys of groups are told apart, also where one name begins with the other', async () => {
    using it = bench();
    const scalars = [await newScalar(), await newScalar()];
    const [one, two] = await Promise.all(scalars.map(openingKeyOf));
    const [first, second] = scalars;
    if (one === undefined || two === undefined || first === undefined || second === undefined) {
      throw new Error('no keys');
    }
    it.store.keepGroupKey('team', one.kid, first);
    it.store.keepGroupKey('team~x', two.kid, second);
    expect((await it.store.groupKeys('team')).map(({ kid }) => kid)).toEqual([one.kid]);
    it.store.removeGroupKeys('team');
    expect(await it.store.groupKeys('team')).toEqual([]);
    expect((await it.store.groupKeys('team~x')).map(({ kid }) => kid)).toEqual([two.kid]);
  });

  test('strengthen() wraps what was plain, once, and plain reading ends there', async () => {
    using it = bench();
    const made = await it.store.make();
    made.keep();
    const kids = { identity: made.identity.kid, encryption: made.encryption.kid };
    const wrapping = new KeyStore(it.folder, wrappingProtector(Buffer.alloc(32, 9)));
    expect([wrapping.strengthen(), wrapping.strengthen()]).toEqual([2, 0]);
    expect((await wrapping.load(kids)).identity.point).toBe(made.identity.point);
    await expect(it.store.load(kids)).rejects.toThrow(/wrapped by a key that is not here/);
  });

  test('removeOthers() leaves the keys of one registration, or none', async () => {
    using it = bench();
    const [old, current] = [await it.store.make(), await it.store.make()];
    old.keep();
    current.keep();
    it.store.removeOthers({ identity: current.identity.kid, encryption: current.encryption.kid });
    expect(it.folder.names()).toHaveLength(2);
    it.store.removeOthers();
    expect(it.folder.names()).toEqual([]);
  });
});
