import type { Command } from 'commander';
import { addWayOptions, type RouteOptions } from '../route-options.ts';

/** Options of every command that asks job dispatch for something. */
export interface ApiOptions extends Pick<RouteOptions, 'proxy' | 'ca'> {
  readonly endpoint?: string;
  readonly apiTokenFile?: string;
  readonly environment?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const ENDPOINT_VARIABLE = 'HALFWAY_ENDPOINT';
export const TOKEN_VARIABLE = 'HALFWAY_API_TOKEN';
export const ENVIRONMENT_VARIABLE = 'HALFWAY_ENVIRONMENT';

const API_HELP = `
Speaks to the public port of a relay with job dispatch: --endpoint, or ${ENDPOINT_VARIABLE}. The token comes from ${TOKEN_VARIABLE},
or from the file that ${TOKEN_VARIABLE}_FILE or --api-token-file names ("-": standard input). A proxy as with the other
commands: HTTPS_PROXY and its kin, or --proxy. Machines, groups and connections are meant by name or id.

Exit codes: 0 done, 64 wrong usage, 1 refused or not reached.`;

export function addApiOptions(command: Command): Command {
  return addWayOptions(
    command
      .option(
        '--endpoint <URL>',
        `https://HOST[:PORT], http://127.0.0.1:PORT or sb://… (${ENDPOINT_VARIABLE})`,
      )
      .option('--api-token-file <FILE>', `file with the API token (${TOKEN_VARIABLE}[_FILE])`)
      .option(
        '--environment <NAME>',
        `the environment (${ENVIRONMENT_VARIABLE}; default "default")`,
      ),
  )
    .option('--json', 'print JSON, as the REST interface gives it')
    .option('-q, --quiet', 'no notes on standard error')
    .addHelpText('after', API_HELP);
}
