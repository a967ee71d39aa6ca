import type { CancelTimer, Clock } from '../base/clock.ts';
import { ANNOUNCED_PER_MESSAGE_MAX, ANNOUNCED_ROWS_MAX, REMOTE_ROWS_MAX } from './limits.ts';
import type { Announcement, AnnouncementFault, ListenerRow } from './listener-directory.ts';
import { isEpoch, isNodeId, isRowKey, parseRow } from './records.ts';

export interface RemoteRowsDeps {
  readonly clock: Clock;
  /** For how long what was announced counts when the coordinator should tell by itself again. */
  readonly settleMs: number;
  /** What the coordinator says of other nodes. */
  readonly view: {
    readonly rows: number;
    has(node: string, key: string): boolean;
    /** Undefined also for one that cannot be read. */
    row(node: string, key: string): ListenerRow | undefined;
    /** The node that a listener is with. */
    holderOf(key: string): string | undefined;
  };
  readonly isOwn: (key: string) => boolean;
  /** Whether the coordinator is of no use to us now. */
  readonly isAway: () => boolean;
  readonly observer: {
    added(row: ListenerRow): void;
    removed(row: ListenerRow, why: 'released' | 'node-gone'): void;
    /** The same listener, now as the coordinator has it. */
    replaced(before: ListenerRow, after: ListenerRow): void;
    warning(message: string): void;
  };
}

/** What a node has announced. */
interface Speaker {
  isAway: boolean;
  readonly rows: Map<string, ListenerRow>;
  /** Keys of listeners that are gone, though the coordinator has them or may come to say so. */
  readonly released: Set<string>;
  cancelSettling: CancelTimer;
}

/**
 * The listeners of other nodes: what the coordinator says of them, put right by what the nodes themselves
 * announce while it cannot say. Each listener counts once, by its key. An announced one counts while the
 * link to its node is up, until the coordinator has it or should have it.
 */
export class RemoteRows {
  readonly #deps: RemoteRowsDeps;
  readonly #speakers = new Map<string, Speaker>();
  /** Which node announced a listener. */
  readonly #announcedBy = new Map<string, string>();
  /** Listeners that the coordinator has and that are gone. */
  #hidden = 0;
  readonly refused: Record<AnnouncementFault, number> = {
    forged: 0,
    unreadable: 0,
    'too-many': 0,
  };

  constructor(deps: RemoteRowsDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#deps.view.rows - this.#hidden + this.announced;
  }

  /** Listeners known by announcement alone. */
  get announced(): number {
    return this.#announcedBy.size;
  }

  /** Whether a node said that the coordinator is away for it. */
  isAway(node: string): boolean {
    return this.#speakers.get(node)?.isAway ?? false;
  }

