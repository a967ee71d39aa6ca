import { expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { CallbackDelivery } from '../../src/dispatch/callback-delivery.ts';
import { CallbackKeys } from '../../src/dispatch/callback-keys.ts';
import { Chores } from '../../src/dispatch/chores.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { Dispatcher } from '../../src/dispatch/dispatcher.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import { indexesOf } from '../../src/dispatch/run-indexes.ts';
import { FINAL_STATES } from '../../src/dispatch/run-state.ts';
import { Problem } from '../../src/dispatch/problem.ts';
import { Repository } from '../../src/dispatch/repository.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { SimulatedMachine } from '../support/dispatch-machine.ts';
import { settled } from '../support/fake-machines.ts';
import { KillableStore } from '../support/killable-store.ts';
import { below, seeded } from '../support/seeded.ts';
import { silentLogger } from '../support/silent-logger.ts';

const HISTORIES = 25;
const STEPS = 120;
const RUNS_MAX = 12;
const MACHINES = ['m1', 'm2', 'm3'];

/** Dispatchers of one node after the other, each killed in the middle of something. */
class MortalDispatcher {
  readonly #bench: DispatchBench;
  readonly #random: () => number;
  readonly #machines: ReadonlyMap<string, SimulatedMachine>;
  readonly #keys: DispatchKeys;
  /** Ids of all callbacks that ever were answered. */
  readonly told = new Set<string>();
  #store: KillableStore;
  #dispatcher: Dispatcher;

  constructor(
    bench: DispatchBench,
    random: () => number,
    machines: ReadonlyMap<string, SimulatedMachine>,
    keys: DispatchKeys,
  ) {
    this.#bench = bench;
    this.#random = random;
    this.#machines = machines;
    this.#keys = keys;
    this.#store = new KillableStore(bench.store, random);
    this.#dispatcher = this.#make();
  }

  start(): void {
    void this.#dispatcher.start();
  }

  /** Kills it in one of the next calls; the next one takes over at some later step. */
  killSoon(): void {
    this.#store.dieIn(1 + below(this.#random, 30));
  }

  get isDead(): boolean {
    return this.#store.isDead;
  }

  replace(): void {
    this.#store.dieIn(0);
    this.#store = new KillableStore(this.#bench.store, this.#random);
    this.#dispatcher = this.#make();
    this.start();
  }

  async stop(): Promise<void> {
    await this.#dispatcher.stop();
  }

  #choresOf(repository: Repository, clock: Clock): Chores {
    const store = this.#store;
    const delivery = new CallbackDelivery({
      repository,
      sender: {
        send: ({ headers }) => {
          if (store.isDead) return new Promise(() => undefined);
          this.told.add(headers['webhook-id'] ?? '');
          return Promise.resolve({ type: 'answer', status: 200 });
        },
      },
      keys: new CallbackKeys(repository, clock),
      clock,
      log: silentLogger,
      wake: () => undefined,
    });
    const failure = 'callbacks could not be made';
    const chore = { failure, everyMs: 1_000, run: () => delivery.sweep() };
    return new Chores([chore], clock, silentLogger);
  }

  #make(): Dispatcher {
    const store = this.#store;
    // Timers of a process end with it.
    const clock: Clock = {
      nowMs: () => this.#bench.clock.nowMs(),
      wallMs: () => this.#bench.clock.wallMs(),
      after: (ms, task) => this.#bench.clock.after(ms, () => (store.isDead ? undefined : task())),
    };
    return new Dispatcher({
      store,
      environments: new Environments(store, clock),
      keys: this.#keys,
      clock,
      choresOf: environment => this.#choresOf(new Repository(store, environment), clock),
      random: this.#random,
      log: silentLogger,
      sender: {
        send: async request => {
          if (store.isDead) return new Promise(() => undefined);
          const machine = this.#machines.get(request.machineId);
          return Promise.resolve(
            machine?.offered(request) ?? { type: 'fault', code: 'NoListenerConnected' },
          );
        },
      },
    });
  }
}

