/** Throws when what must hold does not: a bug of ours, never an answer to a peer. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`Assertion failed: ${message}`);
}

/** For the `default` of a switch over a closed union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new Error(`Unreachable: ${JSON.stringify(value)}`);
}
