/** How a session ended. */
export type SessionEnd = 'closed' | 'deleted' | 'expired' | 'destroyed' | 'stopped';

const SESSION_ENDS: readonly SessionEnd[] = [
  'closed',
  'deleted',
  'expired',
  'destroyed',
  'stopped',
];

/** Who a session is for. */
export type SessionRole = 'listener' | 'sender' | 'rendezvous';

export const SESSION_ROLES: readonly SessionRole[] = ['listener', 'sender', 'rendezvous'];

/** What sessions count as they go, in plain fields; read when metrics are. */
export interface PollCounters {
  polls: number;
  posts: number;
  /** Times a session went on over a WebSocket. */
  resumed: number;
  replayedFrames: number;
  replayedBytes: number;
  readonly opened: Record<SessionRole, number>;
  readonly ended: Record<SessionEnd, number>;
}

export function newPollCounters(): PollCounters {
  return {
    polls: 0,
    posts: 0,
    resumed: 0,
    replayedFrames: 0,
    replayedBytes: 0,
    opened: { listener: 0, sender: 0, rendezvous: 0 },
    ended: { closed: 0, deleted: 0, expired: 0, destroyed: 0, stopped: 0 },
  };
}

export const POLL_METRICS = [
  {
    name: 'halfway_poll_sessions',
    kind: 'gauge',
    help: 'Long-poll sessions now, by whom they are for',
    labels: ['role'],
  },
  {
    name: 'halfway_poll_sessions_opened_total',
    kind: 'counter',
    help: 'Long-poll sessions opened, by whom they are for',
    labels: ['role'],
    values: SESSION_ROLES.map(role => ({ role })),
  },
  {
    name: 'halfway_poll_sessions_ended_total',
    kind: 'counter',
    help: 'Long-poll sessions that ended, by how',
    labels: ['reason'],
    values: SESSION_ENDS.map(reason => ({ reason })),
  },
  {
    name: 'halfway_poll_polls_total',
    kind: 'counter',
    help: 'Polls taken, also those of sessions that go over a WebSocket',
  },
  {
    name: 'halfway_poll_held_polls',
    kind: 'gauge',
    help: 'Polls that wait for something to answer',
  },
  {
    name: 'halfway_poll_posts_total',
    kind: 'counter',
    help: 'Batches of frames taken from clients of long-poll sessions',
  },
  {
    name: 'halfway_poll_resumed_total',
    kind: 'counter',
    help: 'Times a long-poll session went on over a WebSocket',
  },
  {
    name: 'halfway_poll_replayed_frames_total',
    kind: 'counter',
    help: 'Frames sent again because their first answer may have been lost',
  },
  {
    name: 'halfway_poll_replayed_bytes_total',
    kind: 'counter',
    help: 'Payload bytes of such frames',
  },
  {
    name: 'halfway_poll_queued_bytes',
    kind: 'gauge',
    help: 'Bytes that frames in long-poll sessions count for, not acknowledged or not read yet',
  },
] as const;
