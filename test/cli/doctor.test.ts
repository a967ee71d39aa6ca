import { createServer as createHttps } from 'node:https';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { makeCertificate } from '../support/certificate.ts';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { startStrippingProxy } from '../support/intermediaries.ts';
import { freePort } from '../support/ports.ts';
import { LISTEN_KEY, ROOT_KEY, SEND_KEY, startRelay, type TestRelay } from '../support/relay.ts';
import { portOf } from './port-of.ts';
import { commandResult, runCommand, type CommandOptions } from './run-command.ts';

let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay();
});
afterAll(() => relay.server.stop());

const cleanups: (() => PromiseLike<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

const ROOT = `SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY}`;

function env(authority = `http://127.0.0.1:${relay.port}`, rule = ROOT) {
  return { HALFWAY_CONNECTION_STRING: `Endpoint=${authority};${rule}` };
}

interface Examined {
  readonly exitCode: number;
  readonly ok: boolean;
  /** Outcome by check. */
  readonly outcomes: Readonly<Record<string, string>>;
  /** Text and advice by check. */
  readonly texts: Readonly<Record<string, string>>;
  readonly all: string;
}

async function doctor(argv: readonly string[], options: CommandOptions = {}): Promise<Examined> {
  const { exitCode, out, err } = await commandResult(['doctor', ...argv, '--json'], {
    env: env(),
    ...options,
  });
  const { ok, checks }: Answer = JSON.parse(out);
  return {
    exitCode,
    ok,
    outcomes: Object.fromEntries(checks.map(({ check, outcome }) => [check, outcome])),
    texts: Object.fromEntries(
      checks.map(({ check, text, advice }) => [check, `${text}; ${advice ?? ''}`]),
    ),
    all: out + err,
  };
}

interface Answer {
  readonly ok: boolean;
  readonly checks: readonly {
    readonly check: string;
    readonly outcome: string;
    readonly text: string;
    readonly advice?: string;
  }[];
}

/** A reason phrase as Azure's. */
function refusal(text: string): string {
  return `${text}. TrackingId:0-0, SystemTracker:x, Timestamp:y`;
}

async function listen(): Promise<void> {
  const listener = runCommand(['listen', 'hyco'], { env: env() });
  cleanups.push(() => listener[Symbol.asyncDispose]());
  await listener.saw('listening on');
}

describe('doctor', () => {
  test('finds everything right where it is, and shows no key', async () => {
    await listen();
    const { exitCode, outcomes, texts, all } = await doctor(['hyco']);
    expect(outcomes).toEqual({
      name: 'OK',
      tcp: 'OK',
      proxy: 'OK',
      tls: 'OK',
      clock: 'OK',
      health: 'OK',
      websocket: 'OK',
      poll: 'OK',
      token: 'OK',
      rights: 'OK',
      listener: 'OK',
    });
    expect(exitCode).toBe(0);
    expect(texts['rights']).toContain('Listen, Send, Manage');
    expect(texts['listener']).toContain('1 listens');
    expect(texts['websocket']).toContain('opened and closed');
    expect(texts['poll']).toContain('opened and closed');
    expect(all).not.toContain(ROOT_KEY);
    expect(all).not.toContain('SharedAccessSignature');
  });

  test('prints one line for each check', async () => {
    const { out, exitCode } = await commandResult(['doctor', 'hyco'], { env: env() });
    const lines = out.trimEnd().split('\n');
    expect(lines).toHaveLength(11);
    expect(lines[0]).toBe('OK           name          127.0.0.1 is an address');
    expect(lines.at(-1)).toMatch(
      /^warning {6}listener {6}nobody listens on "hyco"; start a listener/,
    );
    expect(exitCode).toBe(0);
  });

  test('leaves no listener behind, and reaches none', async () => {
    const listener = runCommand(['listen', 'hyco', '--print'], { env: env() });
    cleanups.push(() => listener[Symbol.asyncDispose]());
    await listener.saw('listening on');
    await doctor(['hyco']);
    expect(listener.out()).toBe('');
    expect((await doctor(['hyco'])).texts['listener']).toContain('1 listens');
  });

  test.each([
    ['listener', LISTEN_KEY, 'Listen; ', 'OK', 'told to those who may send'],
    ['sender', SEND_KEY, 'Send; ', 'warning', 'nobody listens'],
  ])('tells the rights of rule %s', async (name, key, rights, outcome, listener) => {
    const rule = `SharedAccessKeyName=${name};SharedAccessKey=${key}`;
    const { exitCode, outcomes, texts } = await doctor(['hyco'], { env: env(undefined, rule) });
    expect([exitCode, texts['rights'], outcomes['listener']]).toEqual([0, rights, outcome]);
    expect(texts['listener']).toContain(listener);
  });

  test('with an endpoint alone tries all but token, rights and listener', async () => {
    const argv = ['--endpoint', `ws://127.0.0.1:${relay.port}`];
    const { exitCode, outcomes } = await doctor(argv, { env: {} });
    expect(exitCode).toBe(0);
    expect(outcomes).toMatchObject({ websocket: 'OK', poll: 'OK', token: 'not tried' });
    expect(outcomes).toMatchObject({ rights: 'not tried', listener: 'not tried' });
  });

  test('says of a wrong port that nothing listens there, and tries nothing else', async () => {
    const port = await freePort();
    const { exitCode, outcomes, texts } = await doctor(['hyco'], {
      env: env(`http://127.0.0.1:${port}`),
    });
    expect([exitCode, outcomes['name'], outcomes['tcp']]).toEqual([1, 'OK', 'failed']);
    expect(texts['tcp']).toContain('nothing listens there');
    expect(texts['tcp']).toContain('check host and port');
    expect(Object.values(outcomes).slice(2)).toEqual(Array(9).fill('not tried'));
  });

  test('says of a name that is none that it cannot be resolved', async () => {
    const { exitCode, outcomes, texts } = await doctor(['hyco'], {
      env: env('http://no-such-host.invalid'),
    });
    expect([exitCode, outcomes['name'], outcomes['tcp']]).toEqual([1, 'failed', 'not tried']);
    expect(texts['name']).toMatch(/cannot be resolved|does not answer/);
  });

  test('says of a wrong key that the relay does not accept it, and does not show it', async () => {
    const { exitCode, outcomes, texts, all } = await doctor(['hyco'], {
      env: env(undefined, 'SharedAccessKeyName=root;SharedAccessKey=s3cret'),
    });
    expect([exitCode, outcomes['token'], outcomes['rights']]).toEqual([1, 'failed', 'not tried']);
    expect(texts['token']).toContain('InvalidSignature; check the key and the name of its rule');
    expect(outcomes).toMatchObject({ websocket: 'OK', poll: 'OK' });
    expect(all).not.toContain('s3cret');
  });

  test('says of a token that it has expired', async () => {
    const token = relay.token('hyco', { ttlSec: -60 });
    const { exitCode, texts } = await doctor(['hyco'], {
      env: env(undefined, `SharedAccessSignature=${token}`),
    });
    expect(exitCode).toBe(1);
    expect(texts['token']).toMatch(/the token expired 1 min \d s ago; make a new one/);
  });

  test('says of a hybrid connection that is none that there is none', async () => {
    const { exitCode, outcomes, texts } = await doctor(['nowhere']);
    expect([exitCode, outcomes['token'], outcomes['listener']]).toEqual([1, 'OK', 'failed']);
    expect(texts['listener']).toContain('there is no hybrid connection "nowhere"');
  });

  test('makes no hybrid connection by looking for it', async () => {
    await using eager = await startRelay({ autoCreate: true });
    const there = { env: env(`http://127.0.0.1:${eager.port}`) };
    await doctor(['new-one'], there);
    expect((await doctor(['new-one'], there)).outcomes['listener']).toBe('failed');
  });

  test('says of a self-signed certificate that it is, and trusts it as --ca says', async () => {
    using certificate = makeCertificate();
    const { certFile: tlsCert, keyFile: tlsKey } = certificate;
    await using secure = await startRelay({ tlsCert, tlsKey });
    const there = { env: env(`https://localhost:${secure.port}`) };
    const { exitCode, outcomes, texts } = await doctor(['hyco'], there);
    expect([exitCode, outcomes['tls'], outcomes['clock']]).toEqual([1, 'failed', 'not tried']);
    expect(texts['tls']).toContain('self-signed');
    expect(texts['tls']).toContain('--ca FILE');
    const trusting = await doctor(['hyco', '--ca', tlsCert], there);
    expect([trusting.exitCode, trusting.outcomes['tls']]).toEqual([0, 'warning']);
    expect(trusting.texts['tls']).toMatch(/TLSv1\.3, certificate of localhost .* good for 1 days/);
    expect(trusting.outcomes['websocket']).toBe('OK');
  });

  test('says of a certificate for another name which it is for', async () => {
    using certificate = makeCertificate();
    const server = createHttps({
      cert: readFileSync(certificate.certFile),
      key: readFileSync(certificate.keyFile),
    });
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.2', resolve));
    cleanups.push(() => void server.close());
    const argv = ['hyco', '--ca', certificate.certFile];
    const there = { env: env(`https://127.0.0.2:${portOf(server)}`) };
    const { exitCode, texts } = await doctor(argv, there);
    expect(exitCode).toBe(1);
    expect(texts['tls']).toContain('its certificate is for another name');
  });

  test('says of a proxy that it wants credentials, and with them goes through', async () => {
    await using proxy = await startConnectProxy({ credentials: 'user:s3cret' });
    const place = `127.0.0.1:${proxy.port}`;
    const without = await doctor(['hyco', '--proxy', `http://${place}`]);
    expect([without.exitCode, without.outcomes['proxy']]).toEqual([1, 'failed']);
    expect(without.texts['proxy']).toMatch(/answered 407 .*; give credentials as in http:\/\/user/);
    expect(without.outcomes['websocket']).toBe('not tried');
    const { outcomes, texts, all } = await doctor(['hyco', '--proxy', proxy.url]);
    expect(outcomes).toMatchObject({ proxy: 'OK', websocket: 'OK', poll: 'OK', token: 'OK' });
    expect(texts['proxy']).toContain(`${place} lets us through (--proxy names it)`);
    expect(all).not.toContain('s3cret');
  });

  test('says that something takes Upgrade out, and that long-polling does instead', async () => {
    await using proxy = await startStrippingProxy(relay.port);
    const { exitCode, outcomes, texts } = await doctor(['hyco'], {
      env: env(`http://127.0.0.1:${proxy.port}`),
    });
    expect([exitCode, outcomes['websocket'], outcomes['poll']]).toEqual([0, 'warning', 'OK']);
    expect(texts['websocket']).toContain('takes Upgrade out of handshakes; long-polling is used');
    expect(texts['rights']).toContain('Listen, Send, Manage');
  });

  test.each([
    ['10 minutes', 600_000, 'failed', 1, /this machine is (9 min 5\d|10 min \d) s ahead of/],
    ['1 minute', -60_000, 'warning', 0, /this machine is (5\d s|1 min \d s) behind/],
  ])('says that the clock is off by %s', async (_, offMs, outcome, exitCode, words) => {
    const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + offMs };
    const examined = await doctor(['hyco'], { clock });
    expect([examined.outcomes['clock'], examined.exitCode]).toEqual([outcome, exitCode]);
    expect(examined.texts['clock']).toMatch(words);
    expect(examined.texts['clock']).toContain('NTP');
  });

  test('says of what is no relay that it is none', async () => {
    const server = createServer((_request, answer) => answer.writeHead(404).end('what?'));
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void server.close());
    const { exitCode, outcomes } = await doctor(['hyco'], {
      env: env(`http://127.0.0.1:${portOf(server)}`),
    });
    expect(exitCode).toBe(1);
    expect(outcomes).toMatchObject({ health: 'not offered', websocket: 'failed', poll: 'failed' });
  });

  test('finds no fault in a relay without health and long-polling, as Azure is', async () => {
    const server = createServer((request, answer) => {
      const isForService = request.headers['x-process-at'] !== undefined;
      if (isForService) answer.writeHead(200).end('<HybridConnectionDescription><ListenerCount>2<');
      else if (request.url?.startsWith('/hyco') === true) {
        answer.writeHead(404, refusal('None meet the AllowedListeners criteria')).end();
      } else answer.writeHead(404, refusal('Endpoint does not exist')).end();
    });
    server.on('upgrade', ({ socket }) => {
      socket.end(`HTTP/1.1 400 ${refusal('Unsupported action')}\r\nContent-Length: 0\r\n\r\n`);
    });
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void server.close());
    const { exitCode, outcomes, texts } = await doctor(['hyco'], {
      env: env(`http://127.0.0.1:${portOf(server)}`),
    });
    expect(exitCode).toBe(0);
    expect(outcomes).toMatchObject({
      health: 'not offered',
      websocket: 'OK',
      poll: 'not offered',
      token: 'OK',
      rights: 'OK',
      listener: 'OK',
    });
    expect(texts['listener']).toContain('2 listen');
  });

  test.each([
    ['an endpoint and a connection string', ['--endpoint', 'sb://a', '--connection-string', 'x']],
    ['a name that is none', ['a//b']],
    ['nothing to look at', []],
  ])('ends with 64 for %s', async (what, argv) => {
    const given = what === 'nothing to look at' ? {} : env();
    expect((await commandResult(['doctor', ...argv], { env: given })).exitCode).toBe(64);
  });
});
