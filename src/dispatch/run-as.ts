import { callerIn } from './access.ts';
import type { Principal } from './access.ts';
import type { Environments } from './environments.ts';
import { Problem } from './problem.ts';
import type { Runs, Submission, Submitted } from './runs.ts';

/** Submits runs in the name of somebody who is not there: what this one may now is what counts. */
export class RunAs {
  readonly #environment: string;
  readonly #environments: Environments;
  readonly #runs: Runs;
  readonly #principalNamed: (name: string) => Promise<Principal | undefined>;

  constructor(of: {
    readonly environment: string;
    readonly environments: Environments;
    readonly runs: Runs;
    readonly principalNamed: (name: string) => Promise<Principal | undefined>;
  }) {
    this.#environment = of.environment;
    this.#environments = of.environments;
    this.#runs = of.runs;
    this.#principalNamed = of.principalNamed;
  }

  /** Throws what `Runs.submit` throws, `AccessDenied` also when the principal is gone or disabled. */
  async submit(name: string, submission: Submission): Promise<Submitted> {
    const [principal, environment] = await Promise.all([
      this.#principalNamed(name),
      this.#environments.find(this.#environment),
    ]);
    if (environment === undefined) throw new Problem('NotFound', 'there is no such environment');
    if (principal === undefined) throw new Problem('AccessDenied', `${name} is gone`);
    const caller = callerIn(environment.value, principal);
    return this.#runs.submit(caller, environment.value, submission);
  }
}
