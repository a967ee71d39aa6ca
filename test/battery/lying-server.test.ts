import { userInfo } from 'node:os';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { signDetached, signingKeyOf } from '../../src/crypto/es256.ts';
import { ProcessHost } from '../../src/machine/session-hosts/process-host.ts';
import { dispatchKeys } from '../../src/redis/keys.ts';
import { RelayMachineSender } from '../../src/server-dispatch-sender.ts';
import type { RunningCommand } from '../cli/run-command.ts';
import { connect, endOfRun, lyingServer } from '../support/lying-server.ts';
import { dispatchKey } from '../support/signed-messages.ts';
import { until } from '../support/within.ts';

// Offers that a machine refuses whoever sends them: job-dispatch.md section 13, item 6. They come through a real relay
// from somebody who has every right to send. What a sealing client refuses: test/cli/dispatch-connections.test.ts
// (other keys); what a joining machine does: test/machine/group-joining.test.ts (weak parameters, other keys).

const START_MS = 60_000;
const USER = userInfo().username;

let server: Awaited<ReturnType<typeof lyingServer>>;
let paths: { readonly desk: string; readonly other: string };
let connection = '';
const services: RunningCommand[] = [];
const launch = vi.spyOn(ProcessHost.prototype, 'launch');
const sent = vi.spyOn(RelayMachineSender.prototype, 'send');

beforeAll(async () => {
  server = await lyingServer();
  const { commands } = server;
  const [desk, other] = [await commands.register('desk'), await commands.register('other')];
  for (const name of ['desk', 'other']) services.push(await commands.serve(name));
  paths = { desk: `default/m/${desk.id}`, other: `default/m/${other.id}` };
  connection = await connect(commands, ['--machine', desk.id], USER);
}, START_MS);

afterAll(async () => {
  await Promise.all(services.map(service => service[Symbol.asyncDispose]()));
  await server?.[Symbol.asyncDispose]();
  vi.restoreAllMocks();
});

/** A run that went well, and its offer as it was sent. */
async function offered(): Promise<{
  readonly body: string;
  readonly signature: string;
  readonly runId: string;
}> {
  expect(await endOfRun(server.commands, connection)).toBe('Succeeded');
  const offer = sent.mock.calls
    .map(([request]) => request)
    .findLast(({ path }) => path.startsWith('runs/'));
  if (offer === undefined) throw new Error('nothing was offered');
  return { body: offer.body, signature: offer.signature, runId: offer.path.slice('runs/'.length) };
}

/** Sends it as anybody does who may send to the machine: the code of the refusal, or `accept`. */
async function answerTo(
  path: string,
  {
    runId,
    body,
    signature,
  }: { readonly runId: string; readonly body: string; readonly signature?: string },
): Promise<string> {
  const response = await fetch(`${server.node.httpUrl}/${path}/runs/${runId}`, {
    method: 'POST',
    headers: {
      ServiceBusAuthorization: server.node.token(path),
      ...(signature === undefined ? {} : { 'Halfway-Signature': signature }),
    },
    body,
  });
  const answer = Object(await response.json());
  return String(answer.code ?? answer.type);
}

/** Signs as the server does, with its own key. */
async function signed(body: string, audience: string): Promise<string> {
  const pattern = dispatchKeys('halfway').document('~', 'dispatch-key', '*');
  const [name = ''] = await server.redis.admin.keys(pattern);
  const text = (await server.redis.admin.get(name)) ?? '';
  const { kid, secret } = Object(JSON.parse(text.slice(text.indexOf(' ') + 1)));
  const privateKey = signingKeyOf(String(secret));
  if (privateKey === undefined) throw new Error('the server has its key');
  const iat = Math.floor(Date.now() / 1_000);
  return signDetached({ kid: String(kid), privateKey }, body, { aud: audience, iat });
}

test('an offer that is repeated starts nothing again, and is nothing to another machine', async () => {
  const offer = await offered();
  const launches = launch.mock.calls.length;
  expect(await answerTo(paths.desk, offer)).toBe('accept');
  expect(await answerTo(paths.other, offer)).toBe('OfferSignatureInvalid');
  // Another run goes well afterwards, and is the only one that was started.
  await offered();
  expect(launch.mock.calls.length).toBe(launches + 1);
});

test('an offer without a signature, of another key, or changed is refused and logged', async () => {
  const { body, signature, runId } = await offered();
  const launches = launch.mock.calls.length;
  const changed = body.replace('"true"', '"false"');
  expect(changed).not.toBe(body);
  const { kid } = Object(
    JSON.parse(Buffer.from(signature.split('.')[0] ?? '', 'base64url').toString()),
  );
  const stranger = dispatchKey(String(kid)).sign(body, paths.desk);
  for (const offer of [{ body }, { body: changed, signature }, { body, signature: stranger }]) {
    expect(await answerTo(paths.desk, { runId, ...offer })).toBe('OfferSignatureInvalid');
  }
  const [service] = services;
  const faults = (): number => service?.out().match(/"event":"security"/g)?.length ?? 0;
  await until('all are logged', () => faults() >= 3);
  expect(launch.mock.calls.length).toBe(launches);
  // The server's own key is taken: it is the signature that was wrong.
  const own = await signed(body, paths.desk);
  expect(await answerTo(paths.desk, { runId, body, signature: own })).toBe('accept');
});

test('a fence below one that was seen is refused, though the server itself has signed it', async () => {
  const { body } = await offered();
  const launches = launch.mock.calls.length;
  const withFence = async (fence: number) => {
    const changed = JSON.stringify({
      ...Object(JSON.parse(body)),
      runId: 'made-up',
      fence,
      attempt: 1,
    });
    const signature = await signed(changed, paths.desk);
    return answerTo(paths.desk, { runId: 'made-up', body: changed, signature });
  };
  expect(await withFence(7)).toBe('accept');
  expect(await withFence(6)).toBe('LeaseLost');
  // The control plane knows nothing of it, so nothing was started: of what came since, only what comes now.
  await offered();
  expect(launch.mock.calls.length).toBe(launches + 1);
});
