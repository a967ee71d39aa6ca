import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { commandResult } from '../cli/run-command.ts';
import { deskRuns, OWN_ACCOUNT } from '../support/desk-runs.ts';
import { machineBench, member } from '../support/machine-bench.ts';
import { machineDesk } from '../support/machine-desk.ts';
import { until } from '../support/within.ts';

// Rows A14 and A18: a machine that has registered is listed, is no good without a connection, and with one runs what
// comes by the API, the command line, a schedule and a webhook. The portal, which adds its pages to the same, is
// tested in Chromium: test/portal/portal.test.ts.

const TEST_MS = 60_000;
const WAY_MS = 30_000;
const EVERY_MS = 60_000;

test(
  'a job reaches a machine by each way there is, with the connection that was selected',
  async () => {
    // A minute passes when the test says so; the machine, which signs with its own clock, is not far behind.
    let aheadMs = 0;
    const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + aheadMs };
    await using bench = await machineBench({}, undefined, { clock });
    const runs = deskRuns(bench);
    const { env } = runs;
    const ok = async (argv: readonly string[]): Promise<string> => {
      const { exitCode, out, err } = await commandResult(argv, { env, input: '' });
      if (exitCode !== 0) throw new Error(err);
      return out;
    };
    const desk = machineDesk({
      state: `${bench.place.path}/desk`,
      env: { HALFWAY_API_TOKEN: bench.apiToken },
    });
    await desk.command(['register', '--name', 'desk', '--endpoint', bench.relay.httpUrl]);
    await using service = await desk.service(['--socket-folder', `${bench.place.path}/s`]);
    await until('listening', () => service.output().includes('listening through'), WAY_MS);

    const shown = async () => Object(JSON.parse(await ok(['machine', 'show', 'desk', '--json'])));
    expect(await shown()).toMatchObject({
      name: 'desk',
      state: 'Active',
      owner: 'token:bootstrap',
      waiting: 0,
      running: { unattended: 0, attended: 0 },
      presence: { state: 'Connected', agentVersion: expect.stringMatching(/^\d+\.\d+\.\d+/) },
    });
    await ok(['machine', 'set', 'desk', '--description', 'under the window']);
    expect(await shown()).toMatchObject({ description: 'under the window' });

    const start = ['run', 'start', '--connection', 'me', '--json'];
    const early = await commandResult([...start, '--', 'true'], { env });
    expect(early.exitCode).not.toBe(0);
    expect(early.err).toMatch(/no connection/i);
    const refused = await runs.start('none', ['true']).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'ConnectionNotFound' });

    const connectionId = await runs.connect('me', 'desk');
    const job = { ref: 'test', kind: 'command', command: ['sh', '-c', 'echo "$HALFWAY_RUN_ID"'] };
    const run = { connectionId, job };
    const byApi = await runs.start(connectionId, job.command);
    const byCommand = JSON.parse(await ok([...start, '--', ...job.command]));

    const trigger = await bench.ask('POST', '/triggers', { name: 'shop', run });
    const key = Buffer.from(member(trigger, 'secret').replace('whsec_', ''), 'base64');
    const [id, timestamp, body] = ['msg_1', String(Math.floor(Date.now() / 1_000)), '{}'];
    const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
    const hook = `${bench.relay.httpUrl}/$api/v1/hooks/default/${member(trigger, 'id')}`;
    const headers = {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${mac}`,
    };
    const delivered = await fetch(hook, { method: 'POST', body, headers });
    expect(delivered.status).toBe(202);
    const byWebhook = member(Object(await delivered.json()), 'id');

    await bench.ask('POST', '/schedules', { name: 'each minute', everySeconds: 60, run });
    aheadMs += EVERY_MS;
    const scheduled = async (): Promise<readonly { readonly id: string }[]> => {
      const { items } = Object(await bench.ask('GET', `/runs?connectionId=${connectionId}`));
      return items.filter((one: { readonly trigger: string }) => one.trigger === 'schedule');
    };
    await until('the schedule is due', async () => (await scheduled()).length > 0, WAY_MS);
    const bySchedule = (await scheduled())[0]?.id ?? '';

    for (const one of [byApi, String(byCommand.id), byWebhook, bySchedule]) {
      const ended = await runs.untilState(one, 'Succeeded');
      expect(ended).toMatchObject({ connectionId, accountName: OWN_ACCOUNT.name });
      await runs.untilLog(one, `${one}\n`);
    }
  },
  TEST_MS,
);
