import { userInfo } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { sealEnvelope, type Envelope, type Purpose } from '../../src/crypto/envelope.ts';
import { importPublicKey } from '../../src/crypto/hpke.ts';
import { ProcessHost } from '../../src/machine/session-hosts/process-host.ts';
import type { RunningCommand } from '../cli/run-command.ts';
import { connect, endOfRun, lyingServer, outcomeOf } from '../support/lying-server.ts';
import { until } from '../support/within.ts';

// A server that exchanges envelopes gains nothing: job-dispatch.md section 13, item 5. It writes them into its
// records, offers the job as always, and a real machine service answers.

const START_MS = 60_000;
const USER = userInfo().username;

let server: Awaited<ReturnType<typeof lyingServer>>;
let ids: { readonly desk: string; readonly other: string; readonly team: string };
const services: RunningCommand[] = [];
/** Sees who was to be signed in. */
const launch = vi.spyOn(ProcessHost.prototype, 'launch');
const launches = (): number => launch.mock.calls.length;

beforeAll(async () => {
  server = await lyingServer();
  const { commands } = server;
  const desk = await commands.register('desk');
  const other = await commands.register('other');
  const team = String((await commands.json(['group', 'create', 'team']))['id']);
  await commands.ok(['machine', 'join-group', team, '--state', commands.stateOf('desk')]);
  for (const name of ['desk', 'other']) services.push(await commands.serve(name));
  ids = { desk: desk.id, other: other.id, team };
}, START_MS);

afterAll(async () => {
  await Promise.all(services.map(service => service[Symbol.asyncDispose]()));
  await server?.[Symbol.asyncDispose]();
  vi.restoreAllMocks();
});

const toDesk = (): Promise<string> => connect(server.commands, ['--machine', ids.desk], USER);
const toOther = (): Promise<string> => connect(server.commands, ['--machine', ids.other], USER);
const toTeam = (): Promise<string> => connect(server.commands, ['--group', ids.team], USER);

/** Sealed to the key of a machine, but for something else than the server says. */
async function sealedFor(environment: string, purpose: Purpose): Promise<Envelope> {
  const path = `/environments/default/machines/${ids.desk}/public-key`;
  const { kid, point } = await server.rest.get('GET', path);
  const bytes = Uint8Array.from(Buffer.from(String(point), 'base64url'));
  const holder = { tenant: 'default', environment, kind: 'machine', id: ids.desk } as const;
  const plaintext = Uint8Array.from(Buffer.from(JSON.stringify({ d: '', p: 'x', u: USER })));
  const key = await importPublicKey(bytes);
  return sealEnvelope(key, { ...holder, kid: String(kid) }, purpose, plaintext);
}

const credential = (id: string): Purpose => ({
  type: 'credential',
  object: 'connection',
  id,
  version: 1,
});

describe('a swapped envelope', () => {
  let before = 0;
  beforeEach(() => {
    before = launches();
  });

  /** Nobody was signed in, and whoever reads the machine's log is told. */
  async function untouched(code: string): Promise<void> {
    expect(launches()).toBe(before);
    const told = (): boolean =>
      services.some(service =>
        service
          .out()
          .split('\n')
          .some(line => line.includes('"event":"security"') && line.includes(code)),
      );
    await until('it is logged as a security event', told);
  }

  test('opens where it belongs: at the machine and at a member of the group', async () => {
    for (const connection of [await toDesk(), await toOther(), await toTeam()]) {
      expect(await endOfRun(server.commands, connection)).toBe('Succeeded');
    }
    expect(launches()).toBe(before + 3);
  });

  const cases: readonly (readonly [string, string, () => Promise<string>])[] = [
    [
      'of another connection',
      'CredentialContextMismatch',
      async () => {
        const id = await toDesk();
        await server.records.swapEnvelope(id, await server.records.envelopeOf(await toDesk()));
        return id;
      },
    ],
    [
      'of another machine',
      'KeyIdUnknown',
      async () => {
        const id = await toOther();
        await server.records.swapEnvelope(id, await server.records.envelopeOf(await toDesk()));
        return id;
      },
    ],
    [
      "of another machine, under this one's key id",
      'CredentialContextMismatch',
      async () => {
        const id = await toOther();
        const { kid } = await server.records.envelopeOf(id);
        const envelope = await server.records.envelopeOf(await toDesk());
        await server.records.swapEnvelope(id, { ...envelope, kid });
        return id;
      },
    ],
    [
      "of the machine, as its group's",
      'CredentialContextMismatch',
      async () => {
        const id = await toTeam();
        await server.records.swapEnvelope(id, await server.records.envelopeOf(await toDesk()));
        return id;
      },
    ],
    [
      "of the group, as its machine's",
      'CredentialContextMismatch',
      async () => {
        const id = await toDesk();
        await server.records.swapEnvelope(id, await server.records.envelopeOf(await toTeam()));
        return id;
      },
    ],
    [
      'of another environment',
      'CredentialContextMismatch',
      async () => {
        const id = await toDesk();
        await server.records.swapEnvelope(id, await sealedFor('elsewhere', credential(id)));
        return id;
      },
    ],
    [
      'of an earlier version',
      'CredentialContextMismatch',
      async () => {
        const id = await toDesk();
        const first = await server.records.envelopeOf(id);
        await server.commands.ok(['connection', 'update', id, '--user', USER], 'another password');
        await server.records.swapEnvelope(id, first);
        return id;
      },
    ],
    [
      'of an earlier version, with that version',
      'CredentialVersionStale',
      async () => {
        const id = await toDesk();
        const envelope = await server.records.envelopeOf(id);
        await server.commands.ok(['connection', 'update', id, '--user', USER], 'another password');
        expect(await endOfRun(server.commands, id)).toBe('Succeeded');
        before = launches();
        await server.records.change('connection', id, { envelope, credentialVersion: 1 });
        return id;
      },
    ],
    [
      'of an input',
      'CredentialContextMismatch',
      async () => {
        const id = await toDesk();
        const purpose = { type: 'input', runId: id, name: 'x' } as const;
        await server.records.swapEnvelope(id, await sealedFor('default', purpose));
        return id;
      },
    ],
  ];
  test.each(cases)('%s stays shut: %s, and no sign-in is tried', async (_of, code, lie) => {
    const connection = await lie();
    expect(await endOfRun(server.commands, connection)).toBe(code);
    await untouched(code);
  });

  test('of a credential stays shut as an input of a job, and no sign-in is tried', async () => {
    const id = await toDesk();
    const envelope = await server.records.envelopeOf(id);
    const job = { ref: 'test', kind: 'command', command: ['true'] };
    const body = { connectionId: id, job, sealedInputs: { password: envelope } };
    const run = await server.rest.get('POST', '/environments/default/runs', body);
    const path = `/environments/default/runs/${String(run['id'])}`;
    const outcome = async (): Promise<string> => outcomeOf(await server.rest.get('GET', path));
    await until('the run is over', async () => (await outcome()) === 'CredentialContextMismatch');
    await untouched('CredentialContextMismatch');
  });
});
