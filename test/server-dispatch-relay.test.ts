import { expect, onTestFinished, test } from 'vitest';
import { TokenVerifier } from '../src/auth/verify-token.ts';
import { RunTimeConfiguration } from '../src/management/run-time-configuration.ts';
import { NamespaceTable } from '../src/relay/namespaces.ts';
import { MachinePaths } from '../src/server-dispatch-relay.ts';
import { MemoryStore } from '../src/store/memory-store.ts';
import { recordKey } from '../src/store/records.ts';
import { FakeClock } from './support/fake-clock.ts';
import { NAMESPACE } from './support/relay.ts';
import { silentLogger } from './support/silent-logger.ts';

const PATH = 'dev/m/one';

async function paths({ hybridConnectionsMax = 100 } = {}) {
  const clock = new FakeClock(1_700_000_000_000);
  const namespaces = new NamespaceTable([NAMESPACE], clock.wallMs());
  const [namespace] = namespaces.all;
  if (namespace === undefined) throw new Error('there is one');
  const configuration = new RunTimeConfiguration({
    store: new MemoryStore(clock),
    namespaces,
    clock,
    log: silentLogger,
    reportBug: bug => {
      throw bug;
    },
  });
  await configuration.start();
  onTestFinished(() => configuration.stop());
  let revisions = 0;
  const machines = new MachinePaths({
    configuration,
    namespaces,
    namespace,
    clock,
    hybridConnectionsMax,
    newRevision: () => `r${(revisions += 1)}`,
  });
  const verifier = new TokenVerifier();
  const verdict = (token: string, right: 'Listen' | 'Send' | 'Manage', path = PATH) => {
    const segments = path.split('/');
    return verifier.verify({
      token,
      right,
      segments,
      entityRules: namespace.find(segments)?.rules ?? [],
      namespaceRules: namespace.rules,
      hosts: ['relay.example.com', 'tests'],
      wallMs: clock.wallMs(),
    });
  };
  return { clock, namespace, configuration, machines, verdict };
}

test('create() makes a hybrid connection for one listener, which senders need a token for', async () => {
  const { machines, namespace, configuration } = await paths();
  await machines.create(PATH);
  const made = namespace.named(PATH);
  expect(made).toMatchObject({ requiresClientAuthorization: true, replacesListener: true });
  const before = configuration.recordAt(recordKey('tests', PATH));
  await machines.create(PATH);
  expect(configuration.recordAt(recordKey('tests', PATH))).toBe(before);
});

test('create() gives back what somebody took away by the management API, and keeps what they added', async () => {
  const { machines, configuration, namespace } = await paths();
  await machines.create(PATH);
  const key = recordKey('tests', PATH);
  await configuration.write(key, 100, current => {
    if (current?.hybridConnection === undefined) return { refused: 'no' };
    const [listen] = current.rules;
    if (listen === undefined) return { refused: 'no' };
    const hybridConnection = { ...current.hybridConnection, requiresClientAuthorization: false };
    return { put: { ...current, hybridConnection, rules: [{ ...listen, name: 'mine' }] } };
  });
  await machines.create(PATH);
  expect(namespace.named(PATH)?.requiresClientAuthorization).toBe(true);
  expect(namespace.named(PATH)?.rules.map(({ name }) => name)).toEqual([
    'mine',
    'halfway-dispatch-listen',
    'halfway-dispatch-send',
  ]);
});

test('create() says so when there is no room, or the config file has the name', async () => {
  const { machines } = await paths({ hybridConnectionsMax: NAMESPACE.hybridConnections.length });
  await expect(machines.create(PATH)).rejects.toMatchObject({ code: 'QuotaReached' });
  await expect(machines.create('a/b')).rejects.toMatchObject({ code: 'VersionConflict' });
});

test('mint() makes tokens for one right on one path', async () => {
  const { machines, verdict } = await paths();
  await machines.create('dev/m/two');
  const listen = await machines.mint(PATH, 'Listen', 3_600);
  const send = await machines.mint(PATH, 'Send', 60);
  expect([verdict(listen, 'Listen').ok, verdict(send, 'Send').ok]).toEqual([true, true]);
  expect(verdict(listen, 'Send')).toMatchObject({ reason: 'right-missing' });
  expect(verdict(send, 'Listen')).toMatchObject({ reason: 'right-missing' });
  expect(verdict(listen, 'Manage')).toMatchObject({ reason: 'right-missing' });
  expect(verdict(listen, 'Listen', 'dev/m/two')).toMatchObject({ reason: 'signature-invalid' });
  expect(verdict(listen, 'Listen', 'hyco')).toMatchObject({ reason: 'signature-invalid' });
});

test('mint() makes tokens that end when they should, and with the hybrid connection', async () => {
  const { clock, machines, verdict } = await paths();
  const short = await machines.mint(PATH, 'Listen', 60);
  clock.advance(61_000);
  expect(verdict(short, 'Listen')).toMatchObject({ reason: 'token-expired' });
  const long = await machines.mint(PATH, 'Listen', 3_600);
  const send = await machines.mint(PATH, 'Send', 3_600);
  await machines.delete(PATH);
  expect(verdict(long, 'Listen')).toMatchObject({ reason: 'signature-invalid' });
  await expect(machines.mint(PATH, 'Send', 60)).rejects.toMatchObject({
    code: 'EndpointDoNotExist',
  });
  // The same path again has other keys.
  await machines.create(PATH);
  expect(verdict(send, 'Send')).toMatchObject({ reason: 'signature-invalid' });
  expect(verdict(await machines.mint(PATH, 'Send', 3_600), 'Send').ok).toBe(true);
});

test('mint() gives a Send token again while it has half of its time left', async () => {
  const { clock, machines } = await paths();
  await machines.create(PATH);
  const first = await machines.mint(PATH, 'Send', 600);
  clock.advance(299_000);
  expect(await machines.mint(PATH, 'Send', 600)).toBe(first);
  clock.advance(2_000);
  expect(await machines.mint(PATH, 'Send', 600)).not.toBe(first);
});

test('delete() is safe where there is nothing', async () => {
  const { machines } = await paths();
  await expect(machines.delete(PATH)).resolves.toBeUndefined();
});
