import { callerIn, type Caller, type Principal } from '../dispatch/access.ts';
import type { EnvironmentServices } from '../dispatch/control-plane.ts';
import type { GroupMembership } from '../dispatch/group-membership.ts';
import { Problem } from '../dispatch/problem.ts';
import { MACHINE, type Environment } from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import type { ApiContext, Call } from './operation.ts';

type GroupActor = Parameters<GroupMembership['keyPackage']>[0];

type AnyCall = Pick<Call<unknown, unknown>, 'params' | 'identity'>;

/** A person in the environment of the path. */
export interface PersonScope {
  readonly environment: Versioned<Environment>;
  readonly caller: Caller;
  readonly services: EnvironmentServices;
}

export interface MachineScope {
  readonly machineId: string;
  readonly services: EnvironmentServices;
}

/** A parameter that the path of the operation has. */
export function param({ params }: AnyCall, name: string): string {
  const text = params[name];
  if (text === undefined) throw new Error(`The path has no {${name}}`);
  return text;
}

export function principalOf({ identity }: AnyCall): Principal {
  if (identity.type !== 'person') throw new Problem('AccessDenied', 'this is for people');
  return identity.principal;
}

/** Throws `NotFound` also for whoever has no role there. */
export async function personIn({ plane }: ApiContext, call: AnyCall): Promise<PersonScope> {
  const id = param(call, 'env');
  const { environment, caller } = await plane.environments.enter(principalOf(call), id);
  return { environment, caller, services: plane.in(id) };
}

/** The machine of the token, in its own environment. */
export function machineIn({ plane }: ApiContext, call: AnyCall): MachineScope {
  const { identity } = call;
  const id = param(call, 'env');
  if (identity.type !== 'machine') throw new Problem('AccessDenied', 'this is for machines');
  if (identity.environment !== id) throw new Problem('NotFound', 'there is no such environment');
  return { machineId: identity.machineId, services: plane.in(id) };
}

/** A person, or a machine, which may look at what people with the least of roles may look at. */
export async function viewerIn(
  api: ApiContext,
  call: AnyCall,
): Promise<Pick<PersonScope, 'caller' | 'services'>> {
  if (call.identity.type !== 'machine') return personIn(api, call);
  const { machineId, services } = machineIn(api, call);
  const caller: Caller = { name: `machine:${machineId}`, isAdmin: false, role: 'reader' };
  return { caller, services };
}

/** Who acts on a group: with a machine's token its owner counts as well. */
export async function groupActorIn(
  api: ApiContext,
  call: AnyCall,
): Promise<{ readonly actor: GroupActor; readonly services: EnvironmentServices }> {
  if (call.identity.type !== 'machine') {
    const { caller, services } = await personIn(api, call);
    return { actor: { type: 'person', caller }, services };
  }
  const { machineId, services } = machineIn(api, call);
  const owner = await ownerOf(api, param(call, 'env'), machineId);
  return { actor: { type: 'machine', machineId, owner }, services };
}

async function ownerOf(
  { plane }: ApiContext,
  environmentId: string,
  machineId: string,
): Promise<Caller | undefined> {
  const machine = await plane.in(environmentId).repository.get(MACHINE, machineId);
  const environment = await plane.environments.find(environmentId);
  if (machine === undefined || environment === undefined) return undefined;
  const principal = await plane.tokens.find(machine.value.owner);
  return principal === undefined ? undefined : callerIn(environment.value, principal);
}
