import { parsePollBatch, type PollBatch } from '../../protocol/poll-frames.ts';
import {
  parsePollProgress,
  parsePollReason,
  type PollProgress,
} from '../../protocol/poll-session.ts';
import type { HttpAnswer, NoAnswer } from './poll-exchange.ts';

/** What an answer to a session's request means for the session. */
export type PollMeaning =
  | { readonly type: 'batch'; readonly batch: PollBatch }
  | { readonly type: 'progress'; readonly progress: PollProgress }
  /** Somebody polled after us, or something on the way repeated our own poll. */
  | { readonly type: 'superseded' }
  /** More bytes than there is credit for. */
  | { readonly type: 'crowded'; readonly progress: PollProgress | undefined }
  | { readonly type: 'too-large' }
  /** The session is over. */
  | { readonly type: 'over' }
  /** The relay does not take what we say, and will not when it is repeated. */
  | { readonly type: 'refused'; readonly reason: string }
  /** No answer, or none of the relay, or one that is to be asked for again. */
  | { readonly type: 'nothing' };

const NOTHING = { type: 'nothing' } as const;

/** Reads the answer to a poll (`GET`). */
export function meaningOfPoll(answer: HttpAnswer | NoAnswer): PollMeaning {
  if ('error' in answer) return NOTHING;
  if (answer.status !== 200) return meaningOfRefusal(answer);
  // A body that was cut off cannot be read; it comes again.
  const batch = parsePollBatch(answer.body);
  return typeof batch === 'string' ? NOTHING : { type: 'batch', batch };
}

/** Reads the answer to a batch that was posted. */
export function meaningOfPost(answer: HttpAnswer | NoAnswer): PollMeaning {
  if ('error' in answer) return NOTHING;
  if (answer.status !== 200) {
    const meaning = meaningOfRefusal(answer);
    // Whoever limits bodies on the way limits them as the relay does.
    return meaning.type === 'nothing' && answer.status === 413 ? { type: 'too-large' } : meaning;
  }
  const progress = parsePollProgress(answer.body.toString('utf8'));
  return progress === undefined ? NOTHING : { type: 'progress', progress };
}

/** By the relay's names (LONG-POLL.md); all that has none comes from something on the way. */
function meaningOfRefusal({ status, body }: HttpAnswer): PollMeaning {
  const text = body.toString('utf8');
  const reason = parsePollReason(text);
  switch (reason) {
    case undefined:
    // It could not take the request now, but may take it when it is repeated.
    case 'body-stalled':
    case 'overloaded':
    case 'draining':
      return NOTHING;
    case 'session-superseded':
      return { type: 'superseded' };
    case 'credit-exceeded':
      return { type: 'crowded', progress: parsePollProgress(text) };
    case 'batch-too-large':
      return { type: 'too-large' };
    case 'session-unknown':
    case 'session-gone':
      return { type: 'over' };
    default:
      return status >= 500 ? NOTHING : { type: 'refused', reason };
  }
}
