import type { Clock } from '../base/clock.ts';
import * as v from 'valibot';
import { requireIn, requireMay, withGrant, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { parseBody, requireVersion } from './checks.ts';
import { FORMER_KEYS_INDEX, ROTATIONS_INDEX } from './key-retirement.ts';
import { wake } from './machine-presence.ts';
import { MACHINES_INDEX } from './machine-registration.ts';
import { machinePatchSchema } from './machine-requests.ts';
import {
  machineStateOf,
  presenceStateOf,
  reasonsOf,
  type MaintenanceReason,
  type PresenceState,
} from './machine-state.ts';
import { audienceOf } from './offers.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import type { MachineEndpoints } from './ports.ts';
import { Problem } from './problem.ts';
import {
  grantSchema,
  GROUP,
  INSTALL,
  MACHINE,
  PRESENCE,
  principalSchema,
  type Grant,
  type Machine,
  type Presence,
} from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { IDLE_INDEX, membersIndex, queueIndex, slotsIndex } from './run-indexes.ts';
import { failWaiting } from './waiting-runs.ts';

/** A machine with what is computed of it now. */
export interface MachineView {
  readonly machine: Versioned<Machine>;
  readonly presence: Presence | undefined;
  readonly presenceState: PresenceState;
  readonly state: 'Active' | 'Maintenance' | 'Inactive';
  readonly reasons: readonly MaintenanceReason[];
  /** Runs that it has now, without and with a user at the machine. */
  readonly running: { readonly unattended: number; readonly attended: number };
  /** Runs that wait for it alone. */
  readonly waiting: number;
}

/** Machines as people see and set them. Registration and signs of life are in files of their own. */
export class Machines {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;
  readonly #endpoints: MachineEndpoints;
  readonly #minAgentVersion: () => Promise<string | undefined>;

  constructor(of: {
    readonly repository: Repository;
    readonly changes: RunChanges;
    readonly clock: Clock;
    readonly endpoints: MachineEndpoints;
    readonly minAgentVersion: () => Promise<string | undefined>;
  }) {
    this.#repository = of.repository;
    this.#changes = of.changes;
    this.#clock = of.clock;
    this.#endpoints = of.endpoints;
    this.#minAgentVersion = of.minAgentVersion;
  }

  async get(caller: Caller, id: string): Promise<MachineView> {
    const machine = await this.#get(caller, 'view', id);
    return this.#view(machine);
  }

  /** In the order of registration. */
  async list(
    caller: Caller,
    query: PageQuery,
  ): Promise<{ readonly items: readonly MachineView[]; readonly next: string | undefined }> {
    requireIn(caller, 'view');
    const from = { kind: MACHINE, index: MACHINES_INDEX };
    const { items, next }: Page<Machine> = await pageOf(this.#repository, from, query);
    return { items: await Promise.all(items.map(machine => this.#view(machine))), next };
  }

  /** Name, description, labels and settings. Whoever ends maintenance ends draining too. */
  async patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Machine>> {
    const { maintenance, ...settings } = parseBody(machinePatchSchema, body);
    return this.#change(caller, id, 'machine.patch', before => {
      requireVersion(before, ifMatch);
      const { isInMaintenance, isDraining } = before.value;
      return {
        ...before.value,
        ...withoutUndefined(settings),
        isInMaintenance: maintenance ?? isInMaintenance,
        isDraining: isDraining && maintenance !== false,
      };
    });
  }

  /** Nothing new is offered; it is inactive when the last run has ended. */
  drain(caller: Caller, id: string): Promise<Versioned<Machine>> {
    return this.#change(caller, id, 'machine.drain', ({ value }) => ({
      ...value,
      isDraining: true,
    }));
  }

  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Machine>> {
    const name = parseBody(principalSchema, principal);
    const given = parseBody(v.optional(grantSchema), grant);
    const action = `machine.access.${given ?? 'none'}:${name}`;
    return this.#change(
      caller,
      id,
      action,
      ({ value }) => ({ ...value, access: withGrant(value.access, name, given) }),
      'share',
    );
  }

  /** Its listener is closed, what waits for it fails, what runs on it is lost unless it still reports. */
  async delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void> {
    const machine = await this.#get(caller, 'delete', id);
    requireVersion(machine, ifMatch);
    await this.remove(caller.name, id);
  }

  /** Without asking for rights: the registration that took its place had them. */
  async remove(by: string, id: string): Promise<void> {
    await this.#repository.change(async () => {
      const machine = await this.#repository.get(MACHINE, id);
      const draft = new Draft();
      if (machine !== undefined) await this.#removeAll(draft, machine, by);
      return { draft, answer: undefined };
    });
    await this.#endpoints.delete(audienceOf(this.#repository.partition, id));
    const queue = queueIndex({ kind: 'machine', id });
    await failWaiting(this.#repository, this.#changes, queue, { code: 'MachineNotFound' });
  }

  async #removeAll(draft: Draft, machine: Versioned<Machine>, by: string): Promise<void> {
    const { id, value } = machine;
    const presence = await this.#repository.get(PRESENCE, id);
    const install = await this.#repository.get(INSTALL, value.installId);
    draft.remove(MACHINE, machine).drop(MACHINES_INDEX, id).drop(IDLE_INDEX, id);
    draft.clearIndex(`wake:${id}`);
    for (const index of [ROTATIONS_INDEX, FORMER_KEYS_INDEX]) draft.drop(index, `machine:${id}`);
    if (presence !== undefined) draft.remove(PRESENCE, presence);
    if (install?.value.machineId === id) draft.remove(INSTALL, install);
    if (value.group !== undefined) draft.drop(membersIndex(value.group.id), id);
    // Of its keys the fingerprint alone stays.
    const details = { kid: value.encryptionKey.kid, name: value.name };
    audit(draft, { atMs: this.#clock.wallMs(), action: 'machine.delete', by, object: id, details });
  }

  async #view(machine: Versioned<Machine>): Promise<MachineView> {
    const { id, value } = machine;
    const groupId = value.group?.id;
    const [presence, group, unattended, attended, waiting, minAgentVersion] = await Promise.all([
      this.#repository.get(PRESENCE, id),
      groupId === undefined ? undefined : this.#repository.get(GROUP, groupId),
      this.#repository.count(slotsIndex(id, 'unattended')),
      this.#repository.count(slotsIndex(id, 'attended')),
      this.#repository.count(queueIndex({ kind: 'machine', id })),
      this.#minAgentVersion(),
    ]);
    const situation = { machine: value, presence: presence?.value, minAgentVersion };
    const reasons = reasonsOf({ ...situation, group: group?.value });
    return {
      machine,
      presence: presence?.value,
      presenceState: presenceStateOf(presence?.value, this.#clock.wallMs()),
      state: machineStateOf(reasons, unattended + attended),
      reasons,
      running: { unattended, attended },
      waiting,
    };
  }

  async #get(caller: Caller, action: Action, id: string): Promise<Versioned<Machine>> {
    requireIn(caller, 'view');
    const machine = await this.#repository.get(MACHINE, id);
    if (machine === undefined) throw new Problem('MachineNotFound');
    requireMay(caller, action, machine.value);
    return machine;
  }

  #change(
    caller: Caller,
    id: string,
    action: string,
    change: (before: Versioned<Machine>) => Machine,
    needed: Action = 'edit',
  ): Promise<Versioned<Machine>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, needed, id);
      const nowMs = this.#clock.wallMs();
      // Whatever was set, whoever was refused may now be taken.
      const value = { ...change(before), eligibleAtMs: nowMs };
      const draft = wake(new Draft().replace(MACHINE, before, value), id, nowMs);
      audit(draft, { atMs: nowMs, action, by: caller.name, object: id });
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }
}

type Given<Fields> = { readonly [Name in keyof Fields]?: Exclude<Fields[Name], undefined> };

function withoutUndefined<Fields extends object>(fields: Fields): Given<Fields>;
function withoutUndefined(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
