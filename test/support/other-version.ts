import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VersionRange } from '../../src/protocol/mesh-frames.ts';

const ROOT = join(import.meta.dirname, '../..');

export interface OtherVersion extends Disposable {
  /** Its entry point, beside files of its own. */
  readonly main: string;
}

/**
 * The built program as another minor version of it would be: named so, speaking other versions of the mesh, and
 * with a field in each message between nodes that this build does not know.
 */
export function makeOtherVersion(options: {
  readonly version: string;
  readonly mesh: VersionRange;
}): OtherVersion {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-version-'));
  cpSync(join(ROOT, 'dist'), join(folder, 'dist'), { recursive: true });
  for (const shared of ['node_modules', 'native']) {
    symlinkSync(join(ROOT, shared), join(folder, shared));
  }
  const { min, max } = options.mesh;
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
  change(join(folder, 'package.json'), /"version": "[^"]+"/, `"version": "${options.version}"`);
  change(
    join(folder, 'dist/protocol/mesh-frames.js'),
    /MESH_VERSIONS = \{[^}]+\}/,
    `MESH_VERSIONS = { min: ${min}, max: ${max} }`,
  );
  change(
    join(folder, 'dist/protocol/mesh-messages.js'),
    /head: \{ \.\.\.head \}/,
    `head: { ...head, ofVersion: '${options.version}' }`,
  );
  return {
    main: join(folder, 'dist/main.js'),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function change(file: string, what: RegExp, into: string): void {
  const text = readFileSync(file, 'utf8');
  if (!what.test(text)) throw new Error(`${file} has no ${String(what)}`);
  writeFileSync(file, text.replace(what, into));
}
