import * as v from 'valibot';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { requireVersion } from '../dispatch/checks.ts';
import type { MachineView } from '../dispatch/machines.ts';
import { machinePatchSchema, registrationSchema } from '../dispatch/machine-requests.ts';
import { Problem } from '../dispatch/problem.ts';
import { idSchema } from '../dispatch/records.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import {
  operation,
  type Answer,
  type AnswerSpec,
  type ApiContext,
  type Call,
  type Operation,
} from './operation.ts';
import { param, personIn, viewerIn } from './scope.ts';
import {
  accessOperations,
  CHANGE_PROBLEMS,
  EMPTY_BODY,
  NO_CONTENT,
  pageQuery,
} from './shared-specs.ts';
import { momentText, momentTextSchema } from './shown.ts';
import {
  jwkShownSchema,
  keyShownSchema,
  machineShownSchema,
  pageSchema,
  runShownSchema,
  showMachine,
  showRun,
} from './shown-records.ts';

const MACHINES = '/environments/{env}/machines';
const MACHINE = `${MACHINES}/{id}`;
const GONE = ['MachineNotFound'] as const;
/** Why a machine that is there cannot be asked. */
const UNREACHABLE = [
  'MachineNotFound',
  'NoListenerConnected',
  'ConnectionNotEstablished',
  'ConnectionTimeout',
  'EndpointDoNotExist',
  'DnsError',
] as const;
const CHANGED = ['MachineNotFound', ...CHANGE_PROBLEMS] as const;
const machineAnswer: AnswerSpec = {
  status: 200,
  text: 'The machine',
  schema: machineShownSchema,
  hasEtag: true,
};
/** How a machine comes in and proves itself. */
const ENTRANCE: readonly Operation[] = [
  operation({
    method: 'POST',
    path: `${MACHINES}:register`,
    who: 'anyone',
    tag: 'Machines',
    summary: 'Registers a machine, with a token or with the activationCode of the body',
    body: { kind: 'json', schema: registrationSchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      {
        status: 201,
        text: 'The machine; what offers are signed with is to be pinned',
        hasEtag: true,
        hasLocation: true,
        schema: v.strictObject({
          machineId: idSchema,
          tenant: v.string(),
          environment: v.string(),
          relayPath: v.string(),
          dispatchKeys: v.array(jwkShownSchema),
          groupId: v.optional(idSchema),
          replaced: v.optional(idSchema),
          machine: machineShownSchema,
        }),
      },
    ],
    problems: ['MachineIdentityConflict', 'TokenInvalid', 'VersionConflict'],
    answer: register,
  }),
  operation({
    method: 'POST',
    path: `${MACHINE}/token`,
    who: 'nobody',
    tag: 'Machines',
    summary: 'Gives a machine tokens of some minutes for a signed assertion (RFC 7523)',
    body: {
      kind: 'json',
      schema: v.strictObject({ assertion: v.pipe(v.string(), v.maxLength(8_192)) }),
      bytesMax: BODY_BYTES_MAX,
    },
    answers: [
      {
        status: 200,
        text: 'Tokens for this interface and for listening at the relay',
        schema: v.strictObject({
          accessToken: v.string(),
          accessTokenExpiresAt: momentTextSchema,
          listenToken: v.string(),
          listenTokenExpiresAt: momentTextSchema,
          relayPath: v.string(),
        }),
      },
    ],
    problems: [
      'TokenInvalid',
      'AuthTokenNotYetValid',
      'MachineIdentityConflict',
      'MachineNotFound',
      'VersionConflict',
    ],
    async answer({ plane }, call) {
      const env = param(call, 'env');
      if ((await plane.environments.find(env)) === undefined) throw new Problem('MachineNotFound');
      const given = await plane.machineTokens.exchange(env, param(call, 'id'), call.body.assertion);
      return {
        status: 200,
        body: {
          accessToken: given.accessToken,
          accessTokenExpiresAt: momentText(given.accessTokenExpiresAtMs),
          listenToken: given.listenToken,
          listenTokenExpiresAt: momentText(given.listenTokenExpiresAtMs),
          relayPath: given.relayPath,
        },
      };
    },
  }),
];