test.each(Array.from({ length: HISTORIES }, (_history, seed) => seed))(
  'history %i: no run is started twice, none is lost, and each ends in a state that is true',
  async seed => {
    const random = seeded(seed + 1);
    let areFailing = true;
    const fail = () => areFailing && random() < 0.15;
    const bench = dispatchBench();
    const keys = new DispatchKeys(bench.store, bench.clock);
    await keys.sign('', '');
    const environments = new Environments(bench.store, bench.clock);
    await environments.create({ name: 'token:bootstrap', isAdmin: true }, { id: 'dev' });
    await bench.addGroup('g1');
    await bench.addMachine('m1', { allocatedBots: 2 });
    const machines = new Map(MACHINES.map(id => [id, new SimulatedMachine(id, random, fail)]));
    for (const id of ['m2', 'm3']) await bench.addMachine(id);
    await bench.repository.change(async () => bench.membersOf('g1', ['m2', 'm3']));
    await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
    await bench.addConnection('cg', { kind: 'group', id: 'g1' });
    for (const id of MACHINES) await bench.setPresence(id);
    const dispatcher = new MortalDispatcher(bench, random, machines, keys);
    dispatcher.start();

    const runs = new Map<string, { readonly mayRunAgain: boolean }>();
    const cancelled = new Set<string>();
    const step = async (choice: number): Promise<void> => {
      const machine = machines.get(MACHINES[below(random, MACHINES.length)] ?? '');
      if (machine === undefined) return;
      if (choice < 0.12 && runs.size < RUNS_MAX) {
        const mayRunAgain = random() < 0.3;
        const connectionId = random() < 0.5 ? 'c1' : 'cg';
        const again = mayRunAgain ? { onLost: 'requeue', maxAttempts: 3 } : {};
        const callbackUrl = 'https://example.com/';
        const about = { connectionId, timeoutSeconds: 600, callbackUrl };
        const id = await bench.submit({ ...about, ...again });
        runs.set(id, { mayRunAgain });
      } else if (choice < 0.16 && runs.size > 0) {
        const id = [...runs.keys()][below(random, runs.size)] ?? '';
        try {
          await bench.control.cancel(ANN, id, 'stop');
          cancelled.add(id);
        } catch (error) {
          // It was over.
          if (!(error instanceof Problem)) throw error;
        }
      } else if (choice < 0.2) machine.crash();
      else if (choice < 0.26 && !machine.isUp) {
        machine.isUp = true;
        await bench.setPresence(machine.id, { gainedAtMs: bench.clock.wallMs() });
      } else if (choice < 0.3) dispatcher.killSoon();
      else if (choice < 0.36 && dispatcher.isDead) dispatcher.replace();
      else if (choice < 0.5) {
        bench.clock.advance(below(random, 40_000));
        for (const { id, isUp } of machines.values()) if (isUp) await bench.signal(id);
      } else await machine.act(bench.reports);
      await settled(2);
    };
    for (let count = 0; count < STEPS; count += 1) await step(random());

    // From here on all is well, and everything comes to its end.
    areFailing = false;
    dispatcher.replace();
    for (const machine of machines.values()) {
      machine.isUp = true;
      await bench.setPresence(machine.id, { gainedAtMs: bench.clock.wallMs() });
    }
    const states = async () => Promise.all([...runs.keys()].map(id => bench.state(id)));
    for (let count = 0; count < 400; count += 1) {
      const left = (await states()).filter(state => !isFinal(state));
      if (left.length === 0) break;
      bench.clock.advance(2_000);
      for (const machine of machines.values()) {
        await bench.signal(machine.id);
        for (let acts = 0; acts < 4; acts += 1) await machine.act(bench.reports);
      }
      await settled(2);
    }
    for (let acts = 0; acts < 40; acts += 1) {
      for (const machine of machines.values()) await machine.act(bench.reports);
    }
    // Longer than whoever died may have had a callback in hand.
    for (let count = 0; count < 40; count += 1) {
      bench.clock.advance(2_000);
      await settled(2);
    }
    await dispatcher.stop();

    const launches = [...machines.values()].flatMap(machine => machine.launches);
    expect(new Set(launches).size).toBe(launches.length);
    for (const [id, { mayRunAgain }] of runs) {
      const { value } = await bench.changes.get(id);
      expect(isFinal(value.state), `${id} is ${value.state}`).toBe(true);
      const times = launches.filter(launch => launch.startsWith(`${id} `)).length;
      expect(times).toBeLessThanOrEqual(mayRunAgain ? 3 : 1);
      const ends = [...machines.values()].flatMap(({ finished }) => finished.get(id) ?? []);
      if (value.state === 'Succeeded') expect(ends).toContain('Succeeded');
      if (value.state === 'Cancelled') expect(cancelled.has(id)).toBe(true);
      if (value.state === 'Lost') expect(times).toBeGreaterThan(0);
      expect(dispatcher.told, `${id} is ${value.state}`).toContain(`${id}.${value.state}`);
      // Whatever ran to its end without anybody's leave to stop it counts.
      if (ends.includes('Succeeded') && !mayRunAgain) expect(value.state).toBe('Succeeded');
      for (const [index, score] of indexesOf(value)) {
        await expect(bench.repository.score(index, id)).resolves.toBe(score);
      }
    }
    for (const index of ['leases', 'deadlines', 'q:machine:m1', 'q:group:g1', 'queues', 'outbox']) {
      await expect(bench.repository.count(index)).resolves.toBe(0);
    }
    for (const id of MACHINES) {
      await expect(bench.repository.count(`slots:${id}`)).resolves.toBe(0);
    }
  },
);

function isFinal(state: string): boolean {
  return [...FINAL_STATES].some(final => final === state);
}
