// Servers, machine services, executors and Redis are killed at random instants while runs are submitted, offered,
// started, carried out and reported. In CI some of that; all of what is promised, 1,000 runs, by
//
//     HALFWAY_TEST_KILL_RUNS=1000 npx vitest run test/cluster-e2e/dispatch-kills.test.ts
//
// and another course of events by HALFWAY_TEST_SEED, a number that a failure names. (Of the same seed come the same
// kills after the same pauses; what they hit is chance.) All programs are the built ones, in a time that passes
// QUICK times faster: leases end within the patience of a test.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startClusterProxy } from '../support/cluster-proxy.ts';
import { startProcesses } from '../support/cluster-processes.ts';
import { API_TOKEN } from '../support/dispatch-process.ts';
import {
  allocate,
  connectionOfAccount,
  registerProgram,
  type MachineProgram,
} from '../support/machine-programs.ts';
import { quickTime } from '../support/quick-time.ts';
import { MortalOnes, RandomKills, type Mortal } from '../support/random-kills.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { RestCaller } from '../support/relay-machine.ts';
import { executorsBelow, killExecutor, RunDiaries } from '../support/run-diaries.ts';
import { faultsOf, RunSubmitter, type SeenRun } from '../support/submitted-runs.ts';
import { below, seeded } from '../support/seeded.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

const RUNS_IN_CI = 120;
const RUNS = Number(process.env['HALFWAY_TEST_KILL_RUNS'] ?? RUNS_IN_CI);
const SEED = Number(process.env['HALFWAY_TEST_SEED'] ?? 2_026);
const QUICK = 10;
const MACHINES = ['anna', 'bert', 'carl'] as const;
const RUNS_AT_ONCE = 5;
/** Callers that submit a run, wait until they see it end, and submit the next. */
const CALLERS = 24;
/** After the last kill all must come to its end: a lease after the start, its grace, and what runs a third time. */
const END_MS = 90_000;
const TEST_MS = 120_000 + RUNS * 2_000;
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];

test(
  'no run is started twice, none is lost, and each ends in a state that is true',
  async () => {
    const phases = new Phases();
    using time = quickTime(QUICK);
    using home = someFolder();
    await using redis = await startRedis(DURABLE, { env: time.wallEnv });
    await using cluster = await startProcesses({
      redisUrl: redis.url,
      settingOf: () => ({
        env: { ...time.env, HALFWAY_API_TOKEN: API_TOKEN, HALFWAY_DISPATCH: 'true' },
      }),
    });
    const { nodes } = cluster;
    await using proxy = await startClusterProxy(
      'haproxy',
      nodes.map(({ port }) => port),
      { tls: false },
    );
    const admin = new RestCaller(`http://127.0.0.1:${proxy.port}`, API_TOKEN);
    await using machines = await startMachines(admin, home.path, time.env);
    const { programs } = machines;
    const diaries = new RunDiaries(join(home.path, 'diaries'));
    mkdirSync(join(home.path, 'diaries'));
    const connections = await connectionsTo(admin, programs);

    phases.begin('kills');
    const random = seeded(SEED);
    const killed = new Set<string>();
    const mortals = [
      new MortalOnes(random, nodes),
      new MortalOnes(random, programs),
      new MortalOnes(random, [mortalRedis(redis)]),
    ] as const;
    const [servers, services, stores] = mortals;
    const kills = new RandomKills(random, [
      { kind: 'server', weight: 3, strike: servers.strike },
      { kind: 'machine service', weight: 3, strike: services.strike },
      { kind: 'Redis', weight: 1, strike: stores.strike },
      {
        kind: 'executor',
        weight: 2,
        strike: () => {
          const all = executorsBelow(home.path);
          const one = all[below(random, all.length)];
          const isKilled = one !== undefined && killExecutor(one);
          if (isKilled) killed.add(one.runId);
          return Promise.resolve(isKilled);
        },
      },
    ]);
    const submitter = new RunSubmitter(admin, seeded(SEED + 1), diaries, connections);
    const callers = Array.from({ length: CALLERS }, async () => {
      while (submitter.count < RUNS) await submitter.submitAndWait(id => killed.has(id));
    });
    const told = (): string => `seed ${SEED}: ${JSON.stringify(kills.counts)}`;
    try {
      await Promise.all(callers);
    } finally {
      await kills.stop();
    }
    await Promise.all(mortals.map(ones => ones.whole()));

    phases.begin('ends');
    // One that ends while there is no server.
    const last = await submitter.submit();
    await until('it has begun', () => diaries.of(last).length > 0, END_MS).catch(
      async (error: unknown) => {
        throw new Error(`${told()} ${await submitter.stateOfAll()}`, { cause: error });
      },
    );
    await Promise.all(nodes.map(node => node.kill()));
    await until('it has ended', () => diaries.of(last)[0]?.ends.length === 1, END_MS);
    await Promise.all(nodes.map(node => node.start()));

    let seen: readonly SeenRun[] = [];
    await until(
      `${told()}: all runs are over, and no machine has one in hand`,
      async () => {
        await new Promise(resolve => void setTimeout(resolve, 500));
        seen = await submitter.look();
        return (
          seen.every(({ isOver }) => isOver) && programs.every(one => one.inHand().length === 0)
        );
      },
      END_MS,
    ).catch(async (error: unknown) => {
      throw new Error(`${told()} ${await submitter.stateOfAll()}`, { cause: error });
    });
    seen = await submitter.lookAtLogs();
    const faults = seen.flatMap(run => faultsOf(run, diaries.of(run.id), killed.has(run.id)));
    const states = [...new Set(seen.map(({ state }) => state))];
    const counts = states.map(name => `${name} ${seen.filter(one => one.state === name).length}`);
    const summary = `${told()} ${counts.join(', ')}, ${submitter.repeats} requests repeated; ${phases.end()}`;
    if (RUNS !== RUNS_IN_CI) console.info(summary);
    expect(faults, summary).toEqual([]);
    expect(await submitter.countAtServer(), summary).toBe(submitter.count);
    expect(Object.keys(kills.counts).toSorted(), summary).toEqual([
      'Redis',
      'executor',
      'machine service',
      'server',
    ]);
  },
  TEST_MS,
);

