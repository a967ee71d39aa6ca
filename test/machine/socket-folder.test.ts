import { chmodSync, mkdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeSocketFolder } from '../../src/machine/socket-folder.ts';
import { someFolder } from '../support/some-folder.ts';

test('makeSocketFolder() makes one that others may only pass through, and again when it was swept', async () => {
  using home = someFolder();
  chmodSync(home.path, 0o755);
  const path = join(home.path, 'sockets');
  const mask = process.umask(0o077);
  try {
    for (let time = 0; time < 2; time += 1) {
      await expect(makeSocketFolder(path, { isForOthers: true })).resolves.toBe(path);
      expect(statSync(path).mode & 0o777).toBe(0o711);
      rmSync(path, { recursive: true });
    }
  } finally {
    process.umask(mask);
  }
});

test('makeSocketFolder() does not use what others may write to, come from, or cannot pass', async () => {
  using home = someFolder();
  const open = join(home.path, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const link = join(home.path, 'link');
  symlinkSync(open, link);
  const not = { isForOthers: false };
  await expect(makeSocketFolder(open, not)).rejects.toThrow(/others may write to it/);
  await expect(makeSocketFolder(link, not)).rejects.toThrow(/others may write to it/);
  const own = join(home.path, 'own');
  await expect(makeSocketFolder(own, { isForOthers: true })).rejects.toThrow(
    new RegExp(`may not pass through "${home.path}"`),
  );
  const long = join(home.path, 'x'.repeat(80));
  await expect(makeSocketFolder(long, not)).rejects.toThrow(/more than 80 characters/);
});
