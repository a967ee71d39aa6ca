import { describe, expect, test } from 'vitest';
import { MESH_METRICS } from '../../src/cluster/mesh-metrics.ts';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import { createMetrics } from '../../src/observability/metrics.ts';
import { startMeshNode, startPair } from '../support/mesh-node.ts';

/** What a count must be one of: the name, and the values of a label set that exists from the start. */
const COUNTERS = new Set(
  MESH_METRICS.flatMap(metric =>
    metric.kind === 'counter'
      ? metric.values.map(labels => [metric.name, ...Object.values(labels)].join(' '))
      : [],
  ),
);

describe('MESH_METRICS', () => {
  test('become real metrics', async () => {
    const metrics = createMetrics([MESH_METRICS], { defaultMetrics: false });
    expect(await metrics.text()).toContain('halfway_mesh_link_ends_total{reason="silent"} 0');
  });

  test('name all that is counted, with its labels', async () => {
    await using pair = await startPair();
    await using stranger = await startMeshNode({
      nodeId: 'a',
      credentials: { secret: 'not the secret of these nodes, 01234567' },
    });
    stranger.list.set([pair.b.node()]);
    await stranger.logged('MeshLinkRefused', 'proof-wrong');
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, timeoutMs: 5_000 });
    await pair.a.mesh.openStream('b', key);
    await expected;
    const late = pair.b.mesh.expectStream({ key, timeoutMs: 1 });
    await expect(late).rejects.toThrow('late');
    pair.a.list.set([{ ...pair.b.node(), epoch: 'next-life-of-b.1' }]);
    await pair.a.logged('MeshLinkRefused', 'wrong-process');
    const counted = [...pair.a.counted, ...pair.b.counted, ...stranger.counted];
    expect(counted.length).toBeGreaterThan(8);
    expect(counted.filter(count => !COUNTERS.has(count))).toEqual([]);
  });
});