async function startMachines(
  admin: RestCaller,
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<AsyncDisposable & { readonly programs: readonly MachineProgram[] }> {
  const programs = await Promise.all(
    MACHINES.map(async name => {
      const state = join(folder, name);
      const socketFolder = join(folder, `s-${name}`);
      const where = { endpoint: admin.origin, apiToken: API_TOKEN, name, state, socketFolder, env };
      const program = await registerProgram({ ...where, unattended: RUNS_AT_ONCE });
      await allocate(admin, program, RUNS_AT_ONCE);
      await program.start();
      return program;
    }),
  );
  return {
    programs,
    async [Symbol.asyncDispose]() {
      await Promise.all(programs.map(async program => program.kill()));
      for (const executor of executorsBelow(folder)) killExecutor(executor);
    },
  };
}

/** Of each machine one, and one of a group of the last two. */
async function connectionsTo(
  admin: RestCaller,
  programs: readonly MachineProgram[],
): Promise<readonly string[]> {
  const group = await admin.get('POST', '/environments/default/groups', { name: 'both' });
  const groupId = String(group['id']);
  for (const program of programs.slice(1)) await program.joinGroup(groupId, 'the-password-of-both');
  const targets = [
    ...programs.map(({ id }) => ({ kind: 'machine', id }) as const),
    { kind: 'group', id: groupId } as const,
  ];
  return Promise.all(targets.map(async target => connectionOfAccount(admin, target)));
}

/** How long what took. */
class Phases {
  readonly #told: string[] = [];
  #name = 'start';
  #beganAtMs = performance.now();

  begin(name: string): void {
    const nowMs = performance.now();
    this.#told.push(`${this.#name} ${Math.round((nowMs - this.#beganAtMs) / 1_000)} s`);
    this.#name = name;
    this.#beganAtMs = nowMs;
  }

  end(): string {
    this.begin('');
    return this.#told.join(', ');
  }
}

function mortalRedis(redis: TestRedis): Mortal {
  let isRunning = true;
  return {
    get isRunning() {
      return isRunning;
    },
    async start() {
      await redis.start();
      isRunning = true;
    },
    async kill() {
      isRunning = false;
      await redis.kill();
    },
  };
}
