import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Config } from '../config/options.ts';
import { isLoopback } from '../config/parsers.ts';
import { formatConnectionString } from '../protocol/connection-string.ts';
import { RIGHTS, type NamespaceDescription, type SasRule } from '../protocol/resources.ts';
import { CommandError, EXIT, messageOf, type ExitCode } from './command-error.ts';
import { wantsColour, type CommandContext } from './context.ts';
import { runServer } from './run-server.ts';
import { loadServerConfig } from './server-config.ts';
import type { ServerFlags } from './server-flags.ts';

/** The rule that Azure makes in every new namespace. */
const RULE_NAME = 'RootManageSharedAccessKey';
const NAMESPACE_NAME = 'localhost';
const KEY_BYTES = 32;
const KEY_CHARS_MAX = 256;

/** `halfway dev`: the same relay on loopback, with everything made up that is not given. */
export async function runDev(
  flags: ServerFlags,
  options: { readonly keyFile?: string; readonly quiet?: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  const isTerminal = context.stdout.isTTY === true;
  const withFormat = isTerminal ? { ...DEV_TERMINAL, ...context.env } : context.env;
  const loaded = loadServerConfig('dev', flags, { ...context, env: withFormat });
  const made = withDevRule(loaded.config, devKey(options.keyFile, context));
  const { rule } = made;
  const config = withApiToken(made.config);
  return runServer(
    {
      config,
      warnings: loaded.warnings,
      onListening: ports => {
        if (options.quiet === true) return;
        // What a script wants of an emulator, as of any command, is on standard output.
        const { stdout } = context;
        const bold = (text: string): string =>
          wantsColour(context, stdout) ? `\u001b[1m${text}\u001b[22m` : text;
        stdout.write(welcome({ ...ports, config, rule, bold, invocation: context.invocation }));
      },
    },
    context,
  );
}

/** On a terminal the log is for people; a variable or flag that says otherwise wins. */
const DEV_TERMINAL = { HALFWAY_LOG_FORMAT: 'pretty' };

/** A key that others know from the documentation would be no key, so it is random unless one is given. */
function devKey(file: string | undefined, { env }: CommandContext): string {
  const [text = '', fileOfVariable = ''] = [env['HALFWAY_DEV_KEY'], env['HALFWAY_DEV_KEY_FILE']];
  const keyFile = file ?? (text === '' && fileOfVariable !== '' ? fileOfVariable : undefined);
  const key = keyFile === undefined ? text : keyFrom(keyFile);
  if (keyFile === undefined && key === '') return randomBytes(KEY_BYTES).toString('base64');
  if (key.length > 0 && key.length <= KEY_CHARS_MAX && !/[;\s]/.test(key)) return key;
  throw new CommandError(
    `Cannot use the key: it must have 1 to ${KEY_CHARS_MAX} characters, no space and no ";"`,
    EXIT.config,
  );
}

function keyFrom(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw new CommandError(`Cannot read the key: ${messageOf(error)}`, EXIT.config);
  }
}

/** Somebody must be the first administrator of job dispatch. */
function withApiToken(config: Config): Config {
  if (!config.dispatch || config.apiToken !== undefined) return config;
  return { ...config, apiToken: `hwt_${randomBytes(KEY_BYTES).toString('base64url')}` };
}

/** Sees to it that one namespace answers to localhost and has a rule with all rights. */
function withDevRule(
  config: Config,
  key: string,
): { readonly config: Config; readonly rule: SasRule } {
  const found = config.namespaces.find(answersToLocalhost);
  const known = found?.authorizationRules.find(
    ({ name }) => name.toLowerCase() === RULE_NAME.toLowerCase(),
  );
  if (known !== undefined) return { config, rule: known };
  const rule: SasRule = { name: RULE_NAME, rights: RIGHTS, primaryKey: key };
  const home: NamespaceDescription = found ?? {
    name: NAMESPACE_NAME,
    hosts: config.namespaces.length === 0 ? [] : ['localhost'],
    authorizationRules: [],
    hybridConnections: [],
  };
  const widened = { ...home, authorizationRules: [...home.authorizationRules, rule] };
  const others = config.namespaces.filter(namespace => namespace !== found);
  return { config: { ...config, namespaces: [widened, ...others] }, rule };
}

function answersToLocalhost({ hosts }: NamespaceDescription): boolean {
  return hosts.length === 0 || hosts.includes('localhost');
}

interface Started {
  readonly config: Config;
  readonly port: number;
  readonly invocation: string;
  readonly bold: (text: string) => string;
}

/** What to copy, for a newcomer's first two minutes. */
function welcome(what: Started & { readonly rule: SasRule; readonly adminPort: number }): string {
  const { config, rule, port, adminPort, invocation, bold } = what;
  const connectionString = formatConnectionString({
    endpoint: { scheme: 'sb', host: 'localhost', port },
    sharedAccessKeyName: rule.name,
    sharedAccessKey: rule.primaryKey,
  });
  const tls = config.tlsCert === undefined ? '' : ' --tls';
  const adminHost = isLoopback(config.adminHost) ? config.adminHost : 'localhost';
  const shown = adminHost.includes(':') ? `[${adminHost}]` : adminHost;
  const open = isLoopback(config.host)
    ? ''
    : `\n  Other machines can reach this relay (${config.host}), and the key below opens it.\n`;
  return `
  ${bold('Halfway is running.')} Hybrid connections come into being when a listener opens them.
${open}
  Connection string
    ${connectionString}

  A listener that echoes, in a second terminal
    export HALFWAY_CONNECTION_STRING='${connectionString}'
    ${bold(`${invocation} listen hello${tls}`)}

  A sender, in a third
    export HALFWAY_CONNECTION_STRING='${connectionString}'
    ${bold(`${invocation} connect hello --text${tls}`)}
    ${bold(`${invocation} request hello -d 'Good morning'${tls}`)}

${config.dispatch ? dispatchWelcome(what) : ''}  Status page
    http://${shown}:${adminPort}/status

`;
}

/** Job dispatch from nothing to a log: this computer is the machine, and nobody's password is needed. */
function dispatchWelcome({ config, port, invocation, bold }: Started): string {
  const scheme = config.tlsCert === undefined ? 'http' : 'https';
  const url = `${scheme}://localhost:${port}`;
  return `  Job dispatch: programs run on other computers, which take them from here
    export HALFWAY_ENDPOINT='${url}'
    export HALFWAY_API_TOKEN='${config.apiToken ?? ''}'
    ${bold(`${invocation} machine register --name desk`)}
    ${bold(`${invocation} machine run`)}
  and in another terminal, with the same two lines
    ${bold(`${invocation} connection create here --machine desk --signed-in`)}
    ${bold(`${invocation} run start --connection here --mode attended --follow -- echo hello`)}
  In a browser, with the same token
    ${scheme}://${config.portalHost[0] ?? 'localhost'}:${port}/$portal/

`;
}
