import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, type Caller } from './access.ts';
import type { ActivationCodes } from './activation-codes.ts';
import { audit } from './audit.ts';
import { newId, parseBody } from './checks.ts';
import type { DispatchKeys, Jwk } from './dispatch-key.ts';
import { provedKeys, registrationSchema, type Registration } from './machine-requests.ts';
import { audienceOf } from './offers.ts';
import type { MachineEndpoints } from './ports.ts';
import { Problem } from './problem.ts';
import {
  INSTALL,
  MACHINE,
  type ActivationCode,
  type Environment,
  type Machine,
  type PublicKey,
} from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';

export const MACHINES_INDEX = 'machines';

export interface Registered {
  readonly machine: Versioned<Machine>;
  /** The machine's path in the relay. */
  readonly relayPath: string;
  /** What offers are signed with: to be pinned. */
  readonly dispatchKeys: readonly Jwk[];
  /** The registration that this one took the place of; the caller deletes it. */
  readonly replaced: string | undefined;
  /** A group that the activation code allows to join. */
  readonly groupId: string | undefined;
}

interface Entrance {
  readonly actor: Caller;
  readonly code: Versioned<ActivationCode> | undefined;
}

/** How machines come in: with somebody's own rights, or with an activation code. */
export class MachineRegistration {
  readonly #repository: Repository;
  readonly #clock: Clock;
  readonly #codes: ActivationCodes;
  readonly #endpoints: MachineEndpoints;
  readonly #keys: DispatchKeys;

  constructor(of: {
    readonly repository: Repository;
    readonly clock: Clock;
    readonly codes: ActivationCodes;
    readonly endpoints: MachineEndpoints;
    readonly keys: DispatchKeys;
  }) {
    this.#repository = of.repository;
    this.#clock = of.clock;
    this.#codes = of.codes;
    this.#endpoints = of.endpoints;
    this.#keys = of.keys;
  }

  /** `caller`: undefined when the body brings a code instead. Source: job-dispatch.md section 3.3. */
  async register(
    environment: Environment,
    caller: Caller | undefined,
    body: unknown,
  ): Promise<Registered> {
    const registration = parseBody(registrationSchema, body);
    const encryptionKey = await provedKeys(environment.id, registration, body);
    // Before the endpoint is made: whoever may not register makes nothing.
    await this.#entrance(caller, registration);
    const id = newId();
    const relayPath = audienceOf(environment.id, id);
    const dispatchKeys = await this.#keys.published();
    await this.#endpoints.create(relayPath);
    try {
      const written = await this.#repository.change(async () => {
        const entrance = await this.#entrance(caller, registration);
        const value = machineOf(registration, encryptionKey, {
          id,
          environment,
          entrance,
          nowMs: this.#clock.wallMs(),
        });
        return this.#draft(value, registration, entrance);
      });
      return { ...written, relayPath, dispatchKeys };
    } catch (error) {
      await this.#endpoints.delete(relayPath);
      throw error;
    }
  }

  async #entrance(caller: Caller | undefined, { activationCode }: Registration): Promise<Entrance> {
    if (activationCode !== undefined) {
      const code = await this.#codes.find(activationCode);
      // Nothing of the person who made it stays on the machine; the machine is that person's.
      const actor: Caller = { name: code.value.createdBy, isAdmin: false, role: 'maker' };
      return { actor, code };
    }
    if (caller === undefined) throw new Problem('TokenInvalid');
    requireIn(caller, 'make');
    return { actor: caller, code: undefined };
  }

  async #draft(
    value: Machine,
    { force, installId }: Registration,
    { actor, code }: Entrance,
  ): Promise<{
    readonly draft: Draft;
    readonly answer: Pick<Registered, 'machine' | 'replaced' | 'groupId'>;
  }> {
    const { id } = value;
    const draft = new Draft().create(MACHINE, id, value).add(MACHINES_INDEX, id, value.createdAtMs);
    const replaced = await this.#replaced(draft, id, { installId, force, actor });
    if (code !== undefined) this.#codes.use(draft, code);
    audit(draft, {
      atMs: value.createdAtMs,
      action: 'machine.register',
      by: actor.name,
      object: id,
      details: {
        kid: value.encryptionKey.kid,
        ...(code === undefined ? {} : { code: code.id }),
        ...(replaced === undefined ? {} : { replaced }),
      },
    });
    const machine = { id, version: 1, value };
    return { draft, answer: { machine, replaced, groupId: code?.value.groupId } };
  }

  /** Makes the installation this machine's; answers whose it was. */
  async #replaced(
    draft: Draft,
    machineId: string,
    how: { readonly installId: string; readonly force: boolean; readonly actor: Caller },
  ): Promise<string | undefined> {
    const before = await this.#repository.get(INSTALL, how.installId);
    if (before === undefined) {
      draft.create(INSTALL, how.installId, { machineId });
      return undefined;
    }
    const old = await this.#repository.get(MACHINE, before.value.machineId);
    if (old !== undefined) {
      if (!how.force) {
        const hint = `this installation is the machine "${old.value.name}"; register with force`;
        throw new Problem('MachineIdentityConflict', hint);
      }
      requireMay(how.actor, 'delete', old.value);
    }
    draft.replace(INSTALL, before, { machineId });
    return old?.id;
  }
}

function machineOf(
  registration: Registration,
  encryptionKey: PublicKey,
  by: {
    readonly id: string;
    readonly environment: Environment;
    readonly entrance: Entrance;
    readonly nowMs: number;
  },
): Machine {
  const { actor, code } = by.entrance;
  return {
    id: by.id,
    tenant: by.environment.tenant,
    owner: actor.name,
    access: {},
    createdAtMs: by.nowMs,
    createdBy: actor.name,
    name: registration.name,
    description: registration.description,
    installId: registration.installId,
    ...(registration.hardwareDigest === undefined
      ? {}
      : { hardwareDigest: registration.hardwareDigest }),
    identityKey: registration.identityKey,
    encryptionKey,
    os: registration.os,
    registeredVersion: registration.agentVersion,
    ...(code?.value.groupId === undefined ? {} : { mayJoin: code.value.groupId }),
    // What the code says stands: whoever has it does not choose its labels.
    labels: { ...registration.labels, ...code?.value.labels },
    allocatedBots: 1,
    reuseSessions: false,
    lookAhead: 0,
    isInMaintenance: false,
    isDraining: false,
    hasIdentityConflict: false,
    eligibleAtMs: by.nowMs,
  };
}
