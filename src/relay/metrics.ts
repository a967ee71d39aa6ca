import { REFUSALS } from '../protocol/refusals.ts';

/** One metric as plain data; `observability` makes it real. Names map to Azure Monitor's (README). */
export interface MetricDefinition {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
  /** Label sets that exist from the start at zero, so that a rate is there before the first event. */
  readonly values?: readonly Readonly<Record<string, string>>[];
  readonly buckets?: readonly number[];
}

const WAIT_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export const RELAY_METRICS: readonly MetricDefinition[] = [
  {
    name: 'halfway_active_listeners',
    kind: 'gauge',
    help: 'Listeners connected now',
    labels: ['hybrid_connection'],
  },
  {
    name: 'halfway_active_connections',
    kind: 'gauge',
    help: 'Senders connected now: joined WebSockets and HTTP requests in flight',
    labels: ['hybrid_connection', 'kind'],
  },
  {
    name: 'halfway_transferred_bytes_total',
    kind: 'counter',
    help: 'Payload bytes relayed',
    labels: ['hybrid_connection', 'direction'],
  },
  {
    name: 'halfway_transferred_frames_total',
    kind: 'counter',
    help: 'WebSocket data frames relayed between joined pairs',
    labels: ['hybrid_connection', 'direction'],
  },
  {
    name: 'halfway_listener_connections_total',
    kind: 'counter',
    help: 'Listener registrations, by result',
    labels: ['hybrid_connection', 'result'],
  },
  {
    name: 'halfway_sender_connections_total',
    kind: 'counter',
    help: 'Sender connections and requests, by result',
    labels: ['hybrid_connection', 'result'],
  },
  {
    name: 'halfway_listener_disconnects_total',
    kind: 'counter',
    help: 'Control channels that ended, by reason',
    labels: ['reason'],
    values: [
      'closed-by-listener',
      'lost',
      'token-expired',
      'renewal-refused',
      'draining',
      'rebalanced',
      'deleted',
      'replaced',
      'message-too-big',
    ].map(reason => ({ reason })),
  },
  {
    name: 'halfway_sender_disconnects_total',
    kind: 'counter',
    help: 'Joined WebSocket pairs that ended, by how they did',
    labels: ['reason'],
    values: ['close', 'lost', 'protocol-error', 'too-big', 'stalled', 'closed-by-us'].map(
      reason => ({ reason }),
    ),
  },
  {
    name: 'halfway_refusals_total',
    kind: 'counter',
    help: 'Everything the relay said no to, by reason and by who asked',
    labels: ['reason', 'role'],
    values: Object.keys(REFUSALS).flatMap(reason =>
      ['listener', 'sender', 'http', 'rendezvous', 'poll'].map(role => ({ reason, role })),
    ),
  },
  {
    name: 'halfway_rejections_total',
    kind: 'counter',
    help: 'Senders that a listener turned away by its own choice',
    values: [{}],
  },
  {
    name: 'halfway_rendezvous_duration_seconds',
    kind: 'histogram',
    help: 'From a sender WebSocket handshake to the join',
    buckets: WAIT_SECONDS,
  },
  {
    name: 'halfway_http_request_duration_seconds',
    kind: 'histogram',
    help: 'From an HTTP request to the end of its answer',
    labels: ['code_class'],
    buckets: [...WAIT_SECONDS, 60],
  },
  {
    name: 'halfway_ignored_messages_total',
    kind: 'counter',
    help: 'Control channel messages that meant nothing: unreadable, late, or a stray body',
    labels: ['why'],
    values: ['unreadable', 'unknown-request', 'stray-body'].map(why => ({ why })),
  },
  {
    name: 'halfway_waiting_senders',
    kind: 'gauge',
    help: 'WebSocket senders whose listener has not dialled yet',
  },
  {
    name: 'halfway_held_senders',
    kind: 'gauge',
    help: 'Senders and requests that wait for a listener to come',
  },
  {
    name: 'halfway_held_senders_total',
    kind: 'counter',
    help: 'Senders and requests that waited for a listener to come, by what became of them',
    labels: ['outcome'],
    values: ['offered', 'refused', 'gone'].map(outcome => ({ outcome })),
  },
  {
    name: 'halfway_hybrid_connections',
    kind: 'gauge',
    help: 'Hybrid connections configured or created',
  },
];
