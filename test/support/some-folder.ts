import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder of its own for a test, removed with all that is in it. */
export function someFolder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'halfway-tests-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
