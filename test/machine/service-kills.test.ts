import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FINAL_STATES } from '../../src/dispatch/run-state.ts';
import { startMachineProcess, type MachineProcess } from '../support/machine-process.ts';
import { controlBench } from '../support/machine-runs.ts';
import { below, seeded } from '../support/seeded.ts';
import { someFolder } from '../support/some-folder.ts';

const ENDS: ReadonlySet<string> = FINAL_STATES;
const ROUNDS = 12;
const SEED = Number(process.env['HALFWAY_TEST_SEED'] ?? 20_251);
/** The rounds, and then everything has to come to its end. */
const TEST_MS = 240_000;
const END_MS = 60_000;

/**
 * The service is killed at random instants while runs are offered, started, running and reported; reports and
 * their answers get lost besides. Each job writes down that it was launched: nobody's word is taken for it.
 */
test(
  'a service that is killed again and again launches nothing twice and loses no result',
  async () => {
    const random = seeded(SEED);
    using home = someFolder();
    const launches = join(home.path, 'launches');
    const control = await controlBench();
    const runs: string[] = [];
    const startService = (instance: string): Promise<MachineProcess> =>
      startMachineProcess(
        {
          folder: join(home.path, 'jobs'),
          socketFolder: join(home.path, 's'),
          instance,
          host: 'process',
        },
        control.reporter,
      );
    const submit = async (): Promise<void> => {
      const script =
        `echo "$HALFWAY_RUN_ID $HALFWAY_ATTEMPT" >> ${launches}; sleep 0.${below(random, 10)}; ` +
        `echo '{"a":1}' > "$HALFWAY_OUTPUTS"`;
      const job = { ref: 'job', kind: 'command', command: ['/bin/sh', '-c', script] };
      runs.push(await control.submit({ job }));
    };
    /** As the dispatcher does: what waits is assigned, what was not answered is offered again or given up. */
    const offerAll = async (to: MachineProcess): Promise<void> => {
      for (const runId of runs) {
        const state = await control.state(runId);
        if (state !== 'Queued' && state !== 'Assigned') continue;
        const offer =
          state === 'Assigned' ? control.offerAgain(runId) : await control.assign(runId);
        const answer = await to.offer(offer);
        const { fence } = offer;
        const fault = { code: 'ConnectionTimeout' } as const;
        if (typeof answer === 'object' && answer !== null && 'code' in answer) {
          const refused = { type: 'refused', fence, fault, hasOthers: false } as const;
          await control.changes.advance(runId, refused);
        } else if (answer === undefined && random() < 0.5) {
          await control.changes.advance(runId, { type: 'unanswered', fence, fault });
        }
      }
    };

    control.channel.disturb = () => {
      if (random() < 0.05) throw control.unreachable();
    };
    for (let round = 0; round < ROUNDS; round += 1) {
      const machine = await startService(`i${round}`);
      await submit();
      await submit();
      const offering = offerAll(machine);
      await new Promise(resolve => void setTimeout(resolve, below(random, 1_500)));
      await machine.kill();
      await offering;
    }
    control.channel.disturb = () => undefined;
    const machine = await startService('last');
    const deadlineMs = performance.now() + END_MS;
    let states: readonly string[] = [];
    for (;;) {
      await offerAll(machine);
      states = await Promise.all(runs.map(runId => control.state(runId)));
      if (states.every(state => ENDS.has(state))) break;
      const why = `seed ${SEED}: ${states.join(' ')} ${machine.output()}`;
      expect(performance.now(), why).toBeLessThan(deadlineMs);
      await new Promise(resolve => void setTimeout(resolve, 300));
    }
    await machine.kill();

    const launched = existsSync(launches)
      ? readFileSync(launches, 'utf8').trimEnd().split('\n')
      : [];
    const launchedRuns = launched.map(line => line.split(' ')[0]);
    expect(new Set(launchedRuns).size, `seed ${SEED}: ${launched.join(', ')}`).toBe(
      launched.length,
    );
    // Killed in the instant between writing down a launch and telling it to go, it cannot know what ran.
    const lost = states.filter(state => state === 'Lost').length;
    const succeeded = states.filter(state => state === 'Succeeded').length;
    expect(succeeded + lost, `seed ${SEED}: ${states.join(' ')}`).toBe(runs.length);
    expect(launched.length).toBeGreaterThanOrEqual(succeeded);
    expect(lost).toBeLessThanOrEqual(1);
  },
  TEST_MS,
);
