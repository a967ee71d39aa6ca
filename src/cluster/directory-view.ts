import type {
  CoordinatorState,
  FeedEntry,
  Holder,
  NodeEntry,
  StoredRecord,
  StoredRow,
} from './coordinator.ts';
import { NODES_MAX, REMOTE_ROWS_MAX } from './limits.ts';
import type { GoneReason, ListenerRow, NodeRecord } from './listener-directory.ts';
import { digestWith, parseRecord, parseRow } from './records.ts';

/** What the view tells of what it learned about other nodes. */
export interface ViewObserver {
  listenerAdded(row: ListenerRow): void;
  listenerRemoved(row: ListenerRow, why: 'released' | 'node-gone'): void;
  nodeJoined(node: NodeRecord): void;
  nodeChanged(node: NodeRecord): void;
  nodeGone(node: NodeRecord, why: GoneReason): void;
  warning(message: string): void;
}

interface ViewedRow {
  readonly part: number;
  /** Undefined when the row cannot be read, or found no place: it only counts in the digest. */
  readonly row: ListenerRow | undefined;
}

interface ViewedNode {
  readonly epoch: string;
  /** Undefined when it cannot be read. */
  record: NodeRecord | undefined;
  recordPart: number;
  digest: number;
  readonly rows: Map<string, ViewedRow>;
}

/**
 * The other nodes and their listeners as the coordinator has them, kept up to date by the feed. Our own
 * node is left out: what we hold, we know better (own-listeners.ts). Changes may be applied again or
 * out of an older state: each says how things are, not how they differ, so that a snapshot read in
 * pieces becomes whole when the feed since its beginning has been applied.
 */
export class DirectoryView {
  readonly #self: string;
  readonly #observer: ViewObserver;
  readonly #nodes = new Map<string, ViewedNode>();
  #rows = 0;
  #ignored = 0;

