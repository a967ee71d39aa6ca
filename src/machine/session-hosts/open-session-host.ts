import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { OsAccountHost } from './os-account-host.ts';
import { ProcessHost } from './process-host.ts';
import type { SessionHost } from './session-host.ts';
import { SimulatedHost, simulatedTableSchema } from './simulated-host.ts';

export interface SessionHostOptions {
  /**
   * `process`: everything as the service's own account. `os-account`: signs in with the connection's
   * credentials. `simulated`: by a table.
   */
  readonly kind: SessionHost['kind'];
  /** At once; of a simulated host the table says it. */
  readonly unattended: number;
  readonly attended: number;
  /** Of a simulated host: a JSON file as `simulatedTableSchema` has it, read anew for each question. */
  readonly tablePath?: string | undefined;
}

/** Throws when the table of a simulated host cannot be read. */
export function openSessionHost(options: SessionHostOptions): SessionHost {
  const { kind, unattended, attended, tablePath } = options;
  if (kind === 'process') return new ProcessHost({ unattended, attended });
  if (kind === 'os-account') return new OsAccountHost({ unattended });
  if (tablePath === undefined)
    return new SimulatedHost(() => ({ capacity: { unattended, attended } }));
  const read = () => v.parse(simulatedTableSchema, JSON.parse(readFileSync(tablePath, 'utf8')));
  read();
  return new SimulatedHost(read);
}
