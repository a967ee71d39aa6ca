import { describe, expect, test } from 'vitest';
import { loadConfig, type ConfigSources } from '../../src/config/load.ts';
import type { Config } from '../../src/config/options.ts';

const MINIMAL = `
namespaces:
  - name: production
    authorizationRules:
      - { name: both, rights: [Listen, Send], primaryKey: 0123456789abcdef }
    hybridConnections:
      - name: orders
`;

interface Given {
  readonly purpose?: ConfigSources['purpose'];
  readonly flags?: ConfigSources['flags'];
  readonly env?: ConfigSources['env'];
  readonly files?: Readonly<Record<string, string>>;
  readonly hostName?: string;
}

function load(given: Given): ReturnType<typeof loadConfig> {
  const files: Readonly<Record<string, string>> = { 'relay.yaml': MINIMAL, ...given.files };
  return loadConfig({
    purpose: given.purpose ?? 'serve',
    flags: given.flags ?? { config: 'relay.yaml' },
    env: given.env ?? {},
    hostName: given.hostName ?? 'box',
    readFile: path => {
      const name = path.replace(`${process.cwd()}/`, '');
      const text = files[name];
      if (text === undefined) throw new Error(`ENOENT: no such file, open '${name}'`);
      return text;
    },
  });
}

function loaded(given: Given): Config {
  const result = load(given);
  if ('faults' in result) throw new Error(result.faults.join('\n'));
  return result.config;
}

function faultsOf(given: Given): readonly string[] {
  const result = load(given);
  return 'faults' in result ? result.faults : [];
}

function warningsOf(given: Given): readonly string[] {
  const result = load(given);
  return 'warnings' in result ? result.warnings : [];
}

describe('loadConfig() takes each value', () => {
  test('from the defaults when nothing is given', () => {
    const config = loaded({});
    expect(config).toMatchObject({
      host: '0.0.0.0',
      port: 8080,
      adminHost: '127.0.0.1',
      adminPort: 9090,
      nodeId: 'box',
      requestTimeoutMs: 60_000,
      trustedProxies: [],
      tlsCert: undefined,
      autoCreate: false,
    });
  });

  test('from defaults < file < environment < flags', () => {
    const files = { 'relay.yaml': `port: 1001\nadminPort: 1002\nlistenersMax: 3\n${MINIMAL}` };
    const env = { HALFWAY_PORT: '2001', HALFWAY_ADMIN_PORT: '2002' };
    const config = loaded({ files, env, flags: { config: 'relay.yaml', port: '3001' } });
    const { port, adminPort, listenersMax, sendersMax } = config;
    expect([port, adminPort, listenersMax, sendersMax]).toEqual([3001, 2002, 3, 50_000]);
  });

  test('with the config file named by its variable', () => {
    expect(loaded({ flags: {}, env: { HALFWAY_CONFIG: 'relay.yaml' } }).config).toBe('relay.yaml');
  });

  test('from JSON as from YAML', () => {
    const json = JSON.stringify({ port: 81, namespaces: [{ name: 'a' }] }, undefined, '\t');
    expect(loaded({ files: { 'relay.yaml': json } })).toMatchObject({
      port: 81,
      namespaces: [{ name: 'a', hosts: [], authorizationRules: [], hybridConnections: [] }],
    });
  });

  test('as a list of the file or a text with commas', () => {
    const files = { 'relay.yaml': `trustedProxies: [10.0.0.0/8, "fd00::1"]\n${MINIMAL}` };
    expect(loaded({ files }).trustedProxies).toEqual(['10.0.0.0/8', 'fd00::1/128']);
    const env = { HALFWAY_TRUSTED_PROXIES: '127.0.0.1, 192.168.0.0/16' };
    expect(loaded({ files, env }).trustedProxies).toEqual(['127.0.0.1/32', '192.168.0.0/16']);
  });

  test('as absent when a variable is empty', () => {
    const env = { HALFWAY_PORT: '', HALFWAY_ADMIN_TOKEN: '', HALFWAY_ADMIN_TOKEN_FILE: '' };
    expect(loaded({ env })).toMatchObject({ port: 8080, adminToken: undefined });
  });

  test('with paths of the file relative to the file', () => {
    const files = { 'etc/relay.yaml': `tlsCert: cert.pem\ntlsKey: /k/key.pem\n${MINIMAL}` };
    const config = loaded({ files, flags: { config: 'etc/relay.yaml' } });
    expect(config.tlsCert).toBe(`${process.cwd()}/etc/cert.pem`);
    expect(config.tlsKey).toBe('/k/key.pem');
  });

  test("with a node's name made of the host name's permitted characters", () => {
    expect(loaded({ hostName: 'büro pc' }).nodeId).toBe('b-ro-pc');
    expect(loaded({ hostName: 'x'.repeat(80) }).nodeId).toHaveLength(64);
  });

  test('with what halfway dev sets differently', () => {
    const dev = { purpose: 'dev', flags: {} } as const;
    expect(loaded(dev)).toMatchObject({
      host: '127.0.0.1',
      autoCreate: true,
      dispatch: true,
      namespaces: [],
    });
    expect(loaded({ ...dev, env: { HALFWAY_AUTO_CREATE: 'false' } }).autoCreate).toBe(false);
  });

  test('and freezes the result to its leaves', () => {
    const config = loaded({});
    const rule = config.namespaces[0]?.authorizationRules[0];
    expect([config, config.namespaces, rule, rule?.rights].every(Object.isFrozen)).toBe(true);
  });
});

