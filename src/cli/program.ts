import { Command, CommanderError } from 'commander';
import { ConfigError } from '../config/errors.ts';
import { CommandError, EXIT } from './command-error.ts';
import { addConnectionOptions } from './connection.ts';
import type { CommandContext } from './context.ts';
import { addDispatchCommands } from './dispatch-commands.ts';
import { addMachineCommands } from './machine-commands.ts';
import { addManagementCommands, addOperatorCommands } from './management-commands.ts';
import { addRouteOptions, addWayOptions } from './route-options.ts';
import { addServerOptions, addSomeServerOptions, serverFlags } from './server-flags.ts';

// The commands and their help. Each command's own file, and what it needs, is loaded when it runs, so that the small
// ones start fast.

/** Runs one command line (without node and script) and returns the exit code. Reports on standard error. */
export async function runCli(argv: readonly string[], context: CommandContext): Promise<number> {
  // A command without a code of its own that returns has done what it was asked.
  let exitCode: number = EXIT.ok;
  const program = buildProgram(context, code => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    return report(error, context);
  }
}

function report(error: unknown, { stderr }: CommandContext): number {
  // Commander has said already what is wrong with the command line.
  if (error instanceof CommanderError) {
    const isHelp = error.code === 'commander.helpDisplayed' || error.code === 'commander.version';
    return isHelp ? EXIT.ok : EXIT.usage;
  }
  if (error instanceof CommandError) {
    stderr.write(`halfway: ${error.message}\n`);
    return error.exitCode;
  }
  if (error instanceof ConfigError) {
    stderr.write(`halfway: ${error.message}\n`);
    return EXIT.config;
  }
  const isStartError = error instanceof Error && error.name === 'StartError';
  stderr.write(`halfway: ${isStartError ? error.message : stackOf(error)}\n`);
  return EXIT.failed;
}

function stackOf(bug: unknown): string {
  return bug instanceof Error ? (bug.stack ?? bug.message) : String(bug);
}

type Values = Readonly<Record<string, unknown>>;

function buildProgram(context: CommandContext, done: (exitCode: number) => void): Command {
  const program = new Command('halfway')
    .description('A self-hosted relay that speaks the protocol of Azure Relay Hybrid Connections.')
    .version(context.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: text => context.stdout.write(text),
      writeErr: text => context.stderr.write(text),
    })
    .showSuggestionAfterError(true)
    .addHelpText('after', PROGRAM_EXAMPLES);

  const add = (name: string, summary: string, examples: string): Command =>
    program.command(name).summary(summary).description(summary).addHelpText('after', examples);

  addServerOptions(add('serve', 'run the relay', SERVE_EXAMPLES), 'serve').action(
    async (values: Values) => {
      const { runServe } = await import('./serve.ts');
      done(await runServe(serverFlags(values), context));
    },
  );

  addServerOptions(
    add('dev', 'run the relay on this machine, nothing to prepare', DEV_EXAMPLES),
    'dev',
  )
    .option('--key-file <FILE>', 'file with the key to use (HALFWAY_DEV_KEY, HALFWAY_DEV_KEY_FILE)')
    .option('-q, --quiet', 'do not print what to copy')
    .action(async (values: Values) => {
      const { runDev } = await import('./dev.ts');
      done(await runDev(serverFlags(values), values, context));
    });

  program.command('worker', { hidden: true }).action(async () => {
    const { runWorker } = await import('./worker.ts');
    done(await runWorker(context));
  });

  addClientCommands(add, context, done);
  addDoctor(add, context, done);
  addManagementCommands(program, context);
  addOperatorCommands(program, context);
  addDispatchCommands(program, context, done);
  addMachineCommands(program, context, done);

  const config = program
    .command('config')
    .summary('check and show the configuration of `serve`')
    .description('Check and show the configuration of `serve`.');
  const configCommand = (name: string, summary: string): Command =>
    addServerOptions(config.command(name).summary(summary).description(summary), 'serve')
      .option('--json', 'print JSON')
      .option('-q, --quiet', 'say nothing when all is well');
  configCommand('check', 'report every fault; exit code 78 when there are any').action(
    async (values: Values) => {
      const { runConfigCheck } = await import('./config.ts');
      await runConfigCheck(serverFlags(values), values, context);
    },
  );
  configCommand('print', 'print what is in force, secrets hidden').action(
    async (values: Values) => {
      const { runConfigPrint } = await import('./config.ts');
      await runConfigPrint(serverFlags(values), values, context);
    },
  );
  config
    .command('options')
    .summary('print every option as a table in Markdown')
    .action(async () => {
      const { runConfigOptions } = await import('./config.ts');
      await runConfigOptions(context);
    });

  addSomeServerOptions(
    add(
      'healthcheck',
      'ask a running server whether it is well; exit code 0 or 1',
      HEALTH_EXAMPLES,
    ),
    ['config', 'adminHost', 'adminPort', 'adminToken', 'host', 'port', 'tlsCert', 'tlsKey'],
  )
    .option('--live', 'ask whether it lives, rather than whether it takes new work')
    .option('--timeout-ms <MS>', 'how long to wait for the answer', '3000')
    .option('-q, --quiet', 'say nothing when all is well')
    .action(async (values: Values & { readonly timeoutMs: string }) => {
      const { runHealthcheck } = await import('./healthcheck.ts');
      await runHealthcheck(serverFlags(values), values, context);
    });
  return program;
}

