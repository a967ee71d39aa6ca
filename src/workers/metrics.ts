/** What the parent of workers counts itself; all else are the workers' sums. */
export const PARENT_METRICS = [
  {
    name: 'halfway_ready',
    kind: 'gauge',
    help: '1 while work should be sent to this node',
  },
  {
    name: 'halfway_workers',
    kind: 'gauge',
    help: 'Worker processes of this node that take new work, and those that do not',
    labels: ['state'],
    values: ['ready', 'not_ready'].map(state => ({ state })),
  },
  {
    name: 'halfway_worker_restarts_total',
    kind: 'counter',
    help: 'Times the process of a worker ended by itself',
    values: [{}],
  },
  {
    name: 'halfway_cluster_listeners',
    kind: 'gauge',
    help: 'Listeners in the directory: held by this node, and by others',
    labels: ['where'],
  },
] as const;
