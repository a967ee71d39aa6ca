import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Version of this package, as its package.json has it. */
export const VERSION: string = versionIn(new URL('../package.json', import.meta.url));

/** Version of the uWebSockets.js package that is installed. */
export const UWS_VERSION: string = versionIn(
  // The package exports no package.json of its own, but it lies beside its main file.
  join(dirname(createRequire(import.meta.url).resolve('uWebSockets.js')), 'package.json'),
);

function versionIn(file: URL | string): string {
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
  const isNamed = typeof parsed === 'object' && parsed !== null && 'version' in parsed;
  return isNamed ? String(parsed.version) : 'unknown';
}
