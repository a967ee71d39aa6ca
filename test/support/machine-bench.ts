import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { Routes } from '../../src/client/routes.ts';
import { sealEnvelope, credentialBytes, type Envelope } from '../../src/crypto/envelope.ts';
import { importPublicKey } from '../../src/crypto/hpke.ts';
import { ControlClient, type ControlAnswer } from '../../src/machine/control-client.ts';
import { credentialOpener } from '../../src/machine/credential-opener.ts';
import { joinGroup, type JoinedGroup } from '../../src/machine/group-joining.ts';
import { takeNextGroupKey } from '../../src/machine/key-rotation.ts';
import { KeyStore } from '../../src/machine/key-store.ts';
import { MachineAccess } from '../../src/machine/machine-access.ts';
import { MachineService } from '../../src/machine/machine-service.ts';
import { plainProtector } from '../../src/machine/protector.ts';
import { registerMachine, type RegistrationWish } from '../../src/machine/register.ts';
import { installationOf, requireRegistration } from '../../src/machine/registration-record.ts';
import type { RelayWay } from '../../src/machine/relay-listener.ts';
import { runReporter } from '../../src/machine/run-reporter.ts';
import { StateFolder } from '../../src/machine/state-folder.ts';
import { FakeJobDoor } from './fake-job-door.ts';
import { MemoryLog, startRelay, type RelayOptions } from './relay.ts';
import { someFolder } from './some-folder.ts';
import { until, within } from './within.ts';

const BASE = '/environments/default';

