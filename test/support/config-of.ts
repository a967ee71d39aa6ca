import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/options.ts';

/** A configuration as flags make it. */
export function configOf(flags: Readonly<Record<string, string>>): Config {
  const loaded = loadConfig({
    purpose: 'dev',
    flags: { nodeId: 'box', dispatch: 'false', ...flags },
    env: { HALFWAY_MESH_SECRET: 's'.repeat(32) },
    readFile: path => {
      throw new Error(`Unexpected read of ${path}`);
    },
    hostName: 'host',
  });
  if ('faults' in loaded) throw new Error(loaded.faults.join('\n'));
  return loaded.config;
}
