/** What the sockets and the data plane count. Same shape as the core's list. */
export const TRANSPORT_METRICS = [
  {
    name: 'halfway_data_plane_native',
    kind: 'gauge',
    help: '1 where WebSockets are joined natively, 0 in the degraded fallback',
  },
  {
    name: 'halfway_backpressure_bytes',
    kind: 'gauge',
    help: 'Bytes received that wait for a slow reader',
  },
  {
    name: 'halfway_paused_sockets',
    kind: 'gauge',
    help: 'WebSockets not read because the other side is slow',
  },
  {
    name: 'halfway_pauses_total',
    kind: 'counter',
    help: 'Times a WebSocket stopped being read because the other side was slow',
  },
  {
    name: 'halfway_fallback_overflows_total',
    kind: 'counter',
    help: 'WebSockets closed with 1011 in the fallback, which cannot hold back a fast writer',
    values: [{}],
  },
  {
    name: 'halfway_tls_connections',
    kind: 'gauge',
    help: 'TLS connections open now, where TLS ends in this process',
  },
  {
    name: 'halfway_tls_failures_total',
    kind: 'counter',
    help: 'TLS connections that did not come about or were cut, by cause',
    labels: ['cause'],
    values: ['refused', 'handshake', 'relay', 'stalled'].map(cause => ({ cause })),
  },
] as const;