const RECORDS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: MACHINES,
    who: 'person',
    tag: 'Machines',
    summary: 'Machines in the order of their registration',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of machines', schema: pageSchema(machineShownSchema) }],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { items, next } = await services.machines.list(caller, call.query);
      return { status: 200, body: { items: items.map(showMachine), next } };
    },
  }),
  operation({
    method: 'GET',
    path: MACHINE,
    who: 'either',
    tag: 'Machines',
    summary: 'One machine, with its state now; a machine may look at itself',
    answers: [machineAnswer],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await viewerIn(api, call);
      requireSelf(call);
      return shown(await services.machines.get(caller, param(call, 'id')));
    },
  }),
  operation({
    method: 'PATCH',
    path: MACHINE,
    who: 'person',
    tag: 'Machines',
    summary: 'Changes name, description, labels, settings and maintenance',
    ifMatch: 'required',
    body: { kind: 'json', schema: machinePatchSchema, bytesMax: BODY_BYTES_MAX },
    answers: [machineAnswer],
    problems: CHANGED,
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.machines.patch(caller, id, call.ifMatch, call.json);
      return shown(await services.machines.get(caller, id));
    },
  }),
  operation({
    method: 'DELETE',
    path: MACHINE,
    who: 'either',
    tag: 'Machines',
    summary: 'Removes a machine; one that removes itself needs no If-Match',
    ifMatch: 'optional',
    answers: [NO_CONTENT],
    problems: CHANGED,
    async answer(api, call) {
      const { caller, services } = await viewerIn(api, call);
      requireSelf(call);
      const id = param(call, 'id');
      if (call.identity.type === 'person') {
        await services.machines.delete(caller, id, call.ifMatch);
        return { status: 204 };
      }
      const { machine } = await services.machines.get(caller, id);
      if (call.ifMatch !== undefined) requireVersion(machine, call.ifMatch);
      await services.machines.remove(caller.name, id);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${MACHINE}:drain`,
    who: 'person',
    tag: 'Machines',
    summary: 'Offers nothing new to it; it is inactive when its last run has ended',
    body: EMPTY_BODY,
    answers: [machineAnswer],
    problems: ['MachineNotFound', 'VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      await services.operations.drain(caller, param(call, 'id'));
      return shown(await services.machines.get(caller, param(call, 'id')));
    },
  }),
  ...accessOperations({
    path: MACHINE,
    tag: 'Machines',
    answer: machineAnswer,
    notFound: 'MachineNotFound',
    async set(services, caller, { id, principal, grant }) {
      await services.machines.setAccess(caller, id, principal, grant);
      return shown(await services.machines.get(caller, id));
    },
  }),
];

const LOOKS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: `${MACHINE}/queue`,
    who: 'person',
    tag: 'Machines',
    summary: 'Runs that wait for this machine, the next one first',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of runs', schema: pageSchema(runShownSchema) }],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.machines.get(caller, id);
      const target = { kind: 'machine', id } as const;
      const { items, next } = await services.runs.queue(caller, target, call.query);
      return { status: 200, body: { items: items.map(showRun), next } };
    },
  }),
  operation({
    method: 'GET',
    path: `${MACHINE}/public-key`,
    who: 'either',
    tag: 'Machines',
    summary: 'The key that credentials for this machine are sealed to',
    answers: [{ status: 200, text: 'The key', schema: keyShownSchema }],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await viewerIn(api, call);
      requireSelf(call);
      const { machine } = await services.machines.get(caller, param(call, 'id'));
      const { encryptionKey: key } = machine.value;
      return { status: 200, body: { ...key, fingerprint: fingerprintOf(key.kid) } };
    },
  }),
  operation({
    method: 'POST',
    path: `${MACHINE}:diagnostics`,
    who: 'person',
    tag: 'Machines',
    summary: 'Has the machine look at itself, and gives what it says',
    body: EMPTY_BODY,
    answers: [{ status: 200, text: 'In its own words', schema: v.record(v.string(), v.unknown()) }],
    // And whatever code the machine refuses it with.
    problems: ['VersionConflict', 'DesktopFlowMalformedMachineResponse', ...UNREACHABLE],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const body = await services.operations.diagnostics(caller, param(call, 'id'));
      return { status: 200, body };
    },
  }),
  operation({
    method: 'POST',
    path: `${MACHINE}:echo`,
    who: 'person',
    tag: 'Machines',
    summary: 'Asks the machine for a sign of life, through the relay',
    body: EMPTY_BODY,
    answers: [
      {
        status: 200,
        text: 'What it answered, and after how long',
        schema: v.strictObject({ status: v.number(), roundTripMs: v.number() }),
      },
    ],
    problems: UNREACHABLE,
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.machines.get(caller, id);
      const said = await api.echo.echo(param(call, 'env'), id, call.request.signal);
      if (said.type === 'fault') throw new Problem(said.code);
      return { status: 200, body: { status: said.status, roundTripMs: said.roundTripMs } };
    },
  }),
];

export const MACHINE_OPERATIONS: readonly Operation[] = [...ENTRANCE, ...RECORDS, ...LOOKS];

async function register(
  api: ApiContext,
  call: Call<unknown, v.InferOutput<typeof registrationSchema>>,
): Promise<Answer> {
  const env = param(call, 'env');
  const { environment, caller } =
    call.identity.type === 'person'
      ? await personIn(api, call)
      : { environment: await api.plane.environments.find(env), caller: undefined };
  if (environment === undefined) throw new Problem('NotFound', 'there is no such environment');
  const services = api.plane.in(env);
  const made = await services.registration.register(environment.value, caller, call.json);
  const { machine, relayPath, dispatchKeys, groupId, replaced } = made;
  const { owner, tenant } = machine.value;
  if (replaced !== undefined) await services.machines.remove(owner, replaced);
  const reader = { name: owner, isAdmin: false, role: 'reader' } as const;
  const view = await services.machines.get(reader, machine.id);
  return {
    status: 201,
    version: machine.version,
    location: `/environments/${env}/machines/${machine.id}`,
    body: {
      machineId: machine.id,
      tenant,
      environment: env,
      relayPath,
      dispatchKeys,
      groupId,
      replaced,
      machine: showMachine(view),
    },
  };
}

function shown(view: MachineView): Answer {
  return { status: 200, version: view.machine.version, body: showMachine(view) };
}

/** Machines see themselves, and no others. */
function requireSelf(call: Pick<Call<unknown, unknown>, 'params' | 'identity'>): void {
  const { identity } = call;
  if (identity.type === 'machine' && identity.machineId !== param(call, 'id')) {
    throw new Problem('AccessDenied', 'machines see themselves only');
  }
}
