import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { deskRuns } from '../support/desk-runs.ts';
import { machineBench } from '../support/machine-bench.ts';
import { machineDesk } from '../support/machine-desk.ts';

// Row A2: a run has a process of its own, whose end is the end of that run and of nothing else, and which goes on when
// the service is killed. At each instant of a run, and many times over: test/machine/service-kills.test.ts.

const TEST_MS = 60_000;

test(
  'a killed executor fails its run and not the service; a killed service fails no run',
  async () => {
    await using bench = await machineBench();
    const runs = deskRuns(bench);
    const goOn = `${bench.place.path}/go-on`;
    const launches = `${bench.place.path}/launches`;
    const desk = machineDesk({
      state: `${bench.place.path}/desk`,
      env: { HALFWAY_API_TOKEN: bench.apiToken, GO_ON: goOn, LAUNCHES: launches },
    });
    await desk.command(['register', '--name', 'desk', '--endpoint', bench.relay.httpUrl]);
    const sockets = ['--socket-folder', `${bench.place.path}/s`];
    const first = await desk.service(sockets);
    const connection = await runs.connect('me', 'desk');

    const doomed = await runs.start(connection, ['sh', '-c', 'echo "$PPID"; exec sleep 300']);
    await runs.untilLog(doomed, '\n');
    const executor = Number(await runs.logOf(doomed));
    expect(parentOf(executor)).toBe(first.pid);
    process.kill(executor, 'SIGKILL');
    const failed = await runs.untilState(doomed, 'Failed');
    expect(failed).toMatchObject({ fault: { code: 'AgentNotReachable' } });

    // The same process of the service takes the next one.
    const script = 'echo x >> "$LAUNCHES"; echo begun; until [ -e "$GO_ON" ]; do sleep 0.1; done';
    const lasting = await runs.start(connection, ['sh', '-c', `${script}; echo done`]);
    await runs.untilLog(lasting, 'begun\n');
    expect(first.output()).not.toContain('"level":"fatal"');
    await first.kill();
    await using again = await desk.service(sockets);
    expect(again.pid).not.toBe(first.pid);
    writeFileSync(goOn, '');
    await runs.untilState(lasting, 'Succeeded');
    await runs.untilLog(lasting, 'begun\ndone\n');
    expect(readFileSync(launches, 'utf8')).toBe('x\n');
  },
  TEST_MS,
);

/** Source: proc_pid_stat(5). */
function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}
