import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { optionList } from '../../src/config/options.ts';
import { maskedConfig, maskedConfigAsYaml, optionsTable } from '../../src/config/print.ts';

const SECRETS = ['first-key', 'second-key', 'inner-key', 'an-admin-token-of-length'];
const FILE = `
adminToken: an-admin-token-of-length
namespaces:
  - name: production
    authorizationRules:
      - { name: a, rights: [Listen], primaryKey: first-key, secondaryKey: second-key }
    hybridConnections:
      - name: orders
        authorizationRules: [{ name: b, rights: [Send], primaryKey: inner-key }]
`;

function loaded() {
  const result = loadConfig({
    purpose: 'serve',
    flags: { config: 'relay.yaml' },
    env: {},
    hostName: 'box',
    readFile: () => FILE,
  });
  if ('faults' in result) throw new Error(result.faults.join('\n'));
  return result.config;
}

test('maskedConfigAsYaml() hides every secret and shows the rest as a config file would have it', () => {
  const text = maskedConfigAsYaml(loaded());
  expect(SECRETS.filter(secret => text.includes(secret))).toEqual([]);
  expect(text.match(/\(hidden\)/g)).toHaveLength(SECRETS.length);
  expect(parse(text)).toMatchObject({ port: 8080, namespaces: [{ name: 'production' }] });
});

test('maskedConfig() has no key of an option that has no value', () => {
  expect(maskedConfig(loaded())).not.toHaveProperty('tlsCert');
});

test('optionsTable() has a row for each option', () => {
  expect(optionsTable().split('\n')).toHaveLength(optionList.length + 2);
});

test('every option has one spelling of each kind, made from its name', () => {
  const { flag, env } = optionList.find(({ name }) => name === 'requestTimeoutMs') ?? {};
  expect([flag, env]).toEqual(['--request-timeout-ms', 'HALFWAY_REQUEST_TIMEOUT_MS']);
  expect(optionList.find(({ name }) => name === 'adminToken')?.flag).toBe('--admin-token-file');
});

test('an option whose name has no unit in it has none declared, and the other way round', () => {
  const wrong = optionList.filter(({ name, unit }) => {
    const said = name.endsWith('Ms') ? 'ms' : /Bytes(Max)?$/.test(name) ? 'bytes' : undefined;
    return said !== unit;
  });
  expect(wrong).toEqual([]);
});
