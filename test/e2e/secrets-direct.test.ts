// Secrets in the logs, metrics and status of one process, of a whole life on raw connections.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { formatRenewToken } from '../../src/protocol/control-messages.ts';
import { dialListener, dialSender, joinPair, openListener } from '../support/azure-clients.ts';
import { dial, exchangeRaw } from '../support/raw-websocket.ts';
import { LISTEN_KEY, ROOT_KEY, SEND_KEY, startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

/** Stands for whatever a peer would rather not see in a log. */
const MARK = 'hush-5f3a';

const inQuery = (token: string): string => `sb-hc-token=${encodeURIComponent(token)}`;

test('no token, key, address, header, query or payload of a whole life gets into logs, metrics or status', async () => {
  await using relay = await startRelay();
  const tokens: string[] = [];
  const remember = (token: string): string => {
    tokens.push(token);
    return token;
  };

  // Good ones, in header and query.
  const listener = await openListener(relay, 'hyco', {
    token: remember(relay.token('hyco', { rule: 'listener' })),
  });
  const good = remember(relay.token('hyco', { rule: 'sender', ttlSec: 7_777 }));
  const dialling = dialSender(relay, 'hyco/below', {
    token: '',
    query: `${inQuery(good)}&mine=${MARK}`,
    headers: [
      ['Authorization', `Bearer ${MARK}`],
      ['Cookie', `session=${MARK}`],
      ['X-Api-Key', MARK],
    ],
  });
  const { address, id } = await listener.nextAccept();
  const rendezvous = (await dial(address).answer).socket;
  const { socket: sender } = await dialling.answer;
  sender?.send(MARK);
  expect(await rendezvous?.nextText()).toBe(MARK);
  // Used twice, rejected, renewed well and badly.
  await dial(address).answer;
  const rejecting = dialSender(relay);
  const second = await listener.nextAccept();
  await dial(`${second.address}&sb-hc-statusCode=403&sb-hc-statusDescription=${MARK}`).answer;
  expect((await rejecting.answer).reason).toBe(MARK);
  listener.control.send(formatRenewToken(remember(relay.token('hyco', { ttlSec: 8_888 }))));
  listener.control.send(`{"strange":"${MARK}"}`);
  listener.control.send(formatRenewToken(`${MARK} is no token`));
  await listener.control.nextClose();

  // Bad ones: every refusal there is a way to.
  for (const token of [
    remember(relay.token('a')),
    remember(relay.token('hyco', { ttlSec: -9_999 })),
    remember(relay.token('hyco', { rule: 'sender', ttlSec: 6_666 })),
    `SharedAccessSignature sr=x&sig=${MARK}&se=1999999999&skn=root`,
    `Bearer ${MARK}`,
    `SharedAccessSignature ${MARK}`,
  ]) {
    await dialListener(relay, 'hyco', { token }).answer;
    await dialListener(relay, 'hyco', { token: '', query: inQuery(token) }).answer;
    await dialSender(relay, 'nothing', { token }).answer;
    await fetch(`${relay.httpUrl}/hyco?${inQuery(token)}&q=${MARK}`);
  }
  await dial(
    `${relay.wsUrl}/$hc/hyco?sb-hc-action=accept&sb-hc-id=${randomUUID()}_G${'a'.repeat(32)}`,
  ).answer;
  await exchangeRaw(relay.httpUrl, `GET /$hc/%2e%2e?${MARK} HTTP/1.1\r\nHost: ${MARK} x\r\n\r\n`);
  sender?.sendClose(1000, MARK);
  rendezvous?.sendClose(1000, MARK);
  sender?.fin();
  rendezvous?.fin();
  const pair = await joinPair(relay);
  await pair.sender.reset();
  pair.listener.fin();
  await until('all senders are gone', () => relay.server.status().senders === 0);

  const metrics = await (await fetch(`${relay.adminUrl}/metrics`)).text();
  const status = await (await fetch(`${relay.adminUrl}/status`)).text();
  const written = [...relay.log.lines, metrics, status, JSON.stringify(relay.server.status())].join(
    '\n',
  );
  expect(relay.log.lines.length).toBeGreaterThan(20);
  const secrets = [
    MARK,
    id.slice(38),
    ROOT_KEY,
    LISTEN_KEY,
    SEND_KEY,
    'SharedAccessSignature ',
    ...tokens.map(token => /sig=([^&]+)/.exec(token)?.[1] ?? 'no signature'),
  ];
  for (const secret of secrets) {
    expect(written.includes(secret), `${secret.slice(0, 12)}… is written down`).toBe(false);
    expect(written.includes(decodeURIComponent(secret))).toBe(false);
  }
});