type AddCommand = (name: string, summary: string, examples: string) => Command;

/** Commands that speak to a relay, wherever it is. */
function addClientCommands(
  add: AddCommand,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  addConnectionOptions(add('token', 'print a token for a hybrid connection', TOKEN_EXAMPLES))
    .option('--path <PATH>', 'the hybrid connection; without it the EntityPath')
    .option('--ttl <TIME>', 'how long the token is good: 90s, 30m, 1h, 7d', '1h')
    .option('--audience <URL>', 'the resource, instead of one made of endpoint and path')
    .option('--json', 'print token, audience and expiry as JSON')
    .action(async (values: Values & { readonly ttl: string }) => {
      const { runToken } = await import('./token.ts');
      await runToken(values, context);
    });

  addRelayOptions(add('listen', 'listen on a hybrid connection', LISTEN_EXAMPLES))
    .argument('[PATH]', 'the hybrid connection; without it the EntityPath')
    .option('--print', 'show what comes instead of sending it back; requests are answered with 204')
    .option('--to <URL>', 'forward requests and WebSockets to a server, e.g. http://localhost:3000')
    .option('--keep-path', 'with --to: leave the name of the hybrid connection in the path')
    .option('--json', 'with --print: one JSON object a line')
    .option('-q, --quiet', 'no progress on standard error')
    .action(async (path: string | undefined, values: Values) => {
      const { runListen } = await import('./listen.ts');
      await runListen(path, values, context);
    });

  addRelayOptions(
    add('forward', 'forward TCP and Unix sockets, as one of two ends', FORWARD_EXAMPLES),
  )
    .argument('[PATH]', 'the hybrid connection; without it the EntityPath')
    .option(
      '-L, --local <ADDRESS>',
      'listen here: [HOST:]PORT, or unix:/PATH; needs the right Send',
    )
    .option('-R, --remote <ADDRESS>', 'connect from here: HOST:PORT, or unix:/PATH; needs Listen')
    .option('--streams-max <N>', 'how many streams may be open at once', '1000')
    .option('-q, --quiet', 'no progress on standard error')
    .action(async (path: string | undefined, values: Values) => {
      const { runForward } = await import('./forward.ts');
      await runForward(path, values, context);
    });

  addRelayOptions(add('connect', 'standard input and output over a WebSocket', CONNECT_EXAMPLES))
    .argument('[PATH]', 'the hybrid connection, and what else the listener is to see of a path')
    .option('--text', 'one text message a line, instead of bytes as they come')
    .option(
      '-H, --header <HEADER>',
      'a header of the handshake, "Name: value"; may be repeated',
      append,
    )
    .option('--protocol <NAME>', 'a subprotocol to offer; may be repeated', append)
    .option('-q, --quiet', 'do not say how it closed')
    .action(async (path: string | undefined, values: Values) => {
      const { runConnect } = await import('./connect.ts');
      done(await runConnect(path, values, context));
    });

  addRelayOptions(add('request', 'send an HTTP request to a listener', REQUEST_EXAMPLES))
    .argument('[PATH]', 'the hybrid connection, with any path and query below it')
    .option('-X, --request <METHOD>', 'the method; GET, or POST with -d')
    .option('-H, --header <HEADER>', 'a header, "Name: value"; may be repeated', append)
    .option('-d, --data <DATA>', 'the body: a text, @FILE, or - for standard input')
    .option('-i, --include', 'print status and headers, too')
    .option('-f, --fail', 'print no body unless the answer is 2xx or 3xx')
    .option('--json', 'print status, headers and body as one JSON object')
    .option('-q, --quiet', 'say nothing on standard error about an answer that is not good')
    .action(async (path: string | undefined, values: Values) => {
      const { runRequest } = await import('./request.ts');
      done(await runRequest(path, values, context));
    });
}

/** Where the relay is, and how to get there. */
function addRelayOptions(command: Command): Command {
  return addRouteOptions(addConnectionOptions(command));
}

