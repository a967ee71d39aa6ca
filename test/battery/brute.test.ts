import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import * as v from 'valibot';
import { groupPackageSchema } from '../../src/dispatch/records.ts';
import { envelopeSchema } from '../../src/jobs/messages.ts';
import { CLUSTER_SECRET } from '../support/cluster.ts';
import { connect, lyingServer } from '../support/lying-server.ts';
import { tryEverything, type SealedThing } from '../support/key-thief.ts';
import { LISTEN_KEY, ROOT_KEY, SEND_KEY } from '../support/relay.ts';

// All that a server has opens nothing: job-dispatch.md section 13, item 4, and the end of row A22.

const TEST_MS = 60_000;
const HOLDER = { tenant: 'default', environment: 'default' } as const;
const inputSchema = v.object({ sealedInputs: v.record(v.string(), envelopeSchema) });
const groupSchema = v.object({ key: v.object({ package: groupPackageSchema }) });

test(
  'no value of the size of a key, of all that a server has, opens an envelope or a package',
  async () => {
    await using server = await lyingServer();
    const { commands, records } = server;
    const desk = await commands.register('desk');
    const team = String((await commands.json(['group', 'create', 'team']))['id']);
    const joining = ['machine', 'join-group', team, '--state', commands.stateOf('desk')];
    const { generatedPassword } = await commands.json(joining);
    const toDesk = await connect(commands, ['--machine', desk.id], 'ann');
    const toTeam = await connect(commands, ['--group', team], 'ann');
    // Nobody runs it: its machine's service is not started.
    const start = ['run', 'start', '--connection', toDesk, '--secret-input', 'key=-', '--', 'true'];
    const run = String((await commands.json(start, 'a secret input'))['id']);

    const machine = { ...HOLDER, kind: 'machine', id: desk.id } as const;
    const group = { ...HOLDER, kind: 'group', id: team } as const;
    const { sealedInputs } = v.parse(inputSchema, await records.read('run-input', run));
    const input = v.parse(envelopeSchema, sealedInputs['key']);
    const sealed: readonly SealedThing[] = [
      {
        name: 'connection of the machine',
        envelope: await records.envelopeOf(toDesk),
        holder: machine,
        purpose: credential(toDesk),
      },
      {
        name: 'connection of the group',
        envelope: await records.envelopeOf(toTeam),
        holder: group,
        purpose: credential(toTeam),
      },
      {
        name: 'input',
        envelope: input,
        holder: machine,
        purpose: { type: 'input', runId: run, name: 'key' },
      },
    ];
    const packages = [v.parse(groupSchema, await records.read('group', team)).key.package];
    const secrets = [ROOT_KEY, LISTEN_KEY, SEND_KEY, server.apiToken, CLUSTER_SECRET];
    const dump = await dumpOf(server.redis.admin);
    // The server's own keys are among it.
    expect(dump.some(text => text.includes('"secret":'))).toBe(true);
    const loot = { texts: [...dump, ...secrets], passwords: secrets, sealed, packages };
    const { opened, tried } = await tryEverything(loot);
    expect(opened).toEqual([]);
    expect(tried).toBeGreaterThan(1_000);

    // With what people and machines have, and no server, the same opens all there is.
    const keyFiles = readdirSync(commands.stateOf('desk')).filter(name => name.endsWith('.key'));
    const ofMachine = keyFiles
      .filter(name => name.startsWith('encryption'))
      .map(name => readFileSync(join(commands.stateOf('desk'), name), 'utf8'));
    const thief = await tryEverything({ ...loot, texts: ofMachine, passwords: [] });
    expect(thief.opened).toEqual(['connection of the machine', 'input']);
    const passwords = [randomUUID(), String(generatedPassword)];
    const knower = await tryEverything({ ...loot, texts: [], passwords });
    expect(knower.opened).toEqual(['connection of the group', `package ${team}`]);
    // Also where the one is in the midst of the other.
    const [some = '', ...rest] = dump;
    const both = await tryEverything({
      ...loot,
      texts: [`${some}${ofMachine.join('')}`, ...rest.slice(0, 3)],
      passwords: [],
    });
    expect(both.opened).toEqual(['connection of the machine', 'input']);
  },
  TEST_MS,
);

function credential(id: string): SealedThing['purpose'] {
  return { type: 'credential', object: 'connection', id, version: 1 };
}

/** Everything in Redis, as texts. */
async function dumpOf(admin: Redis): Promise<readonly string[]> {
  const keys = await admin.keys('*');
  const read = keys.map(async key => {
    const type = await admin.type(key);
    if (type === 'string') return admin.get(key);
    if (type === 'stream') return admin.xrange(key, '-', '+');
    if (type === 'zset') return admin.zrange(key, '0', '-1');
    if (type === 'hash') return admin.hgetall(key);
    return admin.smembers(key);
  });
  return (await Promise.all(read)).map(value =>
    typeof value === 'string' ? value : JSON.stringify(value),
  );
}
