import { MESH_REFUSALS } from './mesh-refusals.ts';
import { STREAM_PATHS } from './stream-dial.ts';
import { WIRE_ENDS } from './mesh-wire.ts';

/** Why a handshake came to nothing. */
const HANDSHAKE_ENDS = [...Object.keys(MESH_REFUSALS), 'closed', 'unreachable'];

/** What the mesh counts. Same shape as the core's list. */
export const MESH_METRICS = [
  {
    name: 'halfway_mesh_links',
    kind: 'gauge',
    help: 'Links to other nodes, by state',
    labels: ['state'],
    values: ['up', 'dialling', 'apart'].map(state => ({ state })),
  },
  {
    name: 'halfway_mesh_link_ends_total',
    kind: 'counter',
    help: 'Links that stood and ended, by reason',
    labels: ['reason'],
    values: WIRE_ENDS.map(reason => ({ reason })),
  },
  {
    name: 'halfway_mesh_links_opened_total',
    kind: 'counter',
    help: 'Links that came up',
    values: [{}],
  },
  {
    name: 'halfway_mesh_refusals_total',
    kind: 'counter',
    help: 'Connections between nodes, or from strangers, that came to nothing: by reason, and who said no',
    labels: ['reason', 'by'],
    values: HANDSHAKE_ENDS.flatMap(reason => ['us', 'peer'].map(by => ({ reason, by }))),
  },
  {
    name: 'halfway_mesh_round_trip_seconds',
    kind: 'histogram',
    help: 'Pings answered by other nodes',
    buckets: [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
  },
  {
    name: 'halfway_mesh_messages_total',
    kind: 'counter',
    help: 'Messages on links',
    labels: ['direction'],
    values: ['sent', 'received'].map(direction => ({ direction })),
  },
  {
    name: 'halfway_mesh_bytes_total',
    kind: 'counter',
    help: 'Bytes on links, streams not counted',
    labels: ['direction'],
    values: ['sent', 'received'].map(direction => ({ direction })),
  },
  {
    name: 'halfway_mesh_dropped_messages_total',
    kind: 'counter',
    help: 'Messages not sent because the queue was full or they were too long, answers that came too late, and messages of a newer build',
    labels: ['why'],
    values: ['refused', 'stray-answer', 'not-understood'].map(why => ({ why })),
  },
  {
    name: 'halfway_mesh_queued_bytes',
    kind: 'gauge',
    help: 'Bytes that wait to be sent on links',
  },
  {
    name: 'halfway_mesh_strangers',
    kind: 'gauge',
    help: 'Connections to the mesh port that have not proven themselves yet',
  },
  {
    name: 'halfway_mesh_streams',
    kind: 'gauge',
    help: 'Streams open to other nodes, by state; those of the native data plane are not among them',
    labels: ['state'],
    values: ['open', 'expected'].map(state => ({ state })),
  },
  {
    name: 'halfway_mesh_streams_opened_total',
    kind: 'counter',
    help: 'Streams to and from other nodes, by result',
    labels: ['side', 'result'],
    values: ['opens', 'expects'].flatMap(side =>
      ['opened', 'failed'].map(result => ({ side, result })),
    ),
  },
  {
    name: 'halfway_mesh_stream_paths_total',
    kind: 'counter',
    help: 'Streams opened to other nodes, by what they go over: nothing, for the connection was handed over; a Unix socket of this machine; TCP',
    labels: ['path'],
    values: STREAM_PATHS.map(path => ({ path })),
  },
  {
    name: 'halfway_mesh_stream_faults_total',
    kind: 'counter',
    help: 'Streams broken because another node sent what are no frames',
    values: [{}],
  },
] as const;
