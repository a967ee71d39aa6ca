import { ANNOUNCEMENT_FAULTS, RECONCILIATION_REASONS } from './listener-directory.ts';

/**
 * What the directory counts (`ListenerDirectory.stats()`), in the shape of the core's list. Values are
 * copied in when they are collected; a gauge without a value, as the age of a lease that is not held, is
 * left out then.
 */
export const DIRECTORY_METRICS = [
  {
    name: 'halfway_redis_up',
    kind: 'gauge',
    help: '1 while the cluster coordinator (Redis) can be reached',
  },
  {
    name: 'halfway_cluster_degraded',
    kind: 'gauge',
    help: '1 for each reason for which the directory is not whole',
    labels: ['reason'],
    values: [
      'coordinator-away',
      'lease-lost',
      'node-id-taken',
      'catching-up',
      'coordinator-unusable',
    ].map(reason => ({ reason })),
  },
  {
    name: 'halfway_cluster_lease_age_seconds',
    kind: 'gauge',
    help: 'Since the lease of this node was last renewed; it ends at 15 seconds',
  },
  {
    name: 'halfway_cluster_leases_lost_total',
    kind: 'counter',
    help: 'Leases of this node that were lost and taken anew',
    values: [{}],
  },
  {
    name: 'halfway_cluster_nodes',
    kind: 'gauge',
    help: 'Live nodes of the cluster, this one included',
  },
  {
    name: 'halfway_cluster_nodes_removed_total',
    kind: 'counter',
    help: 'Dead nodes that this node took out of the directory',
    values: [{}],
  },
  {
    name: 'halfway_rebalancing_rounds_total',
    kind: 'counter',
    help: 'Times this node asked some of its listeners to connect again because it had too many',
    values: [{}],
  },
  {
    name: 'halfway_cluster_listeners',
    kind: 'gauge',
    help: 'Listeners in the directory, by whether this node holds them',
    labels: ['where'],
    values: [{ where: 'here' }, { where: 'elsewhere' }],
  },
  {
    name: 'halfway_cluster_listeners_unwritten',
    kind: 'gauge',
    help: 'Listeners of this node that other nodes cannot know of yet',
  },
  {
    name: 'halfway_cluster_feed_lag_changes',
    kind: 'gauge',
    help: 'Changes of the directory not applied yet, as of the last renewal of the lease',
  },
  {
    name: 'halfway_cluster_changes_total',
    kind: 'counter',
    help: 'Changes of the directory applied',
    values: [{}],
  },
  {
    name: 'halfway_cluster_reconciliations_total',
    kind: 'counter',
    help: 'Times the whole directory was read, by why',
    labels: ['reason'],
    values: RECONCILIATION_REASONS.map(reason => ({ reason })),
  },
  {
    name: 'halfway_cluster_rows_repaired_total',
    kind: 'counter',
    help: 'Listeners of this node that the coordinator had wrong and that were put right',
    values: [{}],
  },
  {
    name: 'halfway_cluster_rows_ignored_total',
    kind: 'counter',
    help: 'Records of others that could not be read or found no place',
    values: [{}],
  },
  {
    name: 'halfway_cluster_listeners_announced',
    kind: 'gauge',
    help: 'Listeners of other nodes that are known by announcement alone, while the coordinator cannot tell',
  },
  {
    name: 'halfway_cluster_announcements_refused_total',
    kind: 'counter',
    help: 'Listeners announced by other nodes that were not believed or found no place, by why',
    labels: ['reason'],
    values: ANNOUNCEMENT_FAULTS.map(reason => ({ reason })),
  },
  {
    name: 'halfway_cluster_announcements_untold_total',
    kind: 'counter',
    help: 'Listeners of this node that others were not told of for want of room, while the coordinator was away',
    values: [{}],
  },
  {
    name: 'halfway_redis_commands_total',
    kind: 'counter',
    help: 'Commands sent to Redis for the directory',
    values: [{}],
  },
  {
    name: 'halfway_redis_command_failures_total',
    kind: 'counter',
    help: 'Steps at Redis that failed or had no answer in time',
    values: [{}],
  },
] as const;