/** A command that finds out why the others do not work. */
function addDoctor(
  add: AddCommand,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  addWayOptions(
    addConnectionOptions(add('doctor', 'find out what keeps one from a relay', DOCTOR_EXAMPLES)),
  )
    .argument('[PATH]', 'the hybrid connection; without it the EntityPath')
    .option(
      '--endpoint <URL>',
      'the relay alone, without a key: sb://HOST[:PORT], https://…, http://…',
    )
    .option('--json', 'print one JSON object')
    .action(async (path: string | undefined, values: Values) => {
      const { runDoctor } = await import('./doctor.ts');
      done(await runDoctor(path, values, context));
    });
}

function append(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, value];
}

const PROGRAM_EXAMPLES = `
Try it:
  halfway dev                            runs a relay here and prints what to copy
  halfway COMMAND --help                 explains a command

Exit codes: 0 all is well, 64 wrong usage, 78 wrong configuration, 1 anything else.`;

const SERVE_EXAMPLES = `
Each option has a variable, and a key in the config file named like it in camelCase
(requestTimeoutMs). Order: defaults < file < variables < flags.

SIGTERM drains: no new work, open connections finish; a second one ends at once.
SIGHUP reads the certificate again.

--workers 4 (or auto) runs so many processes on the one public port, to use several cores. They are one relay,
with one admin port; without Redis, too. One that ends is started again, the others go on meanwhile.

Examples:
  halfway serve --config relay.yaml
  halfway serve --config relay.yaml --workers auto
  HALFWAY_CONFIG=relay.yaml HALFWAY_LOG_LEVEL=debug halfway serve --port 443 --tls-cert c.pem --tls-key k.pem`;

const DEV_EXAMPLES = `
The key is new at each start unless one is given; hybrid connections come into being when a
listener opens them. All options of \`serve\` work here, too.

Examples:
  halfway dev
  halfway dev --port 0 --admin-port 0    lets the system pick the ports
  halfway dev --key-file dev.key         the same key at each start`;

const TOKEN_EXAMPLES = `
Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway token --path orders --ttl 30m
  curl -H "ServiceBusAuthorization: $(halfway token --path orders)" https://relay.example.com/orders`;

const LISTEN_EXAMPLES = `
Without --print or --to everything is sent back: a way to see that all works.

Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway listen orders
  halfway listen orders --to http://localhost:3000`;

const FORWARD_EXAMPLES = `
One end runs where the service is reached (-R), the other where it is wanted (-L). Each connection that -L takes
becomes a connection of -R's to its target; bytes, ends and resets pass as if there were no relay between. A plain
port is one of 127.0.0.1; name 0.0.0.0 or another address if other machines are to get in, who then need no key.
Several -R ends of one hybrid connection share the load.

SIGTERM and SIGINT: nothing new is taken, open streams have 5 s to end; a second one ends at once.

Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway forward office-ssh -R 127.0.0.1:22       on the machine in the office
  halfway forward office-ssh -L 2222               on the laptop; then: ssh -p 2222 me@127.0.0.1
  halfway forward db -R unix:/var/run/postgresql/.s.PGSQL.5432
  halfway forward db -L unix:/tmp/.s.PGSQL.5432    then: psql -h /tmp`;

const CONNECT_EXAMPLES = `
The end of standard input closes this direction only; the other one goes on until the listener
closes. Exit code 0 when it closes with 1000, 1 otherwise.

Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway connect orders --text
  tar c folder | halfway connect backup > answer`;

const REQUEST_EXAMPLES = `
Exit code 0 for 2xx and 3xx, 1 for anything else. The body is printed in both cases, unless --fail
is given: then the body of anything but 2xx and 3xx is left out.

Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway request orders/7?full=1
  halfway request orders -X PUT -H 'Content-Type: application/json' -d @order.json -i`;

const DOCTOR_EXAMPLES = `
Looks at name, TCP, proxy, TLS, clock, health, WebSocket, long-polling, token, rights and listener, and says of each, in
a line, OK, warning or failed, why, and what to do. What cannot be known because something before it failed is not tried;
what Azure does not have is not offered there. Rights are found out without reaching a listener; with the right Listen,
the doctor is one for a moment. Tokens, keys and passwords are never printed.

Exit code 0 without a failure, warnings or not; 1 otherwise.

Examples:
  export HALFWAY_CONNECTION_STRING_FILE=relay.connection
  halfway doctor orders
  halfway doctor --endpoint https://relay.example.com
  HTTPS_PROXY=http://proxy:3128 halfway doctor orders --json`;

const HEALTH_EXAMPLES = `
Takes the same options and variables as \`serve\`. Asks /readyz of the admin port; /$readyz of the public
port when the admin port is 0.

Examples:
  halfway healthcheck
  HALFWAY_ADMIN_PORT=9091 halfway healthcheck --live`;
