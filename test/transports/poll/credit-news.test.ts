import { expect, test } from 'vitest';
import {
  POLL_FRAME_COST_BYTES,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
} from '../../../src/protocol/poll-frames.ts';
import { CreditNews } from '../../../src/transports/poll/credit-news.ts';

const WINDOW = 1_000_000;
const NEWS = 500_000;

test('isNews() counts from what was told last, by poll or by post', () => {
  const news = new CreditNews(NEWS, WINDOW);
  expect(news.isNews(WINDOW + NEWS - 1)).toBe(false);
  expect(news.isNews(WINDOW + NEWS)).toBe(true);
  news.told(WINDOW + NEWS);
  expect(news.isNews(WINDOW + 2 * NEWS - 1)).toBe(false);
  news.toldSurely(WINDOW + 2 * NEWS);
  expect(news.isNews(WINDOW + 2 * NEWS)).toBe(false);
  expect(news.isNews(WINDOW + 3 * NEWS)).toBe(true);
});

test('isInDoubt() is so only for what a poll alone has told, and a client that may lack it', () => {
  const news = new CreditNews(NEWS, WINDOW);
  expect(news.isInDoubt(WINDOW)).toBe(false);
  news.told(WINDOW + NEWS);
  expect(news.isInDoubt(0)).toBe(false);
  const longest = POLL_FRAME_COST_BYTES + POLL_FRAME_PAYLOAD_BYTES_MAX;
  expect(news.isInDoubt(WINDOW - longest)).toBe(false);
  expect(news.isInDoubt(WINDOW - longest + 1)).toBe(true);
  news.toldSurely(WINDOW + NEWS);
  expect(news.isInDoubt(WINDOW)).toBe(false);
});
