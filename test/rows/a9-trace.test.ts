import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { deskRuns } from '../support/desk-runs.ts';
import { machineBench } from '../support/machine-bench.ts';
import { machineDesk } from '../support/machine-desk.ts';
import { startMessageTap } from '../support/message-tap.ts';
import { orderOfRun, traceOfRun } from '../support/run-trace.ts';
import { until } from '../support/within.ts';

// Rows A7 and A9, direct half: a machine that is registered directly takes a full run, and what was said about it is
// exactly this. Through a gateway it has to be the same.

const TRACE = join(import.meta.dirname, 'trace-of-a-run.json');
const TEST_MS = 60_000;
const WAY_MS = 30_000;
/** The offer, the start, a renewal before the launch and one after, progress, log, result. */
const EXPECTED = 7;

test(
  'a direct run is told by exactly these messages',
  async () => {
    await using bench = await machineBench();
    const goOn = `${bench.place.path}/go-on`;
    await using tap = await startMessageTap(bench.relay.port);
    const desk = machineDesk({
      state: `${bench.place.path}/desk`,
      env: { HALFWAY_API_TOKEN: bench.apiToken, GO_ON: goOn },
    });
    await desk.command(['register', '--name', 'desk', '--endpoint', tap.origin]);
    await using service = await desk.service(['--socket-folder', `${bench.place.path}/s`]);
    await until('listening', () => service.output().includes('listening through'), WAY_MS);
    const runs = deskRuns(bench);
    const connection = await runs.connect('me', 'desk');
    // It ends when its log and its progress were told: nothing of that is left for the end.
    const script = `echo hello; echo '{"step":"half","done":1,"total":2}' >> "$HALFWAY_PROGRESS"
      until [ -e "$GO_ON" ]; do sleep 0.1; done; echo '{"sum":3}' > "$HALFWAY_OUTPUTS"`;
    const run = await runs.start(connection, ['sh', '-c', script]);
    const told = () => traceOfRun(tap.exchanges, run);
    const isTold = (messages: number): Promise<void> =>
      until(`${messages} kinds of messages`, () => told().length >= messages, WAY_MS);
    await isTold(EXPECTED - 1);
    writeFileSync(goOn, '');
    await runs.untilState(run, 'Succeeded');
    await isTold(EXPECTED);
    await expect(`${JSON.stringify(told(), null, 2)}\n`).toMatchFileSnapshot(TRACE);
    const order = orderOfRun(tap.exchanges, run);
    expect(order.indexOf('start')).toBeLessThan(order.indexOf('renew'));
    expect(order.at(-1)).toBe('result');
  },
  TEST_MS,
);
