import type { Announcement, ListenerDirectory } from '../../src/cluster/listener-directory.ts';

/** Links between directories in this process: what is announced arrives in order, a turn later. */
export class MemoryMesh {
  readonly #directories = new Map<string, ListenerDirectory>();
  /** Ends of links that are up: `from to`. */
  readonly #up = new Set<string>();
  readonly #full = new Set<string>();
  /** All that was sent, whether it arrived or not. */
  readonly sent: { readonly to: string; readonly announcement: Announcement }[] = [];

  add(node: string, directory: ListenerDirectory): void {
    this.#directories.set(node, directory);
    directory.announcements.sendThrough((to, announcement) => this.#send(node, to, announcement));
  }

  /** Links these two, if they are two and not linked. */
  link(a: string, b: string): void {
    if (a === b) return;
    for (const [from, to] of bothWays(a, b)) {
      if (this.#up.has(endOf(from, to))) continue;
      this.#up.add(endOf(from, to));
      this.#directories.get(from)?.announcements.linkUp(to);
    }
  }

  cut(a: string, b: string): void {
    for (const [from, to] of bothWays(a, b)) {
      if (!this.#up.delete(endOf(from, to))) continue;
      this.#directories.get(from)?.announcements.linkDown(to);
    }
  }

  /** From now on nothing is taken from `from` to `to`; `false` lets it go on. */
  fill(from: string, to: string, isFull: boolean): void {
    if (isFull) {
      this.#full.add(endOf(from, to));
      return;
    }
    this.#full.delete(endOf(from, to));
    this.#directories.get(from)?.announcements.drained(to);
  }

  #send(from: string, to: string, announcement: Announcement): boolean {
    const end = endOf(from, to);
    if (!this.#up.has(end) || this.#full.has(end)) return false;
    this.sent.push({ to, announcement });
    queueMicrotask(() => {
      if (this.#up.has(end)) this.#directories.get(to)?.announcements.heard(from, announcement);
    });
    return true;
  }
}

function endOf(from: string, to: string): string {
  return `${from} ${to}`;
}

function bothWays(a: string, b: string): readonly (readonly [string, string])[] {
  return [
    [a, b],
    [b, a],
  ];
}
