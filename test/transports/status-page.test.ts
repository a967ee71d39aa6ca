import { expect, test } from 'vitest';
import { statusPage } from '../../src/transports/status-page.ts';
import type { StatusReport } from '../../src/transports/status-report.ts';

const ALONE: StatusReport = {
  node: 'a',
  version: '1',
  uptimeSeconds: 1,
  ready: true,
  reasons: [],
  dataPlane: 'native',
  listeners: 0,
  senders: 0,
  waitingSenders: 0,
  hybridConnections: [],
};

test('a node that is alone has neither a cluster nor workers', () => {
  const page = statusPage(ALONE);
  expect(page).not.toContain('<h2>');
  expect(page).toContain('<h1>Halfway node a</h1>');
});

test('shows the nodes of the cluster and the workers, with nothing of theirs taken for HTML', () => {
  const page = statusPage({
    ...ALONE,
    cluster: {
      coordinator: 'redis',
      coordinatorUp: false,
      degraded: ['lease-lost'],
      warnings: ['<script>'],
      nodes: [
        {
          node: 'b<',
          state: 'draining',
          meshAddress: '&1:1',
          meshVersions: '1-1',
          listeners: 3,
          link: 'dialling',
          why: 'ended: "lost"',
          roundTripMs: 1.26,
        },
      ],
      listenersHere: 1,
      listenersElsewhere: 3,
      listenersUnwritten: 0,
      feedLagChanges: 0,
    },
    workers: [{ node: 'a-1', pid: 17, state: 'running', ready: false, restarts: 2 }],
  });
  expect(page).toContain(
    '<tr><td>b&lt;</td><td>draining</td><td>&amp;1:1</td>' +
      '<td>dialling (ended: &quot;lost&quot;)</td><td>1.3 ms</td><td>3</td></tr>',
  );
  for (const problem of ['Redis is away', 'lease-lost', '&lt;script&gt;']) {
    expect(page).toContain(`<li class="bad">${problem}</li>`);
  }
  expect(page).toContain('<td>a-1</td><td>17</td><td>running, not ready</td><td>2</td>');
});
