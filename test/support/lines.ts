import type { Line } from '../../src/workers/line.ts';

/** Both ends of a line within this process, which copies as a real one does and can be cut. */
export interface TestLines {
  readonly parent: Line;
  readonly worker: Line;
  setUp(isUp: boolean): void;
  /** What the parent says gets lost. */
  muffled: boolean;
}

export function testLines(): TestLines {
  const [parent, worker] = [new End(), new End()];
  const lines: TestLines = {
    parent,
    worker,
    muffled: false,
    setUp: isUp => {
      for (const end of [worker, parent]) end.setUp(isUp);
    },
  };
  worker.deliver = message => parent.take(message);
  parent.deliver = message => {
    if (!lines.muffled) worker.take(message);
  };
  return lines;
}

class End implements Line {
  isUp = true;
  deliver: (message: unknown) => void = () => {};
  readonly #messages: ((message: unknown) => void)[] = [];
  readonly #observers: ((isUp: boolean) => void)[] = [];

  send(message: object): boolean {
    if (!this.isUp) return false;
    const copy: unknown = structuredClone(message);
    queueMicrotask(() => {
      if (this.isUp) this.deliver(copy);
    });
    return true;
  }

  take(message: unknown): void {
    for (const observer of this.#messages) observer(message);
  }

  onMessage(observer: (message: unknown) => void): void {
    this.#messages.push(observer);
  }

  onUpChange(observer: (isUp: boolean) => void): void {
    this.#observers.push(observer);
  }

  setUp(isUp: boolean): void {
    if (this.isUp === isUp) return;
    this.isUp = isUp;
    for (const observer of this.#observers) observer(isUp);
  }
}
