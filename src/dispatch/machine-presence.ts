import type { Clock } from '../base/clock.ts';
import type { Hello } from '../jobs/messages.ts';
import { audit } from './audit.ts';
import { presenceStateOf } from './machine-state.ts';
import { parseMoment } from './moments.ts';
import { Problem } from './problem.ts';
import { MACHINE, PRESENCE, type Machine, type Presence } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { STALE_AFTER_MS } from '../jobs/limits.ts';

/** Signals in between are not written: there are many. */
const SIGNAL_EVERY_MS = 10_000;
/** Machines of which is remembered when they were heard of; when there are more, all are looked up anew. */
const HEARD_MACHINES_MAX = 20_000;
const EARLIER_INSTANCES_MAX = 4;
/** Of whom it is kept that they came back. */
const RETURNED_MAX = 16;

/** Index that is written to when a machine may be asked again: the dispatcher watches it. */
export function wakeIndex(machineId: string): string {
  return `wake:${machineId}`;
}

export function wake(draft: Draft, machineId: string, nowMs: number): Draft {
  return draft.add(wakeIndex(machineId), 'at', nowMs);
}

/** Signals of life, and what machines say of themselves. */
export class MachinePresence {
  readonly #repository: Repository;
  readonly #clock: Clock;
  /** `lastSignalAtMs` of machines that are connected, as this process has read or written it last. */
  readonly #lastSignalsAtMs = new Map<string, number>();

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /**
   * Takes a machine's `hello`. Throws `MachineIdentityConflict`, from then on until it is registered again,
   * when another installation or a second process speaks in its name.
   */
  async hello(
    machineId: string,
    hello: Hello,
    sourceAddress?: string,
  ): Promise<{ readonly clockSkewMs: number }> {
    const outcome = await this.#repository.change<'conflict' | { readonly clockSkewMs: number }>(
      async () => {
        const machine = await this.#machine(machineId);
        const before = await this.#repository.get(PRESENCE, machineId);
        const presence = presenceAfter(hello, before?.value, this.#clock.wallMs(), sourceAddress);
        const draft = new Draft().unchanged(MACHINE, machine);
        if (isConflict(machine.value, hello, presence)) {
          this.#markConflict(draft, machine, hello);
          return { draft, answer: 'conflict' };
        }
        if (presence.gainedAtMs !== before?.value.gainedAtMs) {
          wake(draft, machineId, presence.gainedAtMs);
        }
        put(draft, machineId, before, presence);
        return { draft, answer: { clockSkewMs: presence.clockSkewMs } };
      },
    );
    if (outcome === 'conflict') throw new Problem('MachineIdentityConflict');
    return outcome;
  }

  /**
   * Any authenticated request of the machine: there are many, and most write nothing, so between two that do nothing is
   * read. Where another node has noted that it left, its requests may change that so much later.
   */
  async heard(machineId: string): Promise<void> {
    const silentMs = this.#clock.wallMs() - (this.#lastSignalsAtMs.get(machineId) ?? -Infinity);
    if (silentMs < 0 || silentMs >= SIGNAL_EVERY_MS) await this.signal(machineId);
  }