  /** How many of these the coordinator does not count, for their node cannot write them. */
  uncounted(rows: readonly ListenerRow[]): number {
    if (this.announced === 0) return 0;
    return rows.filter(({ key, node }) => this.#announcedBy.get(key) === node && this.isAway(node))
      .length;
  }

  /** The coordinator has a listener. */
  viewed(row: ListenerRow): void {
    const { observer } = this.#deps;
    const { key, node } = row;
    if (this.#speakers.get(node)?.released.has(key) === true) {
      this.#hidden += 1;
      return;
    }
    const speaker = this.#announcedBy.get(key);
    const announced = speaker === undefined ? undefined : this.#take(speaker, key);
    if (announced === undefined) {
      observer.added(row);
    } else if (announced.node === node && isSamePlace(announced, row)) {
      observer.replaced(announced, row);
    } else {
      observer.removed(announced, 'released');
      observer.added(row);
    }
  }

  /** The coordinator has it no longer. */
  unviewed(row: ListenerRow, why: 'released' | 'node-gone'): void {
    if (this.#speakers.get(row.node)?.released.delete(row.key) === true) this.#hidden -= 1;
    else this.#deps.observer.removed(row, why);
  }

  /** A linked node announces what came and went. */
  heard(from: string, announcement: Announcement): void {
    const { node, epoch, isAway, rows, released } = announcement;
    const count = rows.length + released.length;
    if (node !== from) {
      this.#refuse(
        'forged',
        Math.max(1, count),
        forged(from, isNodeId(node) ? `node "${node}"` : undefined),
      );
      return;
    }
    if (!isEpoch(epoch)) {
      this.#refuse('unreadable', Math.max(1, count), unreadable(from));
      return;
    }
    if (count > ANNOUNCED_PER_MESSAGE_MAX) {
      this.#refuse('too-many', count, tooMany(from, ANNOUNCED_PER_MESSAGE_MAX, 'in one message'));
      return;
    }
    const speaker = this.#speakerOf(node);
    speaker.isAway = isAway;
    for (const [key, text] of rows) this.#announce(speaker, { node, epoch }, key, text);
    for (const key of released) this.#release(speaker, node, key);
    if (!isAway) this.#settleLater(node, speaker);
  }

  /** What a node announced counts only while it can be reached. */
  linkDown(node: string): void {
    const speaker = this.#speakers.get(node);
    if (speaker === undefined) return;
    speaker.isAway = false;
    speaker.cancelSettling();
    this.#dropRows(speaker, 'node-gone');
    this.#dropReleased(node, speaker);
    if (speaker.released.size === 0) this.#speakers.delete(node);
  }

  /** The coordinator is there for us again: it will soon have said all that was announced. */
  back(): void {
    for (const [node, speaker] of this.#speakers) this.#settleLater(node, speaker);
  }

  close(): void {
    for (const { cancelSettling } of this.#speakers.values()) cancelSettling();
  }

  #speakerOf(node: string): Speaker {
    const known = this.#speakers.get(node);
    if (known !== undefined) return known;
    const speaker = {
      isAway: false,
      rows: new Map(),
      released: new Set<string>(),
      cancelSettling: () => {},
    };
    this.#speakers.set(node, speaker);
    return speaker;
  }

  #announce(
    speaker: Speaker,
    holder: { readonly node: string; readonly epoch: string },
    key: string,
    text: string,
  ): void {
    const { view, isOwn, observer } = this.#deps;
    const { node } = holder;
    const isKnown = speaker.rows.has(key) || view.has(node, key) || speaker.released.has(key);
    if (isKnown) return;
    if (isOwn(key) || this.#announcedBy.has(key) || view.holderOf(key) !== undefined) {
      this.#refuse('forged', 1, forged(node));
      return;
    }
    if (!this.#hasRoom(speaker, node)) return;
    const claim = parseRow(key, text);
    if (claim === undefined) {
      this.#refuse('unreadable', 1, unreadable(node));
      return;
    }
    const row = { ...claim, ...holder };
    speaker.rows.set(key, row);
    this.#announcedBy.set(key, node);
    observer.added(row);
  }

  #release(speaker: Speaker, node: string, key: string): void {
    const { view, isOwn, observer } = this.#deps;
    if (speaker.released.has(key)) return;
    if (!isRowKey(key)) {
      this.#refuse('unreadable', 1, unreadable(node));
      return;
    }
    const announced = this.#take(node, key);
    if (announced !== undefined) {
      observer.removed(announced, 'released');
      return;
    }
    const shown = view.row(node, key);
    const holder = shown === undefined ? view.holderOf(key) : node;
    if (isOwn(key) || this.#announcedBy.has(key) || (holder ?? node) !== node) {
      this.#refuse('forged', 1, forged(node));
      return;
    }
    if (!this.#hasRoom(speaker, node)) return;
    speaker.released.add(key);
    if (shown === undefined) return;
    this.#hidden += 1;
    observer.removed(shown, 'released');
  }

  #hasRoom({ rows, released }: Speaker, node: string): boolean {
    const isFull = rows.size + released.size >= ANNOUNCED_ROWS_MAX;
    if (!isFull && this.size < REMOTE_ROWS_MAX) return true;
    this.#refuse('too-many', 1, tooMany(node, ANNOUNCED_ROWS_MAX, 'until Redis returns'));
    return false;
  }

  #refuse(why: AnnouncementFault, count: number, message: string): void {
    this.refused[why] += count;
    this.#deps.observer.warning(message);
  }

  /** Takes a listener out of what a node has announced. */
  #take(node: string, key: string): ListenerRow | undefined {
    const rows = this.#speakers.get(node)?.rows;
    const row = rows?.get(key);
    if (row === undefined) return undefined;
    rows?.delete(key);
    this.#announcedBy.delete(key);
    return row;
  }

  #settleLater(node: string, speaker: Speaker): void {
    speaker.cancelSettling();
    speaker.cancelSettling = this.#deps.clock.after(this.#deps.settleMs, () => {
      // Whoever is away says so when that ends, and then this begins anew.
      if (speaker.isAway || this.#deps.isAway()) return;
      this.#dropRows(speaker, 'released');
      this.#dropReleased(node, speaker);
    });
  }

  #dropRows({ rows }: Speaker, why: 'released' | 'node-gone'): void {
    for (const [key, row] of rows) {
      rows.delete(key);
      this.#announcedBy.delete(key);
      this.#deps.observer.removed(row, why);
    }
  }

  /** Of listeners that are gone, only those are worth remembering that the coordinator still has. */
  #dropReleased(node: string, speaker: Speaker): void {
    const { released } = speaker;
    for (const key of released) if (!this.#deps.view.has(node, key)) released.delete(key);
  }
}

function isSamePlace(one: ListenerRow, other: ListenerRow): boolean {
  return one.namespace === other.namespace && one.hybridConnection === other.hybridConnection;
}

function forged(by: string, whose = 'another node'): string {
  return `Forged: node "${by}" announced listeners of ${whose}, which is refused`;
}

function unreadable(by: string): string {
  return `An announcement of node "${by}" cannot be read: it is foreign, or of a later version`;
}

function tooMany(by: string, max: number, per: string): string {
  return `Node "${by}" announced more than ${max} listeners ${per}: further ones are not seen`;
}