/** A server with job dispatch, a place for machines' folders, and a person who may do all. */
export async function machineBench(
  options: RelayOptions = {},
  tlsCa?: string,
  deps: { readonly clock?: Clock } = {},
) {
  const apiToken = `hwt_${randomBytes(32).toString('base64url')}`;
  const relay = await startRelay({ dispatch: true, apiToken, ...options }, deps);
  const place = someFolder();
  const stops: (() => Promise<void>)[] = [];
  const person = clientOf(relay.httpUrl, tlsCa);
  const ask = async (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object) => {
    const answer = await person.call({ method, path: `${BASE}${path}`, token: apiToken, body });
    return answer.body;
  };

  const register = async (
    name: string,
    wish: Partial<RegistrationWish> = {},
    origin = relay.httpUrl,
  ) => {
    const folder = StateFolder.open(join(place.path, name));
    const keys = new KeyStore(folder, plainProtector());
    const client = clientOf(origin);
    return registerMachine(
      {
        entrance: { type: 'token', token: apiToken },
        environment: 'default',
        name,
        force: false,
        agentVersion: '1.0.0',
        ...wish,
      },
      { folder, keys, client, clock: systemClock },
    );
  };

  /** What a registered machine has, as a command of it would open it. */
  const open = async (name: string, folder = StateFolder.open(join(place.path, name))) => {
    const record = requireRegistration(folder);
    const keyStore = new KeyStore(folder, plainProtector());
    const { identityKid: identity, encryptionKid: encryption, environment, machineId } = record;
    const keys = await keyStore.load({ identity, encryption });
    const client = clientOf(record.server);
    const access = new MachineAccess({
      client,
      clock: systemClock,
      identity: keys.identity,
      environment,
      machineId,
    });
    return { folder, record, keyStore, keys, client, access };
  };

  const start = async (name: string, way: RelayWay = {}, folder?: StateFolder) => {
    const parts = await open(name, folder);
    const log = new MemoryLog();
    const instance = randomUUID();
    const service = new MachineService({
      ...parts,
      way: { proxy: false, ...way },
      installId: installationOf(parts.folder).installId,
      labels: {},
      instance,
      version: '1.0.0',
      clock: systemClock,
      log,
      random: () => 0,
    });
    const opener = credentialOpener(() => service.held(), log);
    const door = new FakeJobDoor(runReporter(parts.access), opener, instance);
    const stop = new AbortController();
    const ended = service.run(door, stop.signal);
    const outcome = ended.then(
      () => undefined,
      (error: unknown) => error,
    );
    stops.push(async () => {
      stop.abort();
      await within(`the end of ${name}`, outcome, 10_000);
    });
    return {
      service,
      door,
      log,
      record: parts.record,
      /** Undefined when it ended well. */
      outcome,
      stop: () => stop.abort(),
      online: () =>
        until(`${name} online`, () => {
          const { channel, hello } = service.report();
          return channel.state === 'online' && hello.lastAt !== undefined;
        }),
    };
  };

  const joinAs = async (name: string, groupId: string, password?: string): Promise<JoinedGroup> => {
    const { folder, keyStore, keys, record, access } = await open(name);
    return joinGroup(groupId, () => Promise.resolve(password), {
      folder,
      keys: keyStore,
      identity: keys.identity,
      record,
      call: call => access.call(call),
    });
  };

  const rotateGroupKey = async (name: string, password?: string): Promise<JoinedGroup> => {
    const { folder, keyStore: keys, keys: own, record, access } = await open(name);
    const { identity } = own;
    const call = access.call.bind(access);
    const parts = { folder, keys, identity, record, call };
    return takeNextGroupKey(() => Promise.resolve(password), parts);
  };

  const seal = async (
    target: { readonly kind: 'machine' | 'group'; readonly id: string },
    about: { readonly id: string; readonly version?: number; readonly password?: string },
  ): Promise<Envelope> => {
    const key = await ask('GET', `/${target.kind}s/${target.id}/public-key`);
    const [kid, point] = [member(key, 'kid'), member(key, 'point')];
    const holder = { tenant: 'default', environment: 'default', ...target, kid };
    const { id, version = 1, password = 'secret of ann' } = about;
    const purpose = { type: 'credential', object: 'connection', id, version } as const;
    const recipient = await importPublicKey(Uint8Array.from(Buffer.from(point, 'base64url')));
    const bytes = credentialBytes({ domain: '', user: 'ann', password });
    return sealEnvelope(recipient, holder, purpose, bytes);
  };

  const connectTo = async (
    target: { readonly kind: 'machine' | 'group'; readonly id: string },
    envelope?: (id: string) => Promise<Envelope>,
    more: object = {},
  ): Promise<string> => {
    const id = randomUUID();
    const sealed = await (envelope?.(id) ?? seal(target, { id }));
    const body = {
      id,
      name: `to ${target.id}`,
      kind: 'password',
      target,
      envelope: sealed,
      ...more,
    };
    await ask('POST', '/connections', body);
    return id;
  };

  const startRun = async (connectionId: string): Promise<string> => {
    const job = { ref: 'test', kind: 'command', command: ['true'] };
    return member(await ask('POST', '/runs', { connectionId, job }), 'id');
  };
  const endOf = async (runId: string): Promise<unknown> => {
    let run: unknown;
    await until(
      `the end of run ${runId}`,
      async () => {
        run = await ask('GET', `/runs/${runId}`);
        return ['Succeeded', 'Failed', 'Cancelled', 'Lost'].includes(member(run, 'state'));
      },
      15_000,
    );
    return run;
  };

  return {
    relay,
    place,
    apiToken,
    person,
    ask,
    register,
    open,
    start,
    join: joinAs,
    rotateGroupKey,
    seal,
    connectTo,
    startRun,
    endOf,
    run: async (connectionId: string) => endOf(await startRun(connectionId)),
    folderOf: (name: string) => StateFolder.open(join(place.path, name)),
    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all(stops.map(stop => stop()));
      await relay[Symbol.asyncDispose]();
      place[Symbol.dispose]();
    },
  };
}

/** `ca`: file of a certificate to trust. */
export function clientOf(origin: string, ca?: string): ControlClient {
  const trust = ca === undefined ? {} : { ca: readFileSync(ca) };
  const routes = new Routes({ proxy: false, ...trust });
  return new ControlClient({ origin, routes, clock: systemClock });
}

/** A text in an answer of the API. */
export function member(body: ControlAnswer['body'], name: string): string {
  const entry = Object.entries(body ?? {}).find(([key]) => key === name);
  return typeof entry?.[1] === 'string' ? entry[1] : '';
}

/** A way to a port of this computer that keeps all bytes that go there. */
export async function recordingWay(port: number) {
  const sent: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(from => {
    sockets.add(from);
    const to = connect(port, '127.0.0.1');
    from.on('data', (chunk: Buffer) => {
      sent.push(chunk);
      to.write(chunk);
    });
    from.once('close', () => to.destroy());
    to.pipe(from);
    to.once('close', () => from.destroy());
    for (const socket of [from, to]) socket.on('error', () => socket.destroy());
  });
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    origin: `http://127.0.0.1:${address.port}`,
    sent: () => Buffer.concat(sent),
    [Symbol.asyncDispose]: async (): Promise<void> => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>(resolve => void server.close(() => resolve()));
    },
  };
}
