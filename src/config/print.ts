import { stringify } from 'yaml';
import type { SasRule } from '../protocol/resources.ts';
import { optionList, OPTIONS, type Config } from './options.ts';

const HIDDEN = '(hidden)';

/**
 * The configuration in the shape of a config file, with every secret replaced by `(hidden)`; options without a value
 * are left out.
 */
export function maskedConfig(config: Config): Record<string, unknown> {
  const options = optionList
    .filter(({ name }) => name !== 'config' && config[name] !== undefined)
    .map(({ name, secret }) => [name, secret === true ? HIDDEN : config[name]]);
  const namespaces = config.namespaces.map(namespace => ({
    ...namespace,
    authorizationRules: maskRules(namespace.authorizationRules),
    hybridConnections: namespace.hybridConnections.map(connection => ({
      ...connection,
      authorizationRules: maskRules(connection.authorizationRules),
    })),
  }));
  return { ...Object.fromEntries(options), namespaces };
}

function maskRules(rules: readonly SasRule[]): unknown {
  return rules.map(rule => ({
    ...rule,
    primaryKey: HIDDEN,
    ...(rule.secondaryKey === undefined ? {} : { secondaryKey: HIDDEN }),
  }));
}

export function maskedConfigAsYaml(config: Config): string {
  return stringify(maskedConfig(config));
}

/** All options as a table in Markdown; the README's is printed from here. */
export function optionsTable(): string {
  const rows = optionList.map(option => {
    const flag =
      option.placeholder === undefined ? option.flag : `${option.flag} ${option.placeholder}`;
    const env =
      option.secret === true ? `\`${option.env}\`, \`${option.env}_FILE\`` : `\`${option.env}\``;
    return `| \`${flag}\` | ${env} | ${defaultText(option)} | ${helpOf(option)} |`;
  });
  return ['| flag | variable | default | meaning |', '| --- | --- | --- | --- |', ...rows].join(
    '\n',
  );
}

/** Help with what a reader cannot see from the name. */
function helpOf(option: (typeof optionList)[number]): string {
  return option.devOnly === true ? `${option.help} Only \`halfway dev\`.` : option.help;
}

function defaultText({ name, unit }: (typeof optionList)[number]): string {
  const value: unknown = OPTIONS[name].default;
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return unit === undefined ? text : `${text} ${unit}`;
}
