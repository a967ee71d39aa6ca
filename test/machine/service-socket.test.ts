import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { askService, openServiceSocket } from '../../src/machine/service-socket.ts';
import { StateFolder } from '../../src/machine/state-folder.ts';
import { someFolder } from '../support/some-folder.ts';

function bench() {
  const place = someFolder();
  const folder = StateFolder.open(join(place.path, 'state'));
  return { folder, path: folder.pathOf('service.sock'), [Symbol.dispose]: place[Symbol.dispose] };
}

const answer = (question: string): Promise<object> => Promise.resolve({ asked: question });

describe('the socket of the service', () => {
  test('answers who may enter the folder, and is gone when it was closed', async () => {
    using it = bench();
    const socket = await openServiceSocket(it.folder, answer);
    expect(statSync(it.path).mode & 0o777).toBe(0o600);
    expect(await askService(it.folder, 'status', systemClock)).toEqual({ asked: 'status' });
    expect(await askService(it.folder, 'reload', systemClock)).toEqual({ asked: 'reload' });
    await socket.close();
    expect(existsSync(it.path)).toBe(false);
    expect(await askService(it.folder, 'status', systemClock)).toBeUndefined();
  });

  test('is had by one process, and taken over from one that was killed', async () => {
    using it = bench();
    // A process that takes it and is gone at once, as by kill -9.
    const dying = `require('node:net').createServer().listen(${JSON.stringify(it.path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', dying]);
    expect(existsSync(it.path)).toBe(true);
    expect(await askService(it.folder, 'status', systemClock)).toBeUndefined();
    const socket = await openServiceSocket(it.folder, answer);
    await expect(openServiceSocket(it.folder, answer)).rejects.toMatchObject({ fault: 'Busy' });
    expect(await askService(it.folder, 'status', systemClock)).toEqual({ asked: 'status' });
    await socket.close();
  });

  test('says no to what it does not know, and that asking failed', async () => {
    using it = bench();
    const socket = await openServiceSocket(it.folder, () => Promise.reject(new Error('broken')));
    expect(await askService(it.folder, 'status', systemClock)).toEqual({ error: 'broken' });
    const said = await new Promise<string>((resolve, reject) => {
      const client = connect(it.path, () => client.write('{"ask":"keys"}\n'));
      client.once('error', reject);
      client.once('data', (bytes: Buffer) => resolve(bytes.toString()));
    });
    expect(JSON.parse(said)).toEqual({ error: 'unsupported' });
    await socket.close();
  });

  test('a path that is too long for one is refused with what to do', async () => {
    using it = bench();
    const deep = StateFolder.open(join(it.folder.path, 'x'.repeat(100)));
    await expect(openServiceSocket(deep, answer)).rejects.toThrow(/too long.*--state/);
  });
});