  /** A sign of life: it is there from now on, if it was not. */
  async signal(machineId: string): Promise<void> {
    const lastSignalAtMs = await this.#repository.change<number | undefined>(async () => {
      const before = await this.#repository.get(PRESENCE, machineId);
      const draft = new Draft();
      const nowMs = this.#clock.wallMs();
      // Before its first hello nothing is known that a run could be chosen by.
      if (before === undefined) return { draft, answer: undefined };
      const wasThere = presenceStateOf(before.value, nowMs) === 'Connected';
      const isSoon = nowMs - before.value.lastSignalAtMs < SIGNAL_EVERY_MS;
      if (wasThere && isSoon) return { draft, answer: before.value.lastSignalAtMs };
      const gainedAtMs = wasThere ? before.value.gainedAtMs : nowMs;
      put(draft, machineId, before, { ...before.value, lastSignalAtMs: nowMs, gainedAtMs });
      if (!wasThere) wake(draft, machineId, nowMs);
      return { draft, answer: nowMs };
    });
    if (lastSignalAtMs === undefined) return;
    if (this.#lastSignalsAtMs.size >= HEARD_MACHINES_MAX) this.#lastSignalsAtMs.clear();
    this.#lastSignalsAtMs.set(machineId, lastSignalAtMs);
  }

  /** The relay has lost its listener: nothing is offered until it speaks again. */
  async left(machineId: string): Promise<void> {
    await this.#repository.change(async () => {
      const before = await this.#repository.get(PRESENCE, machineId);
      const draft = new Draft();
      if (before !== undefined) {
        const staleAtMs = this.#clock.wallMs() - STALE_AFTER_MS - 1;
        const lastSignalAtMs = Math.min(before.value.lastSignalAtMs, staleAtMs);
        put(draft, machineId, before, { ...before.value, lastSignalAtMs });
      }
      return { draft, answer: undefined };
    });
    this.#lastSignalsAtMs.delete(machineId);
  }

  #markConflict(draft: Draft, machine: Versioned<Machine>, { installId }: Hello): void {
    if (machine.value.hasIdentityConflict) return;
    draft.replace(MACHINE, machine, { ...machine.value, hasIdentityConflict: true });
    const entry = { atMs: this.#clock.wallMs(), action: 'machine.identity-conflict' };
    const by = `machine:${machine.id}`;
    audit(draft, { ...entry, by, object: machine.id, details: { installId } });
  }

  async #machine(machineId: string): Promise<Versioned<Machine>> {
    const machine = await this.#repository.get(MACHINE, machineId);
    if (machine === undefined) throw new Problem('MachineNotFound');
    return machine;
  }
}

function isConflict(machine: Machine, hello: Hello, { returned }: Presence): boolean {
  return (
    machine.hasIdentityConflict || hello.installId !== machine.installId || isTakingTurns(returned)
  );
}

/**
 * A message of a process that has ended may have been held up on its way: then it comes back once, and after it the
 * one that lives, and so for each that ended. Only of two that live do both come back again.
 */
function isTakingTurns(returned: Presence['returned']): boolean {
  const again = returned.filter((instance, at) => returned.indexOf(instance) < at);
  return new Set(again).size > 1;
}

function presenceAfter(
  hello: Hello,
  before: Presence | undefined,
  nowMs: number,
  sourceAddress: string | undefined,
): Presence {
  const said = {
    agentVersion: hello.agentVersion,
    os: hello.os,
    capacity: hello.capacity,
    sessions: hello.sessions,
    labels: hello.labels,
    keys: hello.keys,
  };
  const isSame =
    before !== undefined &&
    before.instance === hello.instance &&
    presenceStateOf(before, nowMs) === 'Connected' &&
    Object.entries(said).every(([name, value]) => isDeepEqual(value, readField(before, name)));
  return {
    ...said,
    ...instancesAfter(hello, before),
    lastSignalAtMs: nowMs,
    gainedAtMs: isSame ? before.gainedAtMs : nowMs,
    transport: hello.transport,
    sourceAddress,
    clockSkewMs: (parseMoment(hello.clock) ?? nowMs) - nowMs,
  };
}

function instancesAfter(
  { instance }: Hello,
  before: Presence | undefined,
): Pick<Presence, 'instance' | 'earlierInstances' | 'returned'> {
  if (before === undefined) return { instance, earlierInstances: [], returned: [] };
  if (before.instance === instance) {
    const { earlierInstances, returned } = before;
    return { instance, earlierInstances, returned };
  }
  const earlierInstances = [before.instance, ...before.earlierInstances].slice(
    0,
    EARLIER_INSTANCES_MAX,
  );
  // A process that has ended does not speak again; its name is drawn anew with each start.
  const isBack = before.earlierInstances.includes(instance);
  const returned = isBack ? [...before.returned, instance].slice(-RETURNED_MAX) : [];
  return { instance, earlierInstances, returned };
}

function put(
  draft: Draft,
  machineId: string,
  before: Versioned<Presence> | undefined,
  presence: Presence,
): void {
  if (before === undefined) draft.create(PRESENCE, machineId, presence);
  else draft.replace(PRESENCE, before, presence);
}

function readField(presence: Presence, name: string): unknown {
  return Object.entries(presence).find(([field]) => field === name)?.[1];
}

function isDeepEqual(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
