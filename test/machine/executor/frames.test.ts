import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  readFrames,
  writeJson,
  writeSecrets,
  type Frame,
} from '../../../src/machine/executor/frames.ts';
import { someFolder } from '../../support/some-folder.ts';
import { Inbox } from '../../support/inbox.ts';

/** Both ends of a connection, and the frames that come out at the far one. */
async function pair() {
  const folder = someFolder();
  const path = join(folder.path, 's');
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  const connected = new Promise<Socket>(resolve => void server.once('connection', resolve));
  const near = connect(path);
  const far = await connected;
  const frames = new Inbox<Frame>('a frame');
  readFrames(far, frame => frames.put(frame));
  const close = (): void => {
    near.destroy();
    server.close();
    folder[Symbol.dispose]();
  };
  return { near, far, frames, [Symbol.dispose]: close };
}

test('frames arrive in order and whole, and what was written is wiped', async () => {
  using it = await pair();
  const password = Buffer.from('pässword');
  writeJson(it.near, { type: 'a', text: 'x'.repeat(200_000) });
  const written = writeSecrets(it.near, { password, 'input:key': Buffer.from([0, 255]) });
  writeJson(it.near, { type: 'b' });
  await written;
  await expect(it.frames.next()).resolves.toMatchObject({ type: 'json', value: { type: 'a' } });
  await expect(it.frames.next()).resolves.toEqual({
    type: 'secrets',
    secrets: { password, 'input:key': Buffer.from([0, 255]) },
  });
  await expect(it.frames.next()).resolves.toEqual({ type: 'json', value: { type: 'b' } });
});

test('a frame that comes byte by byte is one', async () => {
  using it = await pair();
  it.near.setNoDelay(true);
  const bytes = Buffer.from([0, 0, 0, 3, 1, 0x7b, 0x7d]);
  for (const byte of bytes) {
    it.near.write(Buffer.from([byte]));
    await new Promise(resolve => void setImmediate(resolve));
  }
  await expect(it.frames.next()).resolves.toEqual({ type: 'json', value: {} });
});

test.each([
  ['no length', [0, 0, 0, 0]],
  ['a length beyond all', [255, 255, 255, 255]],
  ['a kind that there is not', [0, 0, 0, 2, 9, 0]],
  ['JSON that is none', [0, 0, 0, 2, 1, 0x7b]],
  ['secrets that are cut', [0, 0, 0, 6, 2, 0, 0, 0, 9, 1]],
  ['a name without a secret', [0, 0, 0, 6, 2, 0, 0, 0, 1, 65]],
])('a socket on which %s comes is closed', async (_name, bytes) => {
  using it = await pair();
  const closed = once(it.far, 'close');
  it.near.on('error', () => undefined);
  it.near.write(Buffer.from(bytes));
  await closed;
  expect(it.frames.size).toBe(0);
});
