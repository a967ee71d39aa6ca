import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startMachineProcess } from '../support/machine-process.ts';
import { controlBench } from '../support/machine-runs.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

/** What becomes of a run when the service ends in that instant, and begins again. Source: job-dispatch.md section 9.3. */
const CASES = [
  // Nothing was promised: the offer was not answered, and is made again.
  { line: 'ACCEPTED', when: 'before', isOfferedAgain: true },
  { line: 'ACCEPTED', when: 'after' },
  // Granted to a process that is gone: given back, and offered again as another attempt.
  { line: 'GRANTED', when: 'before', isOfferedAgain: true },
  { line: 'GRANTED', when: 'after', isOfferedAgain: true },
  { line: 'LAUNCHED', when: 'before', isOfferedAgain: true },
  // Taken up again, and told to go.
  { line: 'LAUNCHED', when: 'after' },
  { line: 'RESULT', when: 'before' },
  { line: 'RESULT', when: 'after' },
  { line: 'OVER', when: 'before' },
  { line: 'OVER', when: 'after' },
] as const;

test.each(CASES)(
  'a service that ends $when $line is written down has launched the run once, and the run succeeds',
  async ({ line, when, ...more }) => {
    using home = someFolder();
    const control = await controlBench();
    const launches = join(home.path, 'launches');
    const options = {
      folder: join(home.path, 'jobs'),
      socketFolder: join(home.path, 's'),
      host: 'process',
    } as const;
    const first = await startMachineProcess(
      { ...options, instance: 'i1', diesAt: { line, when } },
      control.reporter,
    );
    const script = `echo launched >> ${launches}; sleep 0.3; echo done; echo '{"a":1}' > "$HALFWAY_OUTPUTS"`;
    const offer = await control.submitted({ command: ['/bin/sh', '-c', script] });
    await first.offer(offer);
    await first.ended;
    const second = await startMachineProcess({ ...options, instance: 'i2' }, control.reporter);
    if ('isOfferedAgain' in more) {
      if (line === 'ACCEPTED') {
        await second.offer(offer);
      } else {
        const { runId } = offer;
        await until('given back', async () => (await control.state(runId)) === 'Queued', 20_000);
        await second.offer(await control.assign(runId));
      }
    }
    await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
    await expect(control.outputsOf(offer.runId)).resolves.toMatchObject({ outputs: { a: 1 } });
    await until('the log', async () => (await control.logOf(offer.runId)) === 'done\n', 20_000);
    expect(existsSync(launches) ? readFileSync(launches, 'utf8') : '').toBe('launched\n');
    await second.kill();
  },
  60_000,
);