describe('loadConfig() takes secrets', () => {
  const token = 'an-admin-token-of-length';

  test.each([
    ['a variable', { env: { HALFWAY_ADMIN_TOKEN: token } }],
    ['a file named by a variable', { env: { HALFWAY_ADMIN_TOKEN_FILE: 'token' } }],
    ['a file named by a flag', { flags: { config: 'relay.yaml', adminToken: 'token' } }],
    ['the config file', { files: { 'relay.yaml': `adminToken: ${token}\n${MINIMAL}` } }],
    [
      'a file named by the config file',
      { files: { token: `${token}\n`, 'relay.yaml': `adminTokenFile: token\n${MINIMAL}` } },
    ],
  ])('from %s', (_, given: Given) => {
    const files = { token: `${token}\n`, ...given.files };
    expect(loaded({ ...given, files }).adminToken).toBe(token);
  });

  test('of rules from files beside the config file', () => {
    const text = MINIMAL.replace('primaryKey: 0123456789abcdef', 'primaryKeyFile: both.key');
    const files = { 'etc/relay.yaml': text, 'etc/both.key': 'a key, with spaces \r\n' };
    const config = loaded({ files, flags: { config: 'etc/relay.yaml' } });
    expect(config.namespaces[0]?.authorizationRules[0]?.primaryKey).toBe('a key, with spaces ');
  });

  test('from one place only', () => {
    const env = { HALFWAY_ADMIN_TOKEN: token, HALFWAY_ADMIN_TOKEN_FILE: 'token' };
    expect(faultsOf({ env, files: { token } })).toEqual([
      'HALFWAY_ADMIN_TOKEN_FILE must not stand beside HALFWAY_ADMIN_TOKEN: give one of the two',
    ]);
  });

  test('and shows them in no fault', () => {
    const secret = 'short and spaced';
    const text = `adminToken: ${secret}\nnamespaces: [{ name: a, authorizationRules: [{ name: r, rights: [Send], primaryKey: [${secret}] }] }]`;
    const faults = faultsOf({
      files: { 'relay.yaml': text },
      env: { HALFWAY_PUBLIC_URL: 'https://user:hunter2@host/' },
    });
    expect(faults).toHaveLength(3);
    expect(faults.join()).not.toMatch(/short and spaced|hunter2/);
  });
});

