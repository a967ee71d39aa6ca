// npm run bench [-- SCENARIO … --quick --json --only SUBJECT,…]: see README.md beside this file.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { atRest } from './scenarios/at-rest.ts';
import { churn } from './scenarios/churn.ts';
import { crossNode } from './scenarios/cross-node.ts';
import { dispatch } from './scenarios/dispatch.ts';
import { flood } from './scenarios/flood.ts';
import { forward } from './scenarios/forward.ts';
import { http } from './scenarios/http.ts';
import { idle } from './scenarios/idle.ts';
import { messages } from './scenarios/messages.ts';
import { poll } from './scenarios/poll.ts';
import { pollEndpoints } from './scenarios/poll-endpoints.ts';
import { pollIdle } from './scenarios/poll-idle.ts';
import { pollStalled } from './scenarios/poll-stalled.ts';
import { storm } from './scenarios/storm.ts';
import { stream } from './scenarios/stream.ts';
import { pinSelf, ROOT } from './support/process.ts';
import type { Scenario, ScenarioOptions } from './support/scenario.ts';
import { formatResult } from './support/table.ts';
import type { ParticipantName } from './subjects/subject.ts';

const SCENARIOS: readonly Scenario[] = [
  messages,
  stream,
  flood,
  churn,
  idle,
  http,
  crossNode,
  storm,
  atRest,
  forward,
  poll,
  pollEndpoints,
  pollIdle,
  pollStalled,
  dispatch,
];
const SUBJECTS: readonly ParticipantName[] = [
  'halfway',
  'uws-echo',
  'haproxy',
  'haproxy-tcp',
  'ws-relay',
  'socket.io',
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const unknownNames = positionals.filter(name => !SCENARIOS.some(each => each.name === name));
const only = values.only?.split(',') ?? [];
const unknownSubjects = only.filter(name => !SUBJECTS.some(each => each === name));
if (values.help || unknownNames.length > 0 || unknownSubjects.length > 0) {
  for (const name of unknownNames) console.error(`Unknown scenario "${name}"`);
  for (const name of unknownSubjects) console.error(`Unknown subject "${name}"`);
  console.error('npm run bench -- [SCENARIO …] [--quick] [--json] [--only SUBJECT,…]');
  console.error(`scenarios: ${SCENARIOS.map(each => each.name).join(' ')}`);
  console.error(`subjects:  ${SUBJECTS.join(' ')}`);
  process.exit(values.help ? 0 : 64);
}

prepare();
pinSelf();
const options: ScenarioOptions = {
  isQuick: values.quick,
  only:
    values.only === undefined
      ? undefined
      : new Set(SUBJECTS.filter(name => only.some(each => each === name))),
  progress: text => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
  },
};
for (const scenario of SCENARIOS) {
  if (positionals.length > 0 && !positionals.includes(scenario.name)) continue;
  const result = await scenario.run(options);
  options.progress('');
  console.log(values.json ? JSON.stringify(result) : formatResult(result));
}

/** Builds what is to be measured from the sources as they stand. */
function prepare(): void {
  const { status } = spawnSync(process.execPath, ['scripts/prepare.mjs', 'run'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) process.exit(1);
}