  constructor(self: string, observer: ViewObserver) {
    this.#self = self;
    this.#observer = observer;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Rows and records that could not be read or found no place, ever. */
  get ignored(): number {
    return this.#ignored;
  }

  *nodes(): Iterable<NodeRecord> {
    for (const { record } of this.#nodes.values()) if (record !== undefined) yield record;
  }

  node(id: string): NodeRecord | undefined {
    return this.#nodes.get(id)?.record;
  }

  /** Whether a node has a listener of this key, readable or not. */
  has(node: string, key: string): boolean {
    return this.#nodes.get(node)?.rows.has(key) ?? false;
  }

  row(node: string, key: string): ListenerRow | undefined {
    return this.#nodes.get(node)?.rows.get(key)?.row;
  }

  /** The node that has a listener of this key. */
  holderOf(key: string): string | undefined {
    for (const [id, { rows }] of this.#nodes) if (rows.has(key)) return id;
    return undefined;
  }

  /** Brings one change in. False: the node's digest is not what the coordinator says, so something was missed. */
  apply({ change, digest }: FeedEntry): boolean {
    if (change.node === this.#self) return true;
    switch (change.type) {
      case 'node':
        this.#describe(change, change.record);
        break;
      case 'rows':
        this.#addRows(change, change.rows);
        break;
      case 'released':
        this.#removeRows(change, change.keys);
        break;
      case 'node-gone':
        if (this.#nodes.get(change.node)?.epoch === change.epoch)
          this.#drop(change.node, change.why);
        break;
      case 'challenge':
        break;
      case 'unknown':
        this.#ignored += 1;
        break;
    }
    const node = this.#nodes.get(change.node);
    return digest === undefined || node === undefined || node.digest === digest;
  }

  /** Drops the nodes that a state does not have, and says which of the others must be read. */
  begin(state: CoordinatorState): readonly NodeEntry[] {
    const listed = new Set(state.nodes.map(({ node }) => node));
    for (const node of this.#nodes.keys()) if (!listed.has(node)) this.#drop(node, 'missing');
    return state.nodes.filter(entry => {
      if (entry.node === this.#self) return false;
      const known = this.#nodes.get(entry.node);
      return known?.epoch !== entry.epoch || known.digest !== entry.digest;
    });
  }

  /** Puts what was read of one node in the place of what was known. */
  replace(entry: NodeEntry, rows: readonly StoredRow[]): void {
    const node = this.#describe(entry, entry.record);
    if (node === undefined) return;
    const read = new Set(rows.map(({ key }) => key));
    const old = [...node.rows.keys()].filter(key => !read.has(key));
    this.#removeRows(entry, old);
    this.#addRows(entry, rows);
  }

  /** The nodes of which we know something else than the coordinator says; both at the same point of the feed. */
  differing(digests: ReadonlyMap<string, number>): readonly string[] {
    const ids = new Set([...digests.keys(), ...this.#nodes.keys()]);
    ids.delete(this.#self);
    return [...ids].filter(id => this.#nodes.get(id)?.digest !== digests.get(id));
  }

  #describe({ node: id, epoch }: Holder, { part, text }: StoredRecord): ViewedNode | undefined {
    const record = parseRecord(id, epoch, text);
    if (record === undefined) this.#ignored += 1;
    const known = this.#nodes.get(id);
    if (known?.epoch === epoch) {
      known.digest = digestWith(known.digest, part, known.recordPart);
      known.recordPart = part;
      const before = known.record;
      known.record = record;
      if (record !== undefined && !isSame(record, before)) {
        if (before === undefined) this.#observer.nodeJoined(record);
        else this.#observer.nodeChanged(record);
      }
      return known;
    }
    if (known !== undefined) this.#drop(id, 'replaced');
    if (this.#nodes.size >= NODES_MAX) {
      this.#ignored += 1;
      this.#observer.warning(`The cluster has more than ${NODES_MAX} nodes: "${id}" is not seen`);
      return undefined;
    }
    const node = { epoch, record, recordPart: part, digest: part, rows: new Map() };
    this.#nodes.set(id, node);
    if (record === undefined) {
      this.#observer.warning(
        `The record of node "${id}" cannot be read: it is foreign, or of a later version`,
      );
    } else {
      this.#observer.nodeJoined(record);
    }
    return node;
  }

  #addRows({ node: id, epoch }: Holder, rows: readonly StoredRow[]): void {
    const node = this.#nodes.get(id);
    // Of an epoch that is over, or not known yet: then the snapshot has the rows.
    if (node?.epoch !== epoch) return;
    for (const { key, part, text } of rows) {
      const old = node.rows.get(key);
      // A row never changes: its key belongs to one control channel.
      if (old?.part === part) continue;
      if (old !== undefined) this.#removeRows({ node: id, epoch }, [key]);
      const row = this.#readRow({ node: id, epoch }, key, text);
      node.rows.set(key, { part, row });
      node.digest = digestWith(node.digest, part, 0);
      if (row === undefined) continue;
      this.#rows += 1;
      this.#observer.listenerAdded(row);
    }
  }

  #readRow({ node, epoch }: Holder, key: string, text: string): ListenerRow | undefined {
    const claim = this.#rows < REMOTE_ROWS_MAX ? parseRow(key, text) : undefined;
    if (claim !== undefined) return { ...claim, node, epoch };
    this.#ignored += 1;
    this.#observer.warning(
      this.#rows < REMOTE_ROWS_MAX
        ? `A listener of node "${node}" cannot be read: it is foreign, or of a later version`
        : `The cluster has more than ${REMOTE_ROWS_MAX} listeners: further ones are not seen`,
    );
    return undefined;
  }

  #removeRows({ node: id, epoch }: Holder, keys: readonly string[]): void {
    const node = this.#nodes.get(id);
    if (node?.epoch !== epoch) return;
    for (const key of keys) {
      const old = node.rows.get(key);
      if (old === undefined) continue;
      node.rows.delete(key);
      node.digest = digestWith(node.digest, 0, old.part);
      this.#lose(old, 'released');
    }
  }

  #drop(id: string, why: GoneReason): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    this.#nodes.delete(id);
    for (const row of node.rows.values()) this.#lose(row, 'node-gone');
    if (node.record !== undefined) this.#observer.nodeGone(node.record, why);
  }

  #lose({ row }: ViewedRow, why: 'released' | 'node-gone'): void {
    if (row === undefined) return;
    this.#rows -= 1;
    this.#observer.listenerRemoved(row, why);
  }
}

function isSame(one: NodeRecord, other: NodeRecord | undefined): boolean {
  return (
    one.meshAddress === other?.meshAddress &&
    one.state === other.state &&
    one.versions.min === other.versions.min &&
    one.versions.max === other.versions.max
  );
}
