/** Ends what was started, last first, also when a later start failed. `AsyncDisposableStack`, which Node 20 lacks. */
export class Cleanup implements AsyncDisposable {
  readonly #resources: AsyncDisposable[] = [];

  use<Resource extends AsyncDisposable>(resource: Resource): Resource {
    this.#resources.push(resource);
    return resource;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#resources.splice(0).toReversed()) {
      await resource[Symbol.asyncDispose]();
    }
  }
}
