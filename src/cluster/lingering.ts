import type { CancelTimer, Clock } from '../base/clock.ts';
import type { ListenerRow, NodeRecord } from './listener-directory.ts';

/** How long a linked node has to come back into a directory that has lost it, if it says nothing. */
const LINGER_MS = 10_000;

/**
 * Nodes that have fallen out of the directory while we are linked with them: Redis came back empty, or
 * they are writing themselves anew under another epoch. They are alive, so what was known of them counts
 * for a while, and for as long as they say that the coordinator is away for them. What is wrong about it
 * does no harm: they refuse what is put before a listener they lost.
 */
export class Lingering {
  readonly #clock: Clock;
  readonly #isAway: (node: string) => boolean;
  readonly #onEnd: (rows: readonly ListenerRow[]) => void;
  readonly #nodes = new Map<string, NodeRecord>();
  /** By hybrid connection, then by key. */
  readonly #rows = new Map<string, Map<string, ListenerRow>>();
  readonly #timers = new Map<string, CancelTimer>();

  constructor(deps: {
    readonly clock: Clock;
    /** Whether a node has said that the coordinator is away for it. */
    readonly isAway: (node: string) => boolean;
    /** Called with what counts no longer. */
    readonly onEnd: (rows: readonly ListenerRow[]) => void;
  }) {
    this.#clock = deps.clock;
    this.#isAway = deps.isAway;
    this.#onEnd = deps.onEnd;
  }

  nodes(): readonly NodeRecord[] {
    return [...this.#nodes.values()];
  }

  rowsOf(namespace: string, hybridConnection: string): Iterable<ListenerRow> {
    return this.#rows.get(entityOf({ namespace, hybridConnection }))?.values() ?? [];
  }

  keepNode(record: NodeRecord): void {
    this.#nodes.set(record.node, record);
    this.#arm(record.node);
  }

  keepRow(row: ListenerRow): void {
    const entity = entityOf(row);
    const rows = this.#rows.get(entity) ?? new Map<string, ListenerRow>();
    rows.set(row.key, row);
    this.#rows.set(entity, rows);
    this.#arm(row.node);
  }

  /** The directory has it again. */
  nodeIsBack(node: string): void {
    this.#nodes.delete(node);
  }

  rowIsBack(row: ListenerRow): void {
    const rows = this.#rows.get(entityOf(row));
    rows?.delete(row.key);
    if (rows?.size === 0) this.#rows.delete(entityOf(row));
  }

  /** The node itself says that these are gone. Returns those that counted. */
  released(node: string, keys: readonly string[]): readonly ListenerRow[] {
    if (!this.#timers.has(node) || keys.length === 0) return [];
    const gone: ListenerRow[] = [];
    for (const rows of this.#rows.values()) {
      for (const key of keys) {
        const row = rows.get(key);
        if (row?.node === node) gone.push(row);
      }
    }
    for (const row of gone) this.rowIsBack(row);
    return gone;
  }

  /** The time of a node is over, or the link to it broke. */
  end(node: string): void {
    const cancel = this.#timers.get(node);
    if (cancel === undefined) return;
    cancel();
    this.#timers.delete(node);
    this.#nodes.delete(node);
    const ended: ListenerRow[] = [];
    for (const rows of this.#rows.values()) {
      for (const row of rows.values()) if (row.node === node) ended.push(row);
    }
    for (const row of ended) this.rowIsBack(row);
    this.#onEnd(ended);
  }

  #arm(node: string): void {
    if (this.#timers.has(node)) return;
    this.#timers.set(
      node,
      this.#clock.after(LINGER_MS, () => {
        if (!this.#isAway(node)) {
          this.end(node);
          return;
        }
        this.#timers.delete(node);
        this.#arm(node);
      }),
    );
  }
}

function entityOf({
  namespace,
  hybridConnection,
}: Pick<ListenerRow, 'namespace' | 'hybridConnection'>): string {
  return JSON.stringify([namespace, hybridConnection]);
}
