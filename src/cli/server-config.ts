import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { ConfigError } from '../config/errors.ts';
import { loadConfig, type ConfigSources } from '../config/load.ts';
import type { Config } from '../config/options.ts';
import type { CommandContext } from './context.ts';
import type { ServerFlags } from './server-flags.ts';

/** Loads the configuration from flags, variables and file. Throws `ConfigError` with every fault. */
export function loadServerConfig(
  purpose: ConfigSources['purpose'],
  flags: ServerFlags,
  context: CommandContext,
): { readonly config: Config; readonly warnings: readonly string[] } {
  const loaded = loadConfig({
    purpose,
    flags,
    env: context.env,
    hostName: hostname(),
    readFile: path => readFileSync(path, 'utf8'),
  });
  if ('faults' in loaded) throw new ConfigError(loaded.faults);
  return loaded;
}
