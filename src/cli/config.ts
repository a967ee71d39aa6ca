import { maskedConfig, maskedConfigAsYaml, optionsTable } from '../config/print.ts';
import { writeLine, write, type CommandContext } from './context.ts';
import { loadServerConfig } from './server-config.ts';
import type { ServerFlags } from './server-flags.ts';

export interface ConfigOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** `halfway config check`: what `serve` would say; 78 and every fault when it would not start. */
export async function runConfigCheck(
  flags: ServerFlags,
  options: ConfigOptions,
  context: CommandContext,
): Promise<void> {
  const { config, warnings } = loadServerConfig('serve', flags, context);
  if (options.json === true) {
    await writeLine(context.stdout, JSON.stringify({ ok: true, warnings }));
    return;
  }
  for (const warning of warnings) context.stderr.write(`warning: ${warning}\n`);
  if (options.quiet === true) return;
  const total = config.namespaces.reduce((sum, each) => sum + each.hybridConnections.length, 0);
  const counts = `namespaces: ${config.namespaces.length}, hybrid connections: ${total}`;
  await writeLine(context.stdout, `The configuration is good (${counts})`);
}

/** `halfway config print`: what is in force, as a config file, with secrets hidden. */
export async function runConfigPrint(
  flags: ServerFlags,
  options: ConfigOptions,
  context: CommandContext,
): Promise<void> {
  const { config } = loadServerConfig('serve', flags, context);
  if (options.json === true) await writeLine(context.stdout, JSON.stringify(maskedConfig(config)));
  else await write(context.stdout, maskedConfigAsYaml(config));
}

/** `halfway config options`: every option as a table in Markdown. */
export async function runConfigOptions(context: CommandContext): Promise<void> {
  await writeLine(context.stdout, optionsTable());
}
