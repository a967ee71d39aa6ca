import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { ActivationCodes } from './activation-codes.ts';
import { ApiTokens } from './api-tokens.ts';
import { CallbackDelivery } from './callback-delivery.ts';
import { CallbackKeys } from './callback-keys.ts';
import type { CallbackSender } from './callback-sender.ts';
import { OUTBOX_INDEX } from './callbacks.ts';
import { Chores, type Chore } from './chores.ts';
import { ConnectionTests } from './connection-tests.ts';
import { Connections } from './connections.ts';
import { DispatchKeys } from './dispatch-key.ts';
import { Dispatcher } from './dispatcher.ts';
import type { DispatcherParts } from './environment-dispatch.ts';
import { Environments } from './environments.ts';
import { GroupMembership } from './group-membership.ts';
import { GroupRotation } from './group-rotation.ts';
import { Groups } from './groups.ts';
import { KeyRotationChore } from './key-rotation-chore.ts';
import { ROTATIONS_INDEX } from './key-retirement.ts';
import { MachineCommands } from './machine-commands.ts';
import { MachineKeys } from './machine-keys.ts';
import { MachineOperations } from './machine-operations.ts';
import { MachinePresence } from './machine-presence.ts';
import { MachineRegistration } from './machine-registration.ts';
import type { MachineSender } from './machine-sender.ts';
import { MachineTokens } from './machine-tokens.ts';
import { Machines } from './machines.ts';
import type { MachineEndpoints, RelayTokens } from './ports.ts';
import { Problem } from './problem.ts';
import { environmentIdSchema, idSchema } from './records.ts';
import { Repository } from './repository.ts';
import { Retention } from './retention.ts';
import { Resealing } from './resealing.ts';
import { RunAs } from './run-as.ts';
import { RunChanges } from './run-changes.ts';
import { RunControl } from './run-control.ts';
import { RunLogs } from './run-logs.ts';
import { RunReports } from './run-reports.ts';
import { Runs, type Submitted } from './runs.ts';
import { ScheduleFiring } from './schedule-firing.ts';
import { Schedules } from './schedules.ts';
import { TriggerFiring, type Delivery } from './trigger-firing.ts';
import { Triggers } from './triggers.ts';

export interface ControlPlaneParts {
  readonly store: DispatchStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly sender: MachineSender;
  readonly endpoints: MachineEndpoints;
  readonly relayTokens: RelayTokens;
  /** Of the first administrator; undefined: only tokens that were made before are taken. */
  readonly bootstrapToken?: string | undefined;
  readonly onOffer?: DispatcherParts['onOffer'];
  /** Undefined: callbacks wait until there is a process that has one. */
  readonly callbackSender?: CallbackSender | undefined;
}

/** Of chores that look at an index: as often as anybody looks. */
const SWEEP_MS = 1_000;
const CALLBACKS_AT_ONCE_MAX = 8;
const RETENTION_SWEEP_MS = 10_000;
const ROTATIONS_SWEEP_MS = 60_000;
const KEYS_LOOK_MS = 3_600_000;

/** All there is of one environment. */
export interface EnvironmentServices {
  readonly repository: Repository;
  readonly runs: Runs;
  readonly control: RunControl;
  readonly reports: RunReports;
  readonly logs: RunLogs;
  readonly machines: Machines;
  readonly commands: MachineCommands;
  readonly operations: MachineOperations;
  readonly registration: MachineRegistration;
  readonly presence: MachinePresence;
  readonly codes: ActivationCodes;
  readonly groups: Groups;
  readonly membership: GroupMembership;
  readonly rotation: GroupRotation;
  readonly machineKeys: MachineKeys;
  readonly connections: Connections;
  readonly connectionTests: ConnectionTests;
  readonly schedules: Schedules;
  readonly scheduleFiring: ScheduleFiring;
  readonly triggers: Triggers;
  readonly callbackKeys: CallbackKeys;
  readonly triggerFiring: TriggerFiring;
}

/** Job dispatch put together: what REST routes and the composition root take their parts from. */
export class ControlPlane {
  readonly tokens: ApiTokens;
  readonly environments: Environments;
  readonly machineTokens: MachineTokens;
  readonly keys: DispatchKeys;
  readonly dispatcher: Dispatcher;
  readonly #parts: ControlPlaneParts;
  readonly #services = new Map<string, EnvironmentServices>();

  constructor(parts: ControlPlaneParts) {
    const { store, clock, log, random, sender, relayTokens, bootstrapToken, onOffer } = parts;
    this.#parts = parts;
    this.tokens = new ApiTokens(store, clock, bootstrapToken);
    this.environments = new Environments(store, clock);
    this.keys = new DispatchKeys(store, clock);
    this.machineTokens = new MachineTokens(store, clock, relayTokens);
    this.dispatcher = new Dispatcher({
      store,
      clock,
      log,
      random,
      sender,
      environments: this.environments,
      keys: this.keys,
      ...(onOffer === undefined ? {} : { onOffer }),
      choresOf: environment => this.#choresOf(environment),
    });
  }

