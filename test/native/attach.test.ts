import type { HttpResponse, us_listen_socket } from 'uWebSockets.js';
import { afterEach, describe, expect, test } from 'vitest';
import { FIN_BIT, OPCODES } from '../../src/protocol/frames.ts';
import type { LegHandle } from '../../src/transports/native-plane.ts';
import { LISTEN_EXCLUSIVE, uWS } from '../../src/transports/uws.ts';
import { clientFrame, FrameClient } from '../support/frame-client.ts';
import { requirePlane } from '../support/native-relay.ts';
import { until } from '../support/within.ts';

const plane = requirePlane();
const GREETING = 'written in open()';
const NOT_ATTACHED = '/not-attached';

type Upgrade = (upgrade: () => void, response: HttpResponse) => void;

/** Ways to upgrade. In each `open` runs with the 101 answer still on its way, in another place. */
const UPGRADES: readonly (readonly [string, Upgrade])[] = [
  ['at once', upgrade => upgrade()],
  ['later, corked', (upgrade, response) => void setImmediate(() => response.cork(upgrade))],
  ['later, not corked', upgrade => void setImmediate(upgrade)],
  ['in a microtask, corked', (upgrade, response) => queueMicrotask(() => response.cork(upgrade))],
];

interface Greeter {
  readonly port: number;
  readonly legs: LegHandle[];
}

describe('attach()', () => {
  let stop: (() => void) | undefined;
  afterEach(() => stop?.());

  async function startGreeter(upgradeBy: Upgrade, idleTimeout = 0): Promise<Greeter> {
    const legs: LegHandle[] = [];
    let listening: us_listen_socket | undefined;
    const app = uWS.App().ws<{ path: string }>('/*', {
      idleTimeout,
      sendPingsAutomatically: idleTimeout !== 0,
      upgrade(response, request, context) {
        plane.hook(context);
        const path = request.getUrl();
        const key = request.getHeader('sec-websocket-key');
        response.onAborted(() => {});
        upgradeBy(() => response.upgrade({ path }, key, '', '', context), response);
      },
      open(ws) {
        if (ws.getUserData().path === NOT_ATTACHED) return;
        const leg = plane.attach(ws, { frameBytesMax: 0, messageBytesMax: 0 });
        legs.push(leg);
        plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from(GREETING));
      },
    });
    const port = await new Promise<number>(resolve => {
      app.listen('127.0.0.1', 0, LISTEN_EXCLUSIVE, socket => {
        if (socket === false) return;
        listening = socket;
        resolve(uWS.us_socket_local_port(socket));
      });
    });
    stop = () => {
      if (listening !== undefined) uWS.us_listen_socket_close(listening);
      app.close();
    };
    return { port, legs };
  }

  test.each(UPGRADES)('what is written in open() follows the 101 answer: %s', async (_name, by) => {
    const { port } = await startGreeter(by);
    // FrameClient refuses anything but 101 as the first bytes.
    const client = await FrameClient.open(port, '/');
    expect(await client.nextText()).toBe(GREETING);
    client.reset();
    await until('no leg left', () => plane.stats().legs === 0);
  });

  test.each(UPGRADES)(
    'bytes that come with the handshake break nothing: %s',
    async (_name, upgradeBy) => {
      const { port } = await startGreeter(upgradeBy);
      const early = clientFrame(OPCODES.text, 'early');
      const client = await FrameClient.open(port, '/', early).catch(() => undefined);
      // Dropped after an upgrade at once, cut after a later one: RFC 6455 forbids to send them.
      client?.reset();
      const next = await FrameClient.open(port, '/');
      expect(await next.nextText()).toBe(GREETING);
      next.reset();
      await until('no leg left', () => plane.stats().legs === 0);
    },
  );

  test(
    'turns the idle timeout and the pings of uWebSockets.js off',
    { timeout: 40_000 },
    async () => {
      const { port, legs } = await startGreeter(upgrade => upgrade(), 8);
      const client = await FrameClient.open(port, '/');
      expect(await client.nextText()).toBe(GREETING);
      // Another socket of the route, as silent as this one, is pinged and then cut.
      const other = await FrameClient.open(port, NOT_ATTACHED);
      expect((await other.next('a ping', 20_000))?.opcode).toBe(OPCODES.ping);
      expect(await other.next('the end', 20_000)).toBeUndefined();
      expect(client.frames).toEqual([]);
      expect(plane.legStats(legs[0] ?? 0)?.state).toBe('parked');
      client.reset();
      await until('no leg left', () => plane.stats().legs === 0);
    },
  );
});
