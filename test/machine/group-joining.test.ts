import { describe, expect, test } from 'vitest';
import type { ControlAnswer, ControlCall } from '../../src/machine/control-client.ts';
import { generatePassword, requireStrong } from '../../src/machine/group-password.ts';
import { joinGroup } from '../../src/machine/group-joining.ts';
import { machineBench, member } from '../support/machine-bench.ts';

/** A group with a key, a machine that wants to join, and a server that lies to it as the test says. */
async function bench() {
  const machines = await machineBench();
  await machines.register('first');
  await machines.register('second');
  const group = member(await machines.ask('POST', '/groups', { name: 'team' }), 'id');
  const { generatedPassword: password } = await machines.join('first', group);
  const { folder, keyStore, keys, record, access } = await machines.open('second');
  return {
    machines,
    group,
    password,
    /** `change` sees each answer by the end of its path. */
    join: (change: (path: string, body: unknown) => unknown, given = password) => {
      const call = async (asked: ControlCall): Promise<ControlAnswer> => {
        const answer = await access.call(asked);
        return { ...answer, body: change(asked.path.split('/').at(-1) ?? '', answer.body) };
      };
      const ask = (): Promise<string | undefined> => Promise.resolve(given);
      const { identity } = keys;
      return joinGroup(group, ask, { folder, keys: keyStore, identity, record, call });
    },
    keptKeys: () => folder.names().filter(name => name.startsWith('group.')),
    [Symbol.asyncDispose]: machines[Symbol.asyncDispose],
  };
}

/** Changes members of the one answer whose path ends so. */
function changing(name: string, change: object) {
  return (path: string, body: unknown): unknown =>
    path === name ? { ...Object(body), ...change } : body;
}

function withKdf(change: object) {
  return (path: string, body: unknown): unknown => {
    if (path !== 'key-package') return body;
    const before: unknown = Object(body).kdf;
    return { ...Object(body), kdf: { ...Object(before), ...change } };
  };
}

describe('joinGroup() before a server that lies', () => {
  test('refuses a weak KDF without trying the password, and says what that means', async () => {
    await using it = await bench();
    for (const change of [{ N: 2 ** 10 }, { r: 1 }, { N: 2 ** 24 }, { p: 0 }]) {
      await expect(it.join(withKdf(change))).rejects.toThrow(/asks for less work.*was not used/);
    }
    expect(it.keptKeys()).toEqual([]);
  }, 30_000);

  test('refuses parameters that were changed within bounds, as it does a wrong password', async () => {
    await using it = await bench();
    await expect(it.join(withKdf({ p: 2 }))).rejects.toThrow(/password is wrong, or .* changed/);
    await expect(it.join((_path, body) => body, 'another password')).rejects.toThrow(
      /password is wrong/,
    );
    expect(it.keptKeys()).toEqual([]);
  }, 30_000);

  test('refuses a public key that is not the one in the package', async () => {
    await using it = await bench();
    await expect(it.join(changing('public-key', { kid: 'x'.repeat(43) }))).rejects.toThrow(
      /not the key that the group is known by/,
    );
    expect(it.keptKeys()).toEqual([]);
  }, 30_000);

  test("refuses another group's package, and a challenge that is sealed for something else", async () => {
    await using it = await bench();
    await expect(it.join(changing('key-package', { groupId: 'other' }))).rejects.toThrow(
      /package of the group is damaged/,
    );
    await expect(it.join(changing('members', { challengeId: 'another' }))).rejects.toMatchObject({
      code: 'CredentialContextMismatch',
    });
    expect(it.keptKeys()).toEqual([]);
  }, 30_000);

  test('joins when nobody lies', async () => {
    await using it = await bench();
    await expect(it.join((_path, body) => body)).resolves.toMatchObject({ isFirst: false });
    expect(it.keptKeys()).toHaveLength(1);
  }, 30_000);
});

describe('group passwords', () => {
  test('generatePassword() gives 26 characters of base32, each time others', () => {
    const made = new Set(Array.from({ length: 100 }, generatePassword));
    expect(made.size).toBe(100);
    for (const password of made) {
      expect(password).toMatch(/^[a-z2-7]{26}$/);
      expect(() => requireStrong(password)).not.toThrow();
    }
  });

  test.each(['short', 'aaaaaaaaaaaaaaaaaaaaaa', 'abababababababab', 'exactly13char'])(
    'requireStrong() refuses "%s"',
    password => {
      expect(() => requireStrong(password)).toThrow(/too weak/);
    },
  );
});
