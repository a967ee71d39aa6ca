import { userInfo } from 'node:os';
import { commandResult } from '../cli/run-command.ts';
import type { machineBench } from './machine-bench.ts';
import { member } from './machine-bench.ts';
import { until } from './within.ts';

/** A machine takes its time where computers do much else. */
const RUN_MS = 30_000;

export interface Account {
  readonly name: string;
  readonly password: string;
}

/** Whom a process host signs in: whoever runs the test, with any password. */
export const OWN_ACCOUNT: Account = { name: userInfo().username, password: 'not looked at' };

/** What a person does with a machine that is registered at the bench's server: connections, runs, logs. */
export function deskRuns(bench: Awaited<ReturnType<typeof machineBench>>, tlsCa?: string) {
  const env = {
    HALFWAY_ENDPOINT: bench.relay.httpUrl,
    HALFWAY_API_TOKEN: bench.apiToken,
    HALFWAY_STATE_DIR: `${bench.place.path}/person`,
  };
  const way = tlsCa === undefined ? [] : ['--ca', tlsCa];
  const runOf = (id: string) => bench.ask('GET', `/runs/${id}`);
  const logOf = async (id: string): Promise<string> => {
    const { items } = Object(await bench.ask('GET', `/runs/${id}/logs`));
    return items
      .map(({ data }: { readonly data: string }) => Buffer.from(data, 'base64').toString())
      .join('');
  };
  return {
    env,
    /** A connection of that name to the machine of that name, sealed by the command line. */
    async connect(name: string, machine: string, account = OWN_ACCOUNT): Promise<string> {
      const about = ['create', name, '--machine', machine, '--user', account.name, '--json'];
      const input = `${account.password}\n`;
      const { exitCode, out, err } = await commandResult(['connection', ...about, ...way], {
        env,
        input,
      });
      if (exitCode === 0) return member(JSON.parse(out), 'id');
      throw new Error(err);
    },
    async start(
      connectionId: string,
      command: readonly string[],
      job: object = {},
    ): Promise<string> {
      const body = { connectionId, job: { ref: 'test', kind: 'command', command, ...job } };
      return member(await bench.ask('POST', '/runs', body), 'id');
    },
    /** Fails when the run ends otherwise. */
    async untilState(id: string, state: string): Promise<unknown> {
      let run: unknown;
      const isSo = async (): Promise<boolean> => {
        run = await runOf(id);
        if (member(run, 'state') === state) return true;
        if (member(run, 'endedAt') === '') return false;
        throw new Error(`The run is not ${state}: ${JSON.stringify(run)} ${await logOf(id)}`);
      };
      await until(`the run is ${state}`, isSo, RUN_MS);
      return run;
    },
    logOf,
    untilLog: (id: string, text: string): Promise<void> =>
      until(`the log says ${text}`, async () => (await logOf(id)).includes(text), RUN_MS),
  };
}
