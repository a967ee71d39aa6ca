import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Config } from '../config/options.ts';
import { CommandError, messageOf } from './command-error.ts';
import { writeLine, type CommandContext } from './context.ts';
import { loadServerConfig } from './server-config.ts';
import type { ServerFlags } from './server-flags.ts';

export interface HealthcheckOptions {
  /** Ask whether the process is alive, rather than whether it takes new work. */
  readonly live?: boolean;
  readonly timeoutMs: string;
  readonly quiet?: boolean;
}

const BODY_CHARS_MAX = 4_096;

/**
 * `halfway healthcheck`: asks a running server with the same options; for Docker's HEALTHCHECK. Asks the admin port,
 * or the public one when the admin port is 0, which says nothing of where it is.
 */
export async function runHealthcheck(
  flags: ServerFlags,
  options: HealthcheckOptions,
  context: CommandContext,
): Promise<void> {
  const timeoutMs = Number(options.timeoutMs);
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1) {
    throw new CommandError(
      `Cannot wait "${options.timeoutMs}": --timeout-ms is a whole number`,
      64,
    );
  }
  const { config } = loadServerConfig('inspect', flags, context);
  const what = options.live === true ? 'healthz' : 'readyz';
  const url = urlFor(config, what);
  let answer: { readonly status: number; readonly text: string };
  try {
    answer = await get(
      url,
      config.adminPort === 0 ? undefined : config.adminToken,
      timeoutMs,
      context,
    );
  } catch (error) {
    throw new CommandError(`Unhealthy: cannot ask ${url.href}: ${messageOf(error)}`);
  }
  if (answer.status !== 200) {
    throw new CommandError(`Unhealthy: ${url.href} says ${answer.status} ${answer.text}`.trimEnd());
  }
  if (options.quiet !== true) await writeLine(context.stdout, `healthy: ${url.href}`);
}

function urlFor(config: Config, what: string): URL {
  if (config.adminPort !== 0) {
    return new URL(`http://${reachable(config.adminHost)}:${config.adminPort}/${what}`);
  }
  if (config.port === 0) {
    throw new CommandError('Cannot tell which port to ask: --admin-port and --port are both 0', 64);
  }
  const scheme = config.tlsCert === undefined ? 'http' : 'https';
  return new URL(`${scheme}://${reachable(config.host)}:${config.port}/$${what}`);
}

/** The address of this machine behind one that means all of them. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

function get(
  url: URL,
  token: string | undefined,
  timeoutMs: number,
  { clock }: CommandContext,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    // The server is this machine's own and its certificate names its public host: there is nothing to verify.
    const request =
      url.protocol === 'https:'
        ? httpsRequest(url, { headers, agent: false, rejectUnauthorized: false })
        : httpRequest(url, { headers, agent: false });
    const cancel = clock.after(timeoutMs, () =>
      request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
    );
    request.once('close', cancel);
    request.once('error', reject);
    request.once('response', (response: IncomingMessage) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text = (text + chunk).slice(0, BODY_CHARS_MAX);
      });
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, text: text.trim() }));
    });
    request.end();
  });
}
