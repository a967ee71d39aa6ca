import { chmodSync, chownSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { defaultStatePath, StateFolder } from '../../src/machine/state-folder.ts';
import { someFolder } from '../support/some-folder.ts';

const OTHER_UID = 65_534;

describe('StateFolder', () => {
  test('open() makes a folder that only this account may enter', () => {
    using place = someFolder();
    const folder = StateFolder.open(join(place.path, 'a', 'state'));
    expect(statSync(folder.path).mode & 0o777).toBe(0o700);
  });

  test('write() makes files that only this account may read, and leaves nothing beside them', () => {
    using place = someFolder();
    const folder = StateFolder.open(join(place.path, 'state'));
    folder.write('one', Buffer.from('1'));
    folder.write('one', Buffer.from('2'));
    expect(statSync(folder.pathOf('one')).mode & 0o777).toBe(0o600);
    expect(folder.read('one')?.toString()).toBe('2');
    expect(folder.names()).toEqual(['one']);
    expect(folder.read('two')).toBeUndefined();
  });

  test('open() says what to do about a folder that others may enter', () => {
    using place = someFolder();
    const path = join(place.path, 'state');
    StateFolder.open(path);
    chmodSync(path, 0o750);
    expect(() => StateFolder.open(path)).toThrow(/mode 0750.*chmod -R go= .*state/);
  });

  test.runIf(userInfo().uid === 0)(
    'open() names the account that a foreign folder belongs to',
    () => {
      using place = someFolder();
      const path = join(place.path, 'state');
      StateFolder.open(path);
      chownSync(path, OTHER_UID, OTHER_UID);
      expect(() => StateFolder.open(path)).toThrow(
        /belongs to the account (?:nobody|#65534) and not to root: .*sudo -u (?:nobody|#65534)/,
      );
    },
  );

  test('read() refuses a file that others may read, and a link to one elsewhere', () => {
    using place = someFolder();
    const folder = StateFolder.open(join(place.path, 'state'));
    folder.write('open', Buffer.from('x'));
    chmodSync(folder.pathOf('open'), 0o644);
    expect(() => folder.read('open')).toThrow(/mode 0644/);
    const target = join(place.path, 'elsewhere');
    writeFileSync(target, 'x', { mode: 0o600 });
    symlinkSync(target, folder.pathOf('link'));
    expect(() => folder.read('link')).toThrow(/Cannot read/);
  });

  test('a name never leads out of the folder', () => {
    using place = someFolder();
    const folder = StateFolder.open(join(place.path, 'state'));
    for (const name of ['../x', 'a/b', '.', '..', '']) {
      expect(() => folder.pathOf(name)).toThrow(RangeError);
    }
  });
});

test("defaultStatePath() is the unit's folder in a unit", () => {
  expect(defaultStatePath({ STATE_DIRECTORY: '/var/lib/x:/var/lib/y' })).toBe('/var/lib/x');
});