  /** Of an environment that is there: whoever asks has entered it (`Environments.enter`) before. */
  in(environment: string): EnvironmentServices {
    const known = this.#services.get(environment);
    if (known !== undefined) return known;
    const made = this.#make(environment);
    this.#services.set(environment, made);
    return made;
  }

  /** A request of a webhook, by somebody who has no token. See `TriggerFiring.receive`. */
  async receive(environment: string, triggerId: string, delivery: Delivery): Promise<Submitted> {
    // Strangers choose the name: nothing is made for one that is not there.
    const isThere = v.is(environmentIdSchema, environment) && v.is(idSchema, triggerId);
    if (!isThere || (await this.environments.find(environment)) === undefined) {
      throw new Problem('TokenInvalid');
    }
    return this.in(environment).triggerFiring.receive(triggerId, delivery);
  }

  #choresOf(environment: string): Chores {
    const { clock, log, callbackSender } = this.#parts;
    const { scheduleFiring, repository, callbackKeys, rotation, machineKeys } =
      this.in(environment);
    const rotations = new KeyRotationChore({
      repository,
      groups: rotation,
      machines: machineKeys,
      clock,
    });
    const runDays = async (): Promise<number | undefined> =>
      (await this.environments.find(environment))?.value.runDays;
    const retention = new Retention(repository, clock, runDays);
    const chores: Chore[] = [
      {
        failure: 'schedules could not be started',
        everyMs: SWEEP_MS,
        run: () => scheduleFiring.sweep(),
      },
      {
        failure: 'old runs could not be removed',
        everyMs: RETENTION_SWEEP_MS,
        run: () => retention.sweep(),
      },
      {
        failure: 'keys could not be changed',
        everyMs: ROTATIONS_SWEEP_MS,
        topic: ROTATIONS_INDEX,
        run: () => rotations.sweep(),
      },
      {
        failure: 'the key that signs offers could not be looked at',
        everyMs: KEYS_LOOK_MS,
        run: () => this.keys.keepFresh(),
      },
    ];
    const made = new Chores(chores, clock, log);
    if (callbackSender !== undefined) {
      const wake = (): void => made.onTopics([OUTBOX_INDEX]);
      const about = { repository, sender: callbackSender, keys: callbackKeys, clock, log, wake };
      const delivery = new CallbackDelivery(about);
      chores.push({
        failure: 'callbacks could not be made',
        everyMs: SWEEP_MS,
        topic: OUTBOX_INDEX,
        atOnceMax: CALLBACKS_AT_ONCE_MAX,
        run: () => delivery.sweep(),
        stop: () => delivery.stop(),
      });
    }
    return made;
  }

  #make(environment: string): EnvironmentServices {
    const { store, clock, endpoints, sender } = this.#parts;
    const repository = new Repository(store, environment);
    const changes = new RunChanges(repository, clock);
    const codes = new ActivationCodes(repository, clock);
    const minAgentVersion = async (): Promise<string | undefined> =>
      (await this.environments.find(environment))?.value.minAgentVersion;
    const principalNamed = this.tokens.find.bind(this.tokens);
    const runs = new Runs(repository, clock, principalNamed);
    const { environments } = this;
    const runAs = new RunAs({ environment, environments, runs, principalNamed });
    const machines = new Machines({ repository, changes, clock, endpoints, minAgentVersion });
    const commands = new MachineCommands({ repository, sender, keys: this.keys, clock });
    const resealing = new Resealing(repository, commands, clock);
    return {
      repository,
      runs,
      control: new RunControl(repository, changes, clock, run =>
        this.dispatcher.pushCancel(environment, run),
      ),
      reports: new RunReports(repository, changes, clock),
      logs: new RunLogs(repository, changes),
      machines,
      commands,
      operations: new MachineOperations({ repository, machines, commands, clock }),
      registration: new MachineRegistration({
        repository,
        clock,
        codes,
        endpoints,
        keys: this.keys,
      }),
      presence: new MachinePresence(repository, clock),
      codes,
      groups: new Groups(repository, changes, clock),
      membership: new GroupMembership(repository, clock),
      rotation: new GroupRotation({ repository, commands, resealing, clock }),
      machineKeys: new MachineKeys(repository, resealing, clock),
      connections: new Connections(repository, changes, clock),
      connectionTests: new ConnectionTests(repository, runs),
      schedules: new Schedules(repository, clock),
      scheduleFiring: new ScheduleFiring(repository, runAs, clock),
      triggers: new Triggers(repository, clock),
      callbackKeys: new CallbackKeys(repository, clock),
      triggerFiring: new TriggerFiring(repository, runAs, clock),
    };
  }
}
