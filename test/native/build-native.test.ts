import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const NOWHERE = '/nonexistent';

/** A copy of what the script needs, so that nothing of this working tree is touched. */
describe('build-native.mjs', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'halfway-build-'));
    cpSync(join(ROOT, 'native/src'), join(folder, 'native/src'), { recursive: true });
    cpSync(join(ROOT, 'native/binding.gyp'), join(folder, 'native/binding.gyp'));
    cpSync(join(ROOT, 'scripts'), join(folder, 'scripts'), { recursive: true });
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  function build(args: readonly string[], path = process.env['PATH']) {
    const script = join(folder, 'scripts/build-native.mjs');
    const environment = { ...process.env, PATH: path };
    const { status, stderr, stdout } = spawnSync(process.execPath, [script, ...args], {
      cwd: folder,
      env: environment,
      encoding: 'utf8',
    });
    return { status, stderr, stdout };
  }

  test('without a compiler: one warning that says what is lost and what to do, and exit code 0', () => {
    const { status, stderr, stdout } = build([], NOWHERE);
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    expect(stderr).toContain('apt-get install -y python3 make g++ && npm run build:native');
    expect(stderr).toContain('no streaming of fragments, no half-close');
    expect(stderr.trim().split('\n').length).toBe(2);
  });

  test('without a compiler but required: exit code 1', () => {
    expect(build(['--required'], NOWHERE).status).toBe(1);
  });

  test('code that does not compile: the messages of the compiler, and exit code 0', () => {
    const file = join(folder, 'native/src/unmask.cc');
    writeFileSync(file, 'int main() { return nonsense; }\n');
    const { status, stderr } = build([]);
    cpSync(join(ROOT, 'native/src/unmask.cc'), file);
    expect(status).toBe(0);
    expect(stderr).toContain('nonsense');
    expect(stderr).toContain('could not be built');
    expect(existsSync(join(folder, 'native/build', process.versions.modules))).toBe(false);
  });

  test('a result newer than its sources is left as it is', () => {
    const result = join(folder, 'native/build', process.versions.modules);
    mkdirSync(result, { recursive: true });
    writeFileSync(join(result, 'halfway_splice.node'), '');
    expect(build(['--required'], NOWHERE)).toEqual({ status: 0, stderr: '', stdout: '' });
  });
});
