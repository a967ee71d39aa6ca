import { userInfo } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, endOfRun, lyingServer } from '../support/lying-server.ts';

// Passwords and packages of groups that are no longer good: job-dispatch.md section 13, item 11, with real commands at
// machines. Wrong passwords and parameters that were changed: test/machine/group-joining.test.ts, too.

const TEST_MS = 90_000;
let server: Awaited<ReturnType<typeof lyingServer>>;
beforeAll(async () => {
  server = await lyingServer();
}, TEST_MS);
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

async function join(machine: string, group: string, password?: string): Promise<string> {
  const byFile = password === undefined ? [] : ['--password-file', '-'];
  const { commands } = server;
  const argv = ['machine', 'join-group', group, '--json', '--state', commands.stateOf(machine)];
  const { exitCode, out, err } = await commands.result([...argv, ...byFile], password);
  return exitCode === 0 ? String(Object(JSON.parse(out)).generatedPassword ?? 'joined') : err;
}

async function inGroup(machine: string, command: string, password?: string): Promise<string> {
  const byFile = password === undefined ? [] : ['--password-file', '-'];
  const state = ['--state', server.commands.stateOf(machine)];
  const made = await server.commands.json(['machine', command, ...state, ...byFile], password);
  return String(made['generatedPassword']);
}

const NOT_IT = /password is wrong/;

test(
  'after a change of the password the old one lets nobody in, nor does the old package pass for the new one',
  async () => {
    const { commands, records } = server;
    const group = String((await commands.json(['group', 'create', 'changed']))['id']);
    for (const name of ['a1', 'a2']) await commands.register(name);
    const first = await join('a1', group);
    const before = Object((await records.read('group', group))['key']);
    const second = await inGroup('a1', 'change-group-password');
    expect(second).not.toBe(first);
    expect(await join('a2', group, first)).toMatch(NOT_IT);

    // The server gives the old one out as the present one.
    const { key: after } = await records.read('group', group);
    const { generation } = Object(after).package;
    const lie = { ...before, package: { ...before.package, generation } };
    await records.change('group', group, { key: lie });
    expect(await join('a2', group, first)).toMatch(NOT_IT);
    expect(await join('a2', group, second)).toMatch(NOT_IT);
    // And one whose parameters it has changed.
    const { kdf } = Object(after).package;
    const cheap = { ...Object(after).package, kdf: { ...kdf, N: kdf.N / 2 } };
    await records.change('group', group, { key: { ...Object(after), package: cheap } });
    expect(await join('a2', group, second)).toMatch(NOT_IT);

    await records.change('group', group, { key: after });
    expect(await join('a2', group, second)).toBe('joined');
  },
  TEST_MS,
);

test(
  'after another key the old password and package let nobody in, nor open what is sealed since',
  async () => {
    const { commands, records } = server;
    const group = String((await commands.json(['group', 'create', 'rotated']))['id']);
    for (const name of ['b1', 'b2']) await commands.register(name);
    const { id } = await commands.register('b3');
    const first = await join('b1', group);
    const { key: old } = await records.read('group', group);
    const act = (verb: string, body?: object) =>
      server.rest.get('POST', `/environments/default/groups/${group}:${verb}`, body);
    await act('rotate-key');
    const second = await inGroup('b1', 'rotate-group-key');
    await act('promote-secondary', { graceDays: 0 });
    const { key: present } = await records.read('group', group);
    expect(Object(present).publicKey.kid).not.toBe(Object(old).publicKey.kid);
    const connection = await connect(commands, ['--group', group], userInfo().username);

    expect(await join('b2', group, first)).toMatch(NOT_IT);
    const lie = { ...Object(present), package: Object(old).package };
    await records.change('group', group, { key: lie });
    expect(await join('b2', group, first)).toMatch(/not the key that the group is known by/);

    // A server that lies about the key as well lets it in, to a group whose credentials it cannot open.
    await records.change('group', group, { key: old });
    expect(await join('b3', group, first)).toBe('joined');
    await records.change('group', group, { key: present });
    const { group: membership } = await records.read('machine', id);
    const proved = { ...Object(membership), provedKid: Object(present).publicKey.kid };
    await records.change('machine', id, { group: proved });
    {
      await using liedTo = await commands.serve('b3');
      expect(await endOfRun(commands, connection)).toBe('KeyIdUnknown');
      expect(liedTo.out()).toContain('"event":"security"');
    }

    expect(await join('b2', group, second)).toBe('joined');
    await using member = await commands.serve('b2');
    const again = await connect(commands, ['--group', group], userInfo().username);
    expect(await endOfRun(commands, again)).toBe('Succeeded');
    expect(member.out()).not.toContain('"event":"security"');
  },
  TEST_MS,
);
