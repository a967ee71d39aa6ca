import { join } from 'node:path';
import { commandResult, runCommand, type RunningCommand } from '../cli/run-command.ts';

/** People's commands and machine services against one server, by the program's own command line in this process. */
export class Commands {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly #folder: string;

  /** @param folder for keys that were sealed to, and machines' state */
  constructor(origin: string, apiToken: string, folder: string, environment = 'default') {
    this.#folder = folder;
    this.env = {
      HALFWAY_ENDPOINT: origin,
      HALFWAY_API_TOKEN: apiToken,
      HALFWAY_ENVIRONMENT: environment,
      HALFWAY_STATE_DIR: join(folder, 'pins'),
      PATH: process.env['PATH'],
    };
  }

  /** Standard output of a command that must go well. */
  async ok(argv: readonly string[], input = ''): Promise<string> {
    const { exitCode, out, err } = await this.result(argv, input);
    if (exitCode !== 0) throw new Error(`halfway ${argv.join(' ')}: ${err}`);
    return out;
  }

  result(argv: readonly string[], input = ''): ReturnType<typeof commandResult> {
    return commandResult(argv, { env: this.env, input });
  }

  /** JSON of a command that must go well. */
  async json(argv: readonly string[], input = ''): Promise<Record<string, unknown>> {
    // Before what belongs to a job.
    const whole = [...argv.slice(0, 2), '--json', ...argv.slice(2)];
    const value: unknown = JSON.parse(await this.ok(whole, input));
    if (typeof value !== 'object' || value === null) throw new Error('no JSON object');
    return { ...value };
  }

  stateOf(machine: string): string {
    return join(this.#folder, machine);
  }

  /** Registers a machine: its id and its fingerprint. */
  async register(
    machine: string,
    more: readonly string[] = [],
  ): Promise<{ readonly id: string; readonly fingerprint: string }> {
    const state = ['--state', this.stateOf(machine)];
    const made = await this.json(['machine', 'register', '--name', machine, ...state, ...more]);
    return { id: String(made['machineId']), fingerprint: String(made['fingerprint']) };
  }

  /** Runs its service, until it is disposed of; it listens already. */
  async serve(machine: string, more: readonly string[] = []): Promise<RunningCommand> {
    const argv = ['machine', 'run', '--state', this.stateOf(machine), ...more];
    const service = runCommand(argv, { env: this.env });
    await service.saw('listening through the relay');
    return service;
  }
}
