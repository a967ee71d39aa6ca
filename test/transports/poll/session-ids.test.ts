import { expect, test } from 'vitest';
import { isPollSessionId, type PollSessionId } from '../../../src/protocol/poll-session.ts';
import { SessionIds } from '../../../src/transports/poll/session-ids.ts';

const TAG = '0123abcd';
const SECRET = '5'.repeat(32);

function idsOf(nodeTag = TAG): SessionIds {
  return new SessionIds(nodeTag, () => SECRET);
}

function changed(id: string, at: number): PollSessionId {
  const digit = id[at] === '0' ? '1' : '0';
  const other = `${id.slice(0, at)}${digit}${id.slice(at + 1)}`;
  if (!isPollSessionId(other)) throw new Error(other);
  return other;
}

test('make() begins with the secret and ends with the tag of the node', () => {
  const id = idsOf().make();
  expect(id).toMatch(new RegExp(`^${SECRET}[\\da-f]{32}${TAG}$`));
  expect(idsOf('').make()).toMatch(new RegExp(`^${SECRET}[\\da-f]{32}$`));
});

test('gaveOut() knows its own ids, and none of which a digit was changed', () => {
  const ids = idsOf();
  const id = ids.make();
  expect(ids.gaveOut(id)).toBe(true);
  for (let at = 0; at < id.length; at += 1) expect(ids.gaveOut(changed(id, at))).toBe(false);
});

test('gaveOut() does not know the ids of another process with the same name', () => {
  expect(idsOf().gaveOut(idsOf().make())).toBe(false);
});
