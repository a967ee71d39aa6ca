// What `/status` says, as JSON and as a page. Scripts read it: fields are added, never renamed.

export interface StatusReport {
  readonly node: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  readonly reasons: readonly string[];
  /** `native`, or why not. */
  readonly dataPlane: string;
  readonly listeners: number;
  readonly senders: number;
  readonly waitingSenders: number;
  readonly hybridConnections: readonly StatusRow[];
  /** Absent: this node is alone. */
  readonly cluster?: ClusterStatus;
  /** The processes that make this node up, where there are several; all else is their sum. */
  readonly workers?: readonly WorkerStatus[];
}

export interface StatusRow {
  readonly namespace: string;
  readonly name: string;
  readonly listeners: number;
  readonly pairs: number;
  readonly requests: number;
  readonly bytesToListener: number;
  readonly bytesToSender: number;
}

export interface ClusterStatus {
  /** What keeps the directory: Redis, or the parent of the workers. */
  readonly coordinator: 'redis' | 'parent';
  readonly coordinatorUp: boolean;
  readonly degraded: readonly string[];
  /** What an operator should put right. */
  readonly warnings: readonly string[];
  readonly nodes: readonly ClusterNode[];
  readonly listenersHere: number;
  readonly listenersElsewhere: number;
  readonly listenersUnwritten: number;
  readonly feedLagChanges: number;
}

export interface ClusterNode {
  readonly node: string;
  readonly state: 'active' | 'draining';
  readonly meshAddress: string;
  readonly meshVersions: string;
  readonly listeners: number;
  /** Of the mesh link to it; with workers, the worst of theirs. */
  readonly link: 'self' | 'up' | 'dialling' | 'apart' | 'closed';
  /** Why the link is not up. */
  readonly why?: string;
  readonly roundTripMs?: number;
}

export interface WorkerStatus {
  readonly node: string;
  /** Undefined while there is no process. */
  readonly pid?: number;
  readonly state: 'starting' | 'running' | 'waiting' | 'draining' | 'ended';
  readonly ready: boolean;
  /** How often its process ended by itself. */
  readonly restarts: number;
  readonly uptimeSeconds?: number;
  readonly listeners?: number;
  readonly senders?: number;
}
