import { expect, test } from 'vitest';
import { workerSpecs } from '../../src/workers/worker-specs.ts';
import { configOf } from '../support/config-of.ts';

const OWN = { meshSecret: 'a secret of this run', store: { shown: 'memory', isDurable: false } };
const REDIS = {
  redis: 'redis://127.0.0.1:1',
  meshHost: '10.0.0.1',
  meshPort: '8070',
};

test('without Redis workers mesh on loopback with a secret of this run, and use the parent', () => {
  const specs = workerSpecs(configOf({ meshHost: '10.0.0.1' }), 2, OWN);
  expect([...specs.keys()]).toEqual(['box-1', 'box-2']);
  for (const [nodeId, spec] of specs) {
    expect(spec).toMatchObject({ hasParentCoordinator: true, store: OWN.store });
    expect(spec.takesConnections).toBe(false);
    expect(spec.config).toMatchObject({
      nodeId,
      meshHost: '127.0.0.1',
      meshPort: 0,
      meshSecret: OWN.meshSecret,
    });
  }
});

test('with Redis each worker is a node of its own, at ports that count up', () => {
  const config = configOf({ ...REDIS, meshAdvertise: '[fd00::1]:9000' });
  const [first, second] = workerSpecs(config, 2, { ...OWN, store: undefined }).values();
  expect(second).toMatchObject({ hasParentCoordinator: false, store: undefined });
  expect([first, second].map(spec => spec?.config.meshPort)).toEqual([8070, 8071]);
  expect([first, second].map(spec => spec?.config.meshAdvertise)).toEqual([
    '[fd00::1]:9000',
    '[fd00::1]:9001',
  ]);
  expect(second?.config.meshSecret).toBe('s'.repeat(32));
});

test.each(['relay.example', '10.0.0.1', '[fd00::1]'])(
  'an advertised address without a port stays: %s',
  meshAdvertise => {
    const specs = workerSpecs(configOf({ ...REDIS, meshPort: '0', meshAdvertise }), 2, OWN);
    for (const { config } of specs.values()) {
      expect(config).toMatchObject({ meshAdvertise, meshPort: 0 });
    }
  },
);

test('names stay within what a node id may have', () => {
  const specs = workerSpecs(configOf({ nodeId: 'n'.repeat(64) }), 64, OWN);
  expect(specs.size).toBe(64);
  expect([...specs.keys()].every(name => name.length <= 64)).toBe(true);
});
