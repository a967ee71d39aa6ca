import { optionList } from './options.ts';

/** Variables that commands read by themselves, beside the options of the server. */
const OF_COMMANDS = [
  'ADMIN_URL',
  'CONNECTION_STRING',
  'CONNECTION_STRING_FILE',
  'DEV_KEY',
  'DEV_KEY_FILE',
];

const KNOWN: ReadonlySet<string> = new Set([
  ...OF_COMMANDS.map(name => `HALFWAY_${name}`),
  ...optionList.flatMap(({ env, secret }) => (secret === true ? [env, `${env}_FILE`] : [env])),
]);

/** What Kubernetes sets in every pod beside a Service named halfway: HALFWAY_PORT=tcp://10.0.0.1:80 and others. */
const SERVICE_LINK =
  /^HALFWAY(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_[A-Z]+)?)?)$/;

/**
 * Why a variable of our prefix is none of ours and is to be ignored; undefined when it is ours, or has another
 * prefix. Never quotes the value.
 */
export function foreignVariable(name: string, value: string): string | undefined {
  if (!name.startsWith('HALFWAY_')) return undefined;
  const isUrl = /^(tcp|udp|sctp):\/\//.test(value);
  if (SERVICE_LINK.test(name) && (isUrl || !KNOWN.has(name))) {
    return 'Kubernetes sets it for a Service of this name; enableServiceLinks: false stops that';
  }
  return KNOWN.has(name) ? undefined : 'it is not a variable we know; see `halfway config options`';
}
