import { createHash, randomBytes } from 'node:crypto';
import { CLOCK_SKEW_MS_MAX } from '../../jobs/limits.ts';
import { ControlClient, ControlError, skewText } from '../../machine/control-client.ts';
import { MachineError } from '../../machine/machine-error.ts';
import { askService } from '../../machine/service-socket.ts';
import type { ServiceReport } from '../../machine/service-status.ts';
import { fieldAt, tableOf, textAt } from '../admin-client.ts';
import { EXIT, type ExitCode } from '../command-error.ts';
import { writeLine, type CommandContext } from '../context.ts';
import { failed, notTried, ok, warning, type Finding } from '../doctor/finding.ts';
import { checkName, checkProxy, checkTcp, checkTls } from '../doctor/network-checks.ts';
import { Patient } from '../doctor/patient.ts';
import { checkClock, checkHealth, checkPoll, checkWebSocket } from '../doctor/relay-checks.ts';
import { wayOptions } from '../route-options.ts';
import {
  publishedEndpoints,
  tryDestinations,
  unpublishedAddresses,
  type PublishedEndpoints,
} from './destinations.ts';
import {
  given,
  givenSecret,
  inWords,
  openMachine,
  originOf,
  routesOf,
  type MachineOptions,
  type OpenMachine,
} from './open-machine.ts';

export interface DiagnoseOptions extends MachineOptions {
  readonly endpoint?: string;
  readonly apiTokenFile?: string;
}

interface Reported extends Finding {
  readonly check: string;
}

/** What is looked at, with what was found out before. */
interface Subject {
  readonly patient: Patient;
  readonly client: ControlClient;
  readonly machine: OpenMachine | undefined;
  /** Why there is none. */
  readonly whyNone: string | undefined;
  readonly service: unknown;
  readonly apiToken: string | undefined;
}

/** The most that the question takes. */
const LARGE_BODY_BYTES = 60 * 1024;

/** `halfway machine diagnose`: what is right and wrong between this machine and its control plane. */
export async function runDiagnose(
  options: DiagnoseOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const { stdout } = context;
  const subject = await subjectOf(options, context);
  const checks: readonly (readonly [string, (subject: Subject) => Promise<Finding>])[] = [
    ['name', ({ patient }) => checkName(patient)],
    ['TCP', ({ patient }) => checkTcp(patient)],
    ['proxy', ({ patient }) => checkProxy(patient)],
    ['TLS', ({ patient }) => checkTls(patient)],
    ['clock', ({ patient }) => checkClock(patient)],
    ['relay', ({ patient }) => checkHealth(patient)],
    ['control plane', checkControlPlane],
    ['large body', checkLargeBody],
    ['registration', checkRegistration],
    ['WebSocket', ({ patient }) => checkWebSocket(patient)],
    ['long-polling', ({ patient }) => checkPoll(patient)],
    ['service', subjectHere => Promise.resolve(checkService(subjectHere))],
    ['echo', checkEcho],
  ];
  const reported: Reported[] = [];
  for (const [check, look] of checks) {
    // Without a way there nothing else can be said.
    const isCut = reported.some(
      ({ check: name, outcome }) =>
        outcome === 'failed' && ['name', 'TCP', 'proxy', 'TLS'].includes(name),
    );
    const finding = isCut ? notTried('only when there is a way there') : await look(subject);
    reported.push({ check, ...finding });
  }
  // Behind a proxy they are the proxy's to reach.
  const { patient, client } = subject;
  const isBehindProxy = patient.options.routes.proxyFor(patient.url) !== undefined;
  const published = isBehindProxy ? undefined : await publishedEndpoints(client);
  if (published !== undefined && published.addresses.length > 0) {
    reported.push({ check: 'addresses', ...(await checkAddresses(published)) });
  }
  const destinations =
    published === undefined ? [] : await tryDestinations(published, context.clock);
  const isWell =
    !reported.some(({ outcome }) => outcome === 'failed') &&
    !destinations.some(({ state }) => state === 'Closed');
  if (options.json === true) {
    const { origin: endpoint } = subject.client;
    await writeLine(
      stdout,
      JSON.stringify({ endpoint, ok: isWell, checks: reported, destinations }),
    );
  } else {
    const rows = reported.map(({ check, outcome, text, advice }) => [
      outcome,
      check,
      advice === undefined ? text : `${text}; ${advice}`,
    ]);
    await writeLine(stdout, tableOf(rows));
    if (destinations.length > 0) {
      const shown = destinations.map(({ destination, state, why = '' }) => [
        state,
        destination,
        why,
      ]);
      await writeLine(stdout, `\n${tableOf(shown)}`);
    }
  }
  return isWell ? EXIT.ok : EXIT.failed;
}

