import type { Config } from '../config/options.ts';
import type { ApiAnswer } from '../management/api-answers.ts';
import type { ApiRequest } from '../management/api-request.ts';
import type { MetricSnapshot } from '../observability/metrics.ts';
import type { StatusReport } from '../transports/status-report.ts';
import type { StoreTraits } from './remote-store.ts';

/** The name under which a worker serves `WorkerProcedures`. */
export const WORKER_SERVICE = 'worker';

/** What a worker starts with. It goes over the line, never by arguments or environment: it holds secrets. */
export interface WorkerSpec {
  readonly config: Config;
  /** Whether the parent keeps the directory; else Redis does. */
  readonly hasParentCoordinator: boolean;
  /** The parent's store; undefined: the worker opens the cluster's. */
  readonly store: StoreTraits | undefined;
  /** Whether the parent accepts the connections of the public port and hands them over. */
  readonly takesConnections: boolean;
}

/** What a parent asks of its worker. */
export interface WorkerProcedures {
  /** Once, first. Rejects with the message of a `StartError`. */
  start(spec: WorkerSpec): Promise<{ readonly port: number }>;
  readiness(): Promise<{ readonly ready: boolean; readonly reasons: readonly string[] }>;
  status(): Promise<StatusReport>;
  metrics(): Promise<MetricSnapshot>;
  manage(request: ApiRequest): Promise<ApiAnswer>;
  reloadCertificates(): Promise<void>;
  /** Begins to drain; the process ends when it has. */
  drain(): Promise<void>;
}
