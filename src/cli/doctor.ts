import { Routes } from '../client/routes.ts';
import { isEntityName } from '../protocol/request-path.ts';
import { EXIT, usageError, type ExitCode } from './command-error.ts';
import { relayConnection, type ConnectionOptions } from './connection.ts';
import { wantsColour, writeLine, type CommandContext } from './context.ts';
import { checkListener, checkRights, checkToken } from './doctor/account-checks.ts';
import { CHECKS, notTried, type CheckName, type Finding, type Outcome } from './doctor/finding.ts';
import { checkName, checkProxy, checkTcp, checkTls } from './doctor/network-checks.ts';
import { Patient } from './doctor/patient.ts';
import { checkClock, checkHealth, checkPoll, checkWebSocket } from './doctor/relay-checks.ts';
import { wayOptions, withUsageErrors, type RouteOptions } from './route-options.ts';

export interface DoctorOptions extends ConnectionOptions, RouteOptions {
  readonly endpoint?: string;
  readonly json?: boolean;
}

const RUN: Readonly<Record<CheckName, (patient: Patient) => Promise<Finding>>> = {
  name: checkName,
  tcp: checkTcp,
  proxy: checkProxy,
  tls: checkTls,
  clock: checkClock,
  health: checkHealth,
  websocket: checkWebSocket,
  poll: checkPoll,
  token: checkToken,
  rights: checkRights,
  listener: checkListener,
};

type Reported = Finding & { readonly check: CheckName };

/** `halfway doctor`: what is right and wrong between here and a relay; 1 when something has failed. */
export async function runDoctor(
  path: string | undefined,
  options: DoctorOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const patient = await patientOf(path, options, context);
  const { stdout } = context;
  const isJson = options.json === true;
  const reported: Reported[] = [];
  for (const check of namesOf(RUN)) {
    const finding = await examined(check, patient, reported);
    reported.push({ check, ...finding });
    if (!isJson) await writeLine(stdout, lineOf(check, finding, wantsColour(context, stdout)));
  }
  const isWell = !reported.some(({ outcome }) => outcome === 'failed');
  if (isJson) {
    const { origin } = patient.url;
    await writeLine(stdout, JSON.stringify({ endpoint: origin, ok: isWell, checks: reported }));
  }
  return isWell ? EXIT.ok : EXIT.failed;
}

/** What a check finds, or why it is not tried. */
async function examined(
  check: CheckName,
  patient: Patient,
  before: readonly Reported[],
): Promise<Finding> {
  const needs: readonly string[] = CHECKS[check].needs;
  const missing = before.find(
    ({ check: name, outcome }) =>
      needs.includes(name) && (outcome === 'failed' || outcome === 'not tried'),
  );
  if (missing === undefined) return RUN[check](patient);
  return notTried(`only when ${CHECKS[missing.check].title} is in order`);
}

async function patientOf(
  pathArgument: string | undefined,
  options: DoctorOptions,
  context: CommandContext,
): Promise<Patient> {
  const { endpoint } = options;
  if (endpoint !== undefined && (options.connectionString ?? options.connectionStringFile)) {
    throw usageError('Cannot take --endpoint and a connection string: give one');
  }
  const text = endpoint?.replace(/^ws(?=s?:)/i, 'http').replaceAll(';', '');
  const given =
    text === undefined
      ? options
      : { tls: options.tls === true, connectionString: `Endpoint=${text}` };
  const connection = await relayConnection(given, context);
  const { tokens, audienceFor, httpOrigin, entityPath } = connection;
  const path = (pathArgument ?? entityPath)?.replaceAll(/^\/+|\/+$/g, '');
  if (path !== undefined && !isEntityName(path)) {
    throw usageError(`Cannot ask about "${path}": it is not a name of a hybrid connection`);
  }
  const way = wayOptions(options);
  const { env, clock } = context;
  return new Patient({
    origin: httpOrigin,
    path,
    tokens,
    audienceFor,
    routes: withUsageErrors(() => new Routes(way)),
    proxy: way.proxy,
    env,
    clock,
  });
}

const COLOURS: Readonly<Record<Outcome, number>> = {
  OK: 32,
  warning: 33,
  failed: 31,
  'not offered': 2,
  'not tried': 2,
};
const OUTCOME_CHARS = 'not offered'.length;
const TITLE_CHARS = 'long-polling'.length;

function lineOf(check: CheckName, finding: Finding, isColoured: boolean): string {
  const { outcome, text, advice } = finding;
  const padded = outcome.padEnd(OUTCOME_CHARS);
  const shown = isColoured ? `\u001B[${COLOURS[outcome]}m${padded}\u001B[0m` : padded;
  const line = `${shown}  ${CHECKS[check].title.padEnd(TITLE_CHARS)}  ${text}`;
  return advice === undefined ? line : `${line}; ${advice}`;
}

function namesOf(checks: typeof RUN): readonly CheckName[] {
  return Object.keys(checks).filter((name): name is CheckName => name in CHECKS);
}