async function subjectOf(options: DiagnoseOptions, context: CommandContext): Promise<Subject> {
  const { env, clock } = context;
  const { machine, whyNone } = await machineOf(options, context);
  const origin =
    machine === undefined || options.endpoint !== undefined
      ? originOf(given(options.endpoint, env['HALFWAY_ENDPOINT']), context)
      : machine.record.server;
  const service =
    machine && (await askService(machine.folder, 'status', clock).catch(() => undefined));
  const routes = routesOf(options);
  // To listen for a moment would take the place of the service that runs.
  const listener = service === undefined ? machine : undefined;
  const patient = new Patient({
    origin,
    path: listener?.record.relayPath,
    tokens: listener && { getToken: () => listener.access.listenToken() },
    audienceFor: path => path,
    routes,
    proxy: wayOptions(options).proxy,
    env,
    clock,
  });
  const what = 'API token';
  const variable = 'HALFWAY_API_TOKEN';
  const apiToken = await givenSecret({ what, file: options.apiTokenFile, variable }, context);
  const client = new ControlClient({ origin, routes, clock });
  return { patient, client, machine, whyNone, service, apiToken };
}

/** The registration, where there is one: much can be looked at without. */
async function machineOf(
  options: DiagnoseOptions,
  context: CommandContext,
): Promise<{ readonly machine: OpenMachine | undefined; readonly whyNone: string | undefined }> {
  try {
    return { machine: await openMachine(options, context), whyNone: undefined };
  } catch (error) {
    if (!(error instanceof MachineError)) throw error;
    if (error.fault !== 'NotRegistered')
      return inWords('Cannot diagnose', () => Promise.reject(error));
    return { machine: undefined, whyNone: error.message };
  }
}

async function checkControlPlane({ client }: Subject): Promise<Finding> {
  try {
    await client.call({ method: 'POST', path: '/echo', body: { v: 1 } });
    const { skewMs = 0 } = client;
    if (Math.abs(skewMs) <= CLOCK_SKEW_MS_MAX) return ok(`answers at ${client.origin}/$api/v1`);
    const text = `this computer's clock is ${skewText(skewMs)} the control plane's`;
    return failed(text, 'set the clock, by NTP: tokens are refused otherwise');
  } catch (error) {
    return refusedFinding(
      error,
      'see that the address is right, and that job dispatch is on there',
    );
  }
}

async function checkLargeBody({ client }: Subject): Promise<Finding> {
  const data = randomBytes(LARGE_BODY_BYTES);
  try {
    const bytes = { type: 'application/octet-stream', data };
    const { body } = await client.call({ method: 'POST', path: '/echo', bytes });
    const isWhole = textAt(body, 'bodySha256') === createHash('sha256').update(data).digest('hex');
    const size = `${LARGE_BODY_BYTES / 1024} KiB`;
    if (isWhole) return ok(`${size} arrive as they were sent`);
    return failed(`${size} do not arrive as they were sent`, 'something on the way changes bodies');
  } catch (error) {
    return refusedFinding(error, 'something on the way may not let bodies of this size through');
  }
}

async function checkRegistration({ machine, whyNone }: Subject): Promise<Finding> {
  if (machine === undefined) return notTried(whyNone ?? 'there is no registration');
  const { access, record } = machine;
  try {
    await access.prove();
    return ok(`the control plane knows this machine as ${record.name} (${record.machineId})`);
  } catch (error) {
    const isGone = error instanceof ControlError && error.code === 'MachineNotFound';
    return refusedFinding(error, isGone ? 'register it again with --force' : undefined);
  }
}

function checkService({ machine, service }: Subject): Finding {
  if (machine === undefined) return notTried('there is no registration');
  if (!isReport(service)) return warning('does not run', 'start it: halfway machine run');
  const { channel, hello, runs } = service;
  const transport = channel.transport === undefined ? '' : `, by ${channel.transport}`;
  const text = `runs; channel ${channel.state}${transport}; ${runs.length} runs`;
  if (hello.problem !== undefined) return failed(`${text}; last hello: ${hello.problem}`);
  return channel.state === 'online' ? ok(text) : warning(text, 'see its log');
}

/** There and back through the relay, to the service that runs here. */
async function checkEcho({ client, machine, service, apiToken }: Subject): Promise<Finding> {
  if (machine === undefined) return notTried('there is no registration');
  if (!isReport(service)) return notTried('only when the service runs');
  if (apiToken === undefined) {
    return notTried(
      'the control plane asks through the relay for those with an API token: --api-token-file',
    );
  }
  const { access, record } = machine;
  try {
    const path = `${access.base}/machines/${record.machineId}:echo`;
    const { body } = await client.call({ method: 'POST', path, token: apiToken });
    const status = textAt(body, 'status');
    const tookMs = Math.round(Number(fieldAt(body, 'roundTripMs')));
    if (status === '200') return ok(`through the relay and back in ${tookMs} ms`);
    return failed(`the service answered ${status} through the relay`);
  } catch (error) {
    return refusedFinding(error);
  }
}

/** Whether who lets only the published addresses through lets this machine through. */
async function checkAddresses(published: PublishedEndpoints): Promise<Finding> {
  const { host, addresses } = published;
  const others = await unpublishedAddresses(published);
  if (others.length === 0) return ok(`the addresses of ${host} are in ${addresses.join(', ')}`);
  return warning(
    `${host} is ${others.join(', ')}, which ${addresses.join(', ')} does not have`,
    'a firewall by the published list blocks that: tell who runs the server (--published-addresses)',
  );
}

function refusedFinding(error: unknown, advice?: string): Finding {
  if (error instanceof ControlError) return failed(error.message, advice);
  throw error;
}

function isReport(value: unknown): value is ServiceReport {
  return typeof value === 'object' && value !== null && 'channel' in value && 'hello' in value;
}
