import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

describe('loadNativePlane() where the addon cannot be had', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'halfway-no-addon-'));
    cpSync(join(ROOT, 'src'), join(folder, 'src'), { recursive: true });
    cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(
      join(folder, 'ask.mts'),
      `import { loadNativePlane } from './src/transports/native-plane.ts';
       console.log(JSON.stringify(loadNativePlane()));`,
    );
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  function ask(): unknown {
    const environment = { ...process.env };
    delete environment['HALFWAY_NATIVE_BUILD'];
    const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'ask.mts'], {
      cwd: folder,
      env: environment,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  }

  test('not built: says for which Node, and how to build it', () => {
    expect(ask()).toEqual({
      unavailable:
        `The native data plane cannot be used: it has not been built for Node ${process.versions.node}; ` +
        'run "npm run build:native"',
    });
  });

  test('no addon of this Node: says so, and does not throw', () => {
    const build = join(folder, 'native/build', process.versions.modules);
    mkdirSync(build, { recursive: true });
    writeFileSync(join(build, 'halfway_splice.node'), 'not an addon');
    expect(ask()).toMatchObject({
      unavailable: expect.stringContaining('run "npm run build:native" with the Node that runs it'),
    });
  });
});
