import { describe, expect, test } from 'vitest';
import { CommitPace, REST_MS_MAX } from '../../src/store/commit-pace.ts';

describe('CommitPace', () => {
  test('holds nothing up while commits are few', () => {
    const pace = new CommitPace();
    for (let atMs = 0; atMs < 1_000; atMs += 20) {
      expect(pace.restMs(atMs)).toBe(0);
      pace.committed(atMs + 3, 3);
    }
  });

  test('leaves commits that follow one another a fifth of the time', () => {
    const pace = new CommitPace();
    let nowMs = 0;
    let commitMs = 0;
    while (nowMs < 10_000) {
      nowMs += pace.restMs(nowMs) + 1;
      commitMs += 1;
      pace.committed(nowMs, 1);
    }
    expect(commitMs / nowMs).toBeGreaterThan(0.19);
    expect(commitMs / nowMs).toBeLessThan(0.21);
  });

  test('holds up for no longer than it says, however slow the disk is, and forgets', () => {
    const pace = new CommitPace();
    pace.committed(1_000, 1_000);
    pace.committed(2_000, 1_000);
    expect(pace.restMs(2_000)).toBeCloseTo(REST_MS_MAX);
    expect(pace.restMs(2_000 + REST_MS_MAX)).toBeCloseTo(0);
    expect(pace.restMs(3_000)).toBe(0);
  });
});
