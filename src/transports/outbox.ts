/**
 * Writes to sockets, put off to the end of the event loop's turn. While uWebSockets.js handles one
 * socket it has that one corked, and every write to another is a system call of its own; put off,
 * the writes of a turn share one each.
 */
export class Outbox {
  #tasks: (() => void)[] = [];

  put(task: () => void): void {
    this.#tasks.push(task);
    if (this.#tasks.length === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const tasks = this.#tasks;
    this.#tasks = [];
    for (const task of tasks) task();
  }
}
