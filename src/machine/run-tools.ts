import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Journal } from './journal.ts';
import type { CredentialOpener, RunReporter } from './ports.ts';
import type { SessionHost } from './session-hosts/session-host.ts';

/** What every run of a machine works with. */
export interface RunTools {
  readonly journal: Journal;
  readonly reporter: RunReporter;
  readonly opener: CredentialOpener;
  readonly host: SessionHost;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of this process of the service, as in its hello. */
  readonly instance: string;
  readonly agentVersion: string;
  /** Where the sockets of runs are; executors of all accounts reach into it. */
  readonly socketFolder: string;
  /** Asks for a hello soon, because its answer is waited for. */
  readonly askStandings: () => void;
  /** The journal was begun on another computer. */
  readonly isFromElsewhere: boolean;
  /** Between two tries of a report. */
  readonly retryDelayMs: (failures: number) => number;
}
