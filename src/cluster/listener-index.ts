import type { ListenerRow } from './listener-directory.ts';

const NONE: readonly ListenerRow[] = [];

/** Everybody's listeners by hybrid connection. Arrays are replaced, never changed: a reader may keep one. */
export class ListenerIndex {
  readonly #byPlace = new Map<string, readonly ListenerRow[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  of(namespace: string, hybridConnection: string): readonly ListenerRow[] {
    return this.#byPlace.get(`${namespace}/${hybridConnection}`) ?? NONE;
  }

  add(row: ListenerRow): void {
    const place = placeOf(row);
    this.#byPlace.set(place, [...(this.#byPlace.get(place) ?? NONE), row]);
    this.#size += 1;
  }

  /** Puts a row in the place of another of the same hybrid connection, in one step. */
  replace(before: ListenerRow, after: ListenerRow): void {
    const place = placeOf(after);
    const rows = this.#byPlace.get(place) ?? NONE;
    this.#byPlace.set(
      place,
      rows.map(row => (row === before ? after : row)),
    );
  }

  remove(row: ListenerRow): void {
    const place = placeOf(row);
    const before = this.#byPlace.get(place) ?? NONE;
    const after = before.filter(other => other !== row);
    this.#size -= before.length - after.length;
    if (after.length === 0) this.#byPlace.delete(place);
    else this.#byPlace.set(place, after);
  }
}

function placeOf({ namespace, hybridConnection }: ListenerRow): string {
  return `${namespace}/${hybridConnection}`;
}
