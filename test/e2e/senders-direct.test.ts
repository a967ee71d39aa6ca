// What a listener is told of a sender that comes without a balancer.
import { describe, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startRelay } from '../support/relay.ts';

const ID = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11';

describe('a sender', () => {
  test('is announced with everything that listeners of all kinds need', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay, 'hyco/chat/room 7'.replace(' ', '%20'), {
      query: `room=7&&x&sb-hc-action=connect&sb-hc-id=${ID}&sb-hc-other=1`,
      headers: [
        ['Origin', 'https://app.example.org'],
        ['X-Tenant', 'blue'],
        ['x-tenant', 'green'],
        ['Cookie', 'a=1'],
        ['Cookie', 'b=2'],
        ['Authorization', 'Bearer for-the-application'],
      ],
    });
    const text = await control.control.nextText();
    const message: unknown = JSON.parse(text);
    const id = expect.stringMatching(new RegExp(`^${ID}_G[\\da-f]{32}$`));
    expect(message).toEqual({
      accept: {
        address: expect.stringMatching(
          new RegExp(
            `^ws://127\\.0\\.0\\.1:${relay.port}/\\$hc/hyco/chat/room%207\\?room=7&&x&` +
              `sb-hc-action=accept&sb-hc-id=${ID}_G[\\da-f]{32}$`,
          ),
        ),
        id,
        connectHeaders: {
          Host: `127.0.0.1:${relay.port}`,
          Upgrade: 'websocket',
          Connection: 'Upgrade',
          'Sec-WebSocket-Key': expect.stringMatching(/^[\w+/]{22}==$/),
          'Sec-WebSocket-Version': '13',
          Origin: 'https://app.example.org',
          'X-Tenant': 'blue, green',
          Cookie: 'a=1; b=2',
          Authorization: 'Bearer for-the-application',
        },
        remoteEndpoint: { address: '127.0.0.1', port: expect.any(Number) },
      },
    });
    await dialling.abandon();
  });

  test('gets an id of the relay when its own is no UUID', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const dialling = dialSender(relay, 'hyco', { query: 'sb-hc-action=connect&sb-hc-id=mine' });
    const { id } = await control.nextAccept();
    expect(id).toMatch(/^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}_G[\da-f]{32}$/);
    await dialling.abandon();
  });
});
