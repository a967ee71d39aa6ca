import { describe, expect, test } from 'vitest';
import { MISHAPS } from '../../support/cutting-proxy.ts';
import {
  MODEL_PATIENCE_MS,
  MODEL_RELAY,
  movingDial,
  pollDial,
  runPollModel,
  seedsOr,
} from '../../support/poll-model.ts';
import { startRelay } from '../../support/relay.ts';
import { seeded } from '../../support/seeded.ts';

describe.each(seedsOr(1, 2, 3))('with seed %i', seed => {
  test(
    'every frame arrives once and in order, whatever happens to requests',
    async () => {
      await using relay = await startRelay(MODEL_RELAY);
      const proxy = await runPollModel(seed, { nodes: [relay], share: 0.6, dial: pollDial() });
      expect(proxy.done.size).toBeGreaterThan(MISHAPS.length / 2);
    },
    MODEL_PATIENCE_MS * 2,
  );

  test(
    'the same while sessions move to WebSockets that break, and back',
    async () => {
      await using relay = await startRelay(MODEL_RELAY);
      const moving = movingDial(relay, seeded(seed + 3));
      await runPollModel(seed, { nodes: [relay], share: 0.3, dial: moving.dial });
      expect(moving.broken()).toBeGreaterThan(3);
      expect(await relay.metric('halfway_poll_resumed_total')).toBeGreaterThan(3);
    },
    MODEL_PATIENCE_MS * 2,
  );
});
