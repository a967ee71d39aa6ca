import type { Halfway } from '../subjects/halfway.ts';
import type { Generator } from './generator.ts';

/** Handshakes at a time: more would only wait in the servers' queues. */
const BATCH = 100;

/** Listen paths of the hybrid connections `hc0` to `hc<count - 1>`: tokens cost a signature each. */
export function listenPaths(node: Halfway, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => node.listenPath(`hc${index}`));
}

/**
 * Opens control channels at the generator, under the ids from 0 to `count - 1`: listener N at node
 * `N % nodes.length`, each node's spread evenly over the paths.
 */
export async function openListeners(
  generator: Generator,
  nodes: readonly Halfway[],
  { count, paths }: { readonly count: number; readonly paths: readonly string[] },
): Promise<void> {
  for (let first = 0; first < count; first += BATCH) {
    const length = Math.min(BATCH, count - first);
    const ids = Array.from({ length }, (_, index) => first + index);
    const opened = generator.opened(ids);
    for (const id of ids) {
      const path = paths[id % paths.length] ?? '';
      generator.dial(id, nodes[id % nodes.length]?.port ?? 0, path);
    }
    await opened;
  }
}
