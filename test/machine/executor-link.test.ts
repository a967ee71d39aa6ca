import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeJson } from '../../src/machine/executor/frames.ts';
import { ExecutorLink } from '../../src/machine/executor-link.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { someFolder } from '../support/some-folder.ts';

const NOTHING = () => undefined;

async function connected(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', NOTHING);
  await once(socket, 'connect');
  return socket;
}

test('an executor comes through however many strangers are connected, and is not pushed out by more', async () => {
  using place = someFolder();
  const handover = { socketPath: join(place.path, 'run'), token: 'the-token' };
  const told = new EventEmitter();
  const hello = once(told, 'hello');
  let hasLeft = false;
  const link = new ExecutorLink(handover, new FakeClock(), {
    onHello: () => void told.emit('hello'),
    onLog: NOTHING,
    onProgress: NOTHING,
    onFinished: NOTHING,
    onDisconnected: () => (hasLeft = true),
    onUnresponsive: NOTHING,
  });
  await link.listen(false);
  const before: Socket[] = [];
  for (let n = 0; n < 12; n += 1) before.push(await connected(handover.socketPath));
  const executor = await connected(handover.socketPath);
  const { token } = handover;
  const who = { pid: 1, startTicks: 1, uid: 1, accountName: 'anna', hasBegun: false };
  writeJson(executor, { type: 'hello', token, ...who });
  await hello;
  const first = before[11];
  const isFirstGone = first === undefined ? undefined : once(first, 'close');
  for (let n = 0; n < 12; n += 1) await connected(handover.socketPath);
  await isFirstGone;
  expect([link.isConnected, hasLeft]).toEqual([true, false]);
  await link.close();
});
