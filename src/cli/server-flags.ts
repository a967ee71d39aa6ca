import { Option, type Command } from 'commander';
import { DEV_DEFAULTS, optionList, OPTIONS } from '../config/options.ts';
import type { NamedOption, OptionName } from '../config/options.ts';

/** Values of flags by option name, as commander read them. */
export type ServerFlags = Readonly<Partial<Record<OptionName, string | boolean | undefined>>>;

/** Adds every option of the server as a flag, in groups, with its variable and default. */
export function addServerOptions(command: Command, purpose: 'serve' | 'dev'): Command {
  for (const option of optionList) {
    if (option.devOnly === true && purpose !== 'dev') continue;
    addServerOption(command, option, purpose);
  }
  return command;
}

/** Adds some of them. */
export function addSomeServerOptions(command: Command, names: readonly OptionName[]): Command {
  for (const option of optionList) {
    if (names.includes(option.name)) addServerOption(command, option, 'serve');
  }
  return command;
}

function addServerOption(command: Command, option: NamedOption, purpose: 'serve' | 'dev'): void {
  const { flag, placeholder, group } = option;
  const help = helpOf(option, purpose);
  const text = placeholder === undefined ? flag : `${flag} <${placeholder}>`;
  command.addOption(new Option(text, help).helpGroup(`${group}:`));
  if (placeholder === undefined) {
    const off = new Option(flag.replace('--', '--no-'), `the opposite of ${flag}`);
    command.addOption(off.helpGroup(`${group}:`));
  }
}

function helpOf(option: NamedOption, purpose: 'serve' | 'dev'): string {
  const { env, secret, name, unit } = option;
  const defaults = { ...OPTIONS[name], ...(isDevDefault(name, purpose) ? devDefault(name) : {}) };
  const value: unknown = defaults.default;
  const isShown = value !== undefined && !(Array.isArray(value) && value.length === 0);
  const shown = typeof value === 'string' ? value : JSON.stringify(value);
  const notes = [
    secret === true ? `${env}, ${env}_FILE` : env,
    ...(isShown ? [`default ${shown}${unit === undefined ? '' : ` ${unit}`}`] : []),
  ];
  return `${option.help} (${notes.join('; ')})`;
}

function isDevDefault(
  name: OptionName,
  purpose: 'serve' | 'dev',
): name is keyof typeof DEV_DEFAULTS {
  return purpose === 'dev' && Object.hasOwn(DEV_DEFAULTS, name);
}

function devDefault(name: keyof typeof DEV_DEFAULTS): { readonly default: unknown } {
  return { default: DEV_DEFAULTS[name] };
}

/** Picks the server's options out of all that commander read. */
export function serverFlags(values: Readonly<Record<string, unknown>>): ServerFlags {
  const entries = optionList.flatMap(({ name, secret }) => {
    const value = values[secret === true ? `${name}File` : name];
    return typeof value === 'string' || typeof value === 'boolean' ? [[name, value] as const] : [];
  });
  return Object.fromEntries(entries);
}
