import { writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { memoryOf } from '../../src/client/transport-memory.ts';
import { commandResult, runCommand } from '../cli/run-command.ts';
import { deskRuns } from '../support/desk-runs.ts';
import { machineBench } from '../support/machine-bench.ts';
import { startUpgradeObstacle } from '../support/upgrade-obstacle.ts';
import { until } from '../support/within.ts';

// Row A4: where a proxy strips handshakes of their Upgrade header, a machine does all by long-polling.

const TEST_MS = 60_000;
const WAY_MS = 30_000;

test(
  'without Upgrade a machine falls back, runs with progress and result, and returns to WebSocket in a run',
  async () => {
    await using bench = await machineBench();
    await using obstacle = await startUpgradeObstacle(bench.relay.port, 'strips');
    const origin = `http://127.0.0.1:${obstacle.port}`;
    const runs = deskRuns(bench);
    const { env } = runs;
    const state = ['--state', `${bench.place.path}/desk`];
    const register = ['machine', 'register', '--name', 'desk', '--endpoint', origin];
    const made = await commandResult([...register, ...state], { env, input: '' });
    expect(made).toMatchObject({ exitCode: 0 });
    const folder = ['--socket-folder', `${bench.place.path}/s`];
    // With the clock of this process, so that the library's memory of what passes is in reach below.
    await using service = runCommand(['machine', 'run', ...state, ...folder], { env });
    const listens = (transport: string): Promise<void> =>
      until(
        `listening by ${transport}`,
        () => service.out().includes(`"transport":"${transport}"`),
        WAY_MS,
      );
    await listens('poll');
    expect(obstacle.handshakes).toBeGreaterThan(0);

    const connection = await runs.connect('me', 'desk');
    const goOn = `${bench.place.path}/go-on`;
    const script = `echo '{"step":"half","done":1,"total":2}' >> "$HALFWAY_PROGRESS"; echo first
      until [ -e ${goOn} ]; do sleep 0.1; done
      echo '{"sum":3}' > "$HALFWAY_OUTPUTS"; echo second`;
    const run = await runs.start(connection, ['sh', '-c', script]);
    // Both come while it runs: it goes on only then.
    await runs.untilLog(run, 'first\n');
    const progress = async () => Object(await bench.ask('GET', `/runs/${run}/progress`)).items;
    await until('progress', async () => (await progress()).length > 0, WAY_MS);
    expect(await progress()).toMatchObject([{ step: 'half', done: 1, total: 2 }]);
    expect(service.out()).not.toContain('"transport":"websocket"');

    // The way is clear in the middle of the run. Sessions look at that every ten minutes, and when somebody of the same
    // process got through, which is said here in the name of such a one.
    obstacle.clear();
    memoryOf(systemClock).webSocketWorked(origin);
    await listens('websocket');
    writeFileSync(goOn, '');
    await runs.untilState(run, 'Succeeded');
    expect(await bench.ask('GET', `/runs/${run}/outputs`)).toMatchObject({ outputs: { sum: 3 } });
    await runs.untilLog(run, 'first\nsecond\n');
    // The next one comes over the WebSocket.
    await runs.untilState(await runs.start(connection, ['true']), 'Succeeded');
  },
  TEST_MS,
);
