import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pathFor, relayConnection, type ConnectionOptions } from '../../src/cli/connection.ts';

function connectionOf(endpoint: string, options: ConnectionOptions = {}) {
  const connectionString = `Endpoint=${endpoint};SharedAccessKeyName=k;SharedAccessKey=v`;
  return relayConnection(
    { connectionString, ...options },
    {
      env: {},
      stdin: new PassThrough(),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      clock: systemClock,
      version: '',
      invocation: '',
      openLog: () => Promise.reject(new Error('no log here')),
      onSignal: () => () => undefined,
      onBug: () => undefined,
      exit: () => undefined,
    },
  );
}

test.each([
  ['sb://relay.example.com/', {}, 'wss://relay.example.com:443'],
  ['sb://relay.example.com:8443/', {}, 'wss://relay.example.com:8443'],
  ['http://relay.example.com/', {}, 'ws://relay.example.com:80'],
  ['sb://localhost:8080/', {}, 'ws://localhost:8080'],
  ['sb://127.0.0.1:8080/', {}, 'ws://127.0.0.1:8080'],
  ['sb://[::1]:8080/', {}, 'ws://[::1]:8080'],
  ['sb://localhost:8080/', { tls: true }, 'wss://localhost:8080'],
  ['sb://localhost/', {}, 'wss://localhost:443'],
  ['https://localhost:8080/', {}, 'wss://localhost:8080'],
  ['sb://localhost.example.com:8080/', {}, 'wss://localhost.example.com:8080'],
])('relayConnection() of %s %j speaks to %s', async (endpoint, options, origin) => {
  const connection = await connectionOf(endpoint, options);
  expect(connection.webSocketOrigin).toBe(origin);
  expect(connection.httpOrigin).toBe(origin.replace('ws', 'http'));
});

test('pathFor() prefers the argument and drops leading slashes', async () => {
  const connection = await connectionOf('sb://h/;EntityPath=inner');
  expect(pathFor(undefined, connection)).toBe('inner');
  expect(pathFor('/given/a?b', connection)).toBe('given/a?b');
});