describe('loadConfig() refuses', () => {
  test('everything wrong at once, each with its place', () => {
    const text = [
      'listenersMax: many',
      'colour: red',
      'namespaces:',
      '  - name: -x',
      '    hosts: [localhost, "localhost:8080"]',
      '    authorizationRules:',
      '      - { name: r, rights: [Manage, Read], primaryKey: k }',
      '      - { name: R, rights: [], primaryKey: 7, key: k }',
      '    hybridConnections:',
      '      - { name: a/../b, requiresClientAuthorization: perhaps }',
    ].join('\n');
    const faults = faultsOf({
      files: { 'relay.yaml': text },
      flags: { config: 'relay.yaml', port: '80a', dataPlane: 'fast' },
      env: { HALFWAY_KEEP_ALIVE_MS: '7999', HALFWAY_TLS_CERT: 'cert.pem' },
    });
    expect(faults).toEqual([
      expect.stringContaining('relay.yaml:2:1: colour is not a key we know'),
      '--port must be a whole number from 0 to 65535, got "80a"',
      'HALFWAY_KEEP_ALIVE_MS must be a whole number from 8000 to 960000, got "7999"',
      'relay.yaml:1:1: listenersMax must be a whole number from 1 to 10000000, got "many"',
      '--data-plane must be one of auto, native, messages, got "fast"',
      expect.stringMatching(
        /^relay\.yaml:4:5: namespaces\[0\]\.name must be 1 to 50 .*, got "-x"$/,
      ),
      'relay.yaml:5:24: namespaces[0].hosts[1] must be a host name without scheme and port, got "localhost:8080"',
      expect.stringMatching(
        /^relay\.yaml:10:11: .*\[0\]\.name must be 1 to 260 .*, got "a\/..\/b"$/,
      ),
      'relay.yaml:10:25: namespaces[0].hybridConnections[0].requiresClientAuthorization must be true or false, got "perhaps"',
      'relay.yaml:7:37: namespaces[0].authorizationRules[0].rights[1] must be one of Listen, Send, Manage, got "Read"',
      'relay.yaml:7:20: namespaces[0].authorizationRules[0].rights must hold Listen and Send too when it holds Manage',
      expect.stringContaining('relay.yaml:8:47: namespaces[0].authorizationRules[1].key is not a'),
      'relay.yaml:8:32: namespaces[0].authorizationRules[1].primaryKey must be a text of 1 to 256 characters; put it in quotes',
      'relay.yaml:8:20: namespaces[0].authorizationRules[1].rights must hold at least one of Listen, Send, Manage',
      'relay.yaml:8:11: namespaces[0].authorizationRules[1].name is taken by item [0]: "R"',
      'tlsKey must be given too: TLS needs a certificate (tlsCert) and its key (tlsKey)',
    ]);
  });

  test('to serve without a namespace, with a file to copy and another way', () => {
    const [fault] = faultsOf({ flags: {} });
    expect(fault).toMatch(/hybridConnections:\n\s+- name: orders/);
    expect(fault).toContain('halfway dev');
  });

  test('an admin port that others can reach without a token', () => {
    const [fault] = faultsOf({ env: { HALFWAY_ADMIN_HOST: '0.0.0.0' } });
    expect(fault).toContain('HALFWAY_ADMIN_TOKEN_FILE');
    expect(faultsOf({ env: { HALFWAY_ADMIN_HOST: '::1' } })).toEqual([]);
  });

  test('to create hybrid connections by itself outside of halfway dev', () => {
    expect(faultsOf({ env: { HALFWAY_AUTO_CREATE: 'true' } })).toEqual([
      'autoCreate must be false here: only `halfway dev` creates by itself',
    ]);
  });

  test('a config file that is not there, and nothing more about what it would have said', () => {
    expect(faultsOf({ flags: { config: 'nowhere.yaml' } })).toEqual([
      "--config must name a file that can be read: ENOENT: no such file, open 'nowhere.yaml'",
    ]);
  });

  test('a key file that cannot be read', () => {
    const text = MINIMAL.replace('primaryKey: 0123456789abcdef', 'primaryKeyFile: gone.key');
    expect(faultsOf({ files: { 'relay.yaml': text } })).toEqual([
      expect.stringMatching(
        /^relay\.yaml:5:\d+: namespaces\[0\]\.authorizationRules\[0\]\.primaryKeyFile must name a file/,
      ),
    ]);
  });

  test('more hybrid connections than there may be', () => {
    const env = { HALFWAY_HYBRID_CONNECTIONS_MAX: '1' };
    const files = { 'relay.yaml': `${MINIMAL}      - name: bills\n` };
    expect(faultsOf({ env, files })[0]).toContain('(hybridConnectionsMax), got 2');
  });

  test('to list more faults than one can read', () => {
    const namespaces = Array.from({ length: 1_000 }, () => ({ name: '!' }));
    const faults = faultsOf({ files: { 'relay.yaml': JSON.stringify({ namespaces }) } });
    expect(faults).toHaveLength(201);
    expect(faults.at(-1)).toMatch(/^… and \d+ more faults$/);
  });
});

describe('loadConfig() warns', () => {
  test('about a variable of our prefix that it does not know, without its value', () => {
    const [warning, ...more] = warningsOf({
      env: { HALFWAY_PROT: '81', HALFWAY_DEV_KEY: 'x', PATH: '/' },
    });
    expect(warning).toMatch(/^HALFWAY_PROT is ignored/);
    expect(warning).not.toContain('81');
    expect(more).toEqual([]);
  });

  test('about what Kubernetes sets for a Service named halfway, and ignores it', () => {
    const env = { HALFWAY_PORT: 'tcp://10.0.0.1:8080', HALFWAY_SERVICE_HOST: '10.0.0.1' };
    expect(loaded({ env }).port).toBe(8080);
    expect(warningsOf({ env }).every(warning => warning.includes('enableServiceLinks'))).toBe(true);
    expect(warningsOf({ env })).toHaveLength(2);
  });
});

