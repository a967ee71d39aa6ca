import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { NODE_IDS } from './cluster.ts';

const E2E = join(import.meta.dirname, '../e2e');

/** Suites of single relays that say nothing about a cluster behind a balancer, and why. */
const SINGLE_SUITES: Readonly<Record<string, string>> = {
  durability: 'starts its own process with a folder',
  'http-admin': 'the admin port of one process',
  'management-api': 'the admin port of one process',
  drain:
    'moves time in steps in which links between nodes fall silent; cluster-e2e/drain has nodes',
  'http-timeouts': 'the same; cluster-e2e/timeouts has nodes',
  'token-expiry': 'the same; cluster-e2e/clocks has nodes',
  'waiting-senders': 'the same; cluster-e2e/timeouts has nodes',
};

/** Long polling has its own suites, with sessions that belong to one process. */
const POLL = /^poll-/;

/** They start processes or serve a folder of their own; cluster-e2e/dispatch and dispatch-kills have nodes. */
const DISPATCH = /^(?:dispatch|machine-faults|portal-host)/;

/** Beside some suites: what needs a connection without a balancer, or looks at what one process counts. */
const DIRECT = /-direct$/;

/** Names of all suites that run on a cluster: files of test/e2e without `.test.ts`. */
function clusterSuites(): readonly string[] {
  return readdirSync(E2E)
    .map(file => file.replace(/\.test\.ts$/, ''))
    .filter(
      name =>
        !DIRECT.test(name) &&
        !POLL.test(name) &&
        !DISPATCH.test(name) &&
        SINGLE_SUITES[name] === undefined,
    )
    .toSorted();
}

/**
 * Runs suites of single relays once more: three nodes, HAProxy before them, connections spread over all. One
 * of `of` parts, so that several workers of vitest share them.
 */
export function runOnCluster({ part, of }: { readonly part: number; readonly of: number }): void {
  vi.doMock('./relay.ts', async original => ({
    ...(await original<typeof import('./relay.ts')>()),
    startRelay: async (...args: Parameters<typeof import('./relay.ts').startRelay>) =>
      (await import('./balanced-relay.ts')).startBalancedRelay(...args),
  }));
  test('a relay of these suites is a cluster', async () => {
    const { startRelay } = await import('./relay.ts');
    await using relay = await startRelay();
    // Each node knows all of them.
    expect(await relay.metric('halfway_cluster_nodes')).toBe(NODE_IDS.length ** 2);
  });
  const names = clusterSuites().filter((_, i) => i % of === part - 1);
  describe.each(names)('%s', async name => {
    await import(`../e2e/${name}.test.ts`);
  });
}