describe('loadConfig() of job dispatch', () => {
  const flags = { config: 'relay.yaml', dispatch: true } as const;

  test('is off for serve unless it is asked for, and on for dev', () => {
    expect(loaded({}).dispatch).toBe(false);
    expect(loaded({ flags: { ...flags, data: 'records' } }).dispatch).toBe(true);
    expect(loaded({ purpose: 'dev', flags: {}, env: { HALFWAY_DISPATCH: 'false' } }).dispatch).toBe(
      false,
    );
  });

  test('asks serve for a place where records outlive the process', () => {
    expect(faultsOf({ flags }).join()).toMatch(/^data must be given.*--data DIR.*redis/);
    expect(faultsOf({ purpose: 'dev', flags: {} })).toEqual([]);
    const env = { HALFWAY_MESH_SECRET: 's'.repeat(32) };
    expect(faultsOf({ flags: { ...flags, redis: 'redis://one' }, env })).toEqual([]);
  });

  test.each(['2', 'auto'])('refuses workers %s unless Redis has the records', workers => {
    const withData = { ...flags, data: 'records', workers };
    expect(faultsOf({ flags: withData }).join()).toMatch(/^workers must be 1 with dispatch/);
    expect(faultsOf({ flags: { ...withData, dispatch: false } })).toEqual([]);
    const env = { HALFWAY_MESH_SECRET: 's'.repeat(32) };
    expect(faultsOf({ flags: { ...withData, redis: 'redis://one' }, env })).toEqual([]);
  });

  test('knows the namespace that machines live in, in whatever case', () => {
    const withData = { ...flags, data: 'records' };
    expect(faultsOf({ flags: { ...withData, dispatchNamespace: 'Production' } })).toEqual([]);
    expect(faultsOf({ flags: { ...withData, dispatchNamespace: 'other' } })).toEqual([
      'dispatchNamespace must be one of the namespaces, got "other"',
    ]);
    expect(faultsOf({ flags: { ...withData, dispatchNamespace: '1' } }).join()).toMatch(
      /^--dispatch-namespace must be 1 to 50 letters/,
    );
  });

  test('takes an API token of at least 32 characters from a variable or a file, and shows it nowhere', () => {
    const token = 'hwt_0123456789abcdefghijklmnopqr';
    expect(loaded({ env: { HALFWAY_API_TOKEN: token } }).apiToken).toBe(token);
    const files = { 'api.token': `${token}\n` };
    expect(loaded({ files, env: { HALFWAY_API_TOKEN_FILE: 'api.token' } }).apiToken).toBe(token);
    const short = faultsOf({ env: { HALFWAY_API_TOKEN: token.slice(1) } });
    expect(short).toEqual([
      'HALFWAY_API_TOKEN must be 32 to 1024 printable ASCII characters without spaces',
    ]);
  });

  test('takes hosts of the portal as names with commas or a list of the file, and none by default', () => {
    const serve = { ...flags, data: 'records' };
    expect(loaded({ flags: serve }).portalHost).toEqual([]);
    const env = { HALFWAY_PORTAL_HOST: 'Portal.example.com.,p.example.org' };
    const names = ['portal.example.com', 'p.example.org'];
    expect(loaded({ flags: serve, env }).portalHost).toEqual(names);
    const files = { 'relay.yaml': `portalHost: [portal.example.com, p.example.org]\n${MINIMAL}` };
    expect(loaded({ flags: serve, files }).portalHost).toEqual(names);
  });

  test('refuses a host of the portal without dispatch, and one at which something is relayed', () => {
    const portal = { ...flags, data: 'records', portalHost: 'portal.example.com' };
    expect(faultsOf({ flags: { ...portal, dispatch: false } })).toEqual([
      'portalHost needs dispatch: without it there is no web portal',
    ]);
    const taken = { portalHost: 'relay.example.com' };
    const ofUrl = { ...portal, ...taken, publicUrl: 'https://Relay.example.com:8443' };
    expect(faultsOf({ flags: ofUrl }).join()).toMatch(
      /^portalHost must be a name of its own.*"relay\.example\.com" is that of publicUrl$/,
    );
    const hosts = 'production\n    hosts: [relay.example.com]';
    const files = { 'relay.yaml': MINIMAL.replace('production', hosts) };
    expect(faultsOf({ flags: { ...portal, ...taken }, files }).join()).toMatch(
      /^portalHost must be .* is that of namespace "production"$/,
    );
    expect(faultsOf({ flags: portal, files })).toEqual([]);
  });

  test('warns once of a portal that shares its origin with listeners, where others can reach it', () => {
    const serve = { ...flags, data: 'records' };
    const [warning, ...more] = warningsOf({ flags: serve });
    expect(warning).toMatch(/shares its origin .*--portal-host NAME/);
    expect(more).toEqual([]);
    expect(warningsOf({ flags: { ...serve, host: '127.0.0.1' } })).toEqual([]);
    expect(warningsOf({ flags: { ...serve, dispatch: false } })).toEqual([]);
    expect(warningsOf({ purpose: 'dev', flags: { host: '0.0.0.0' } })).toEqual([]);
    const portal = { ...serve, portalHost: 'portal.example.com' };
    const publicUrl = 'https://relay.example.com';
    expect(warningsOf({ flags: { ...portal, publicUrl } })).toEqual([]);
    expect(warningsOf({ flags: portal }).join()).toMatch(/cannot tell where machines .*publicUrl/);
  });
});
