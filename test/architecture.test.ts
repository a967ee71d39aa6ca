import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = join(import.meta.dirname, '../src');

/** For each folder of src/, what it may import: sibling folders, and packages by name. */
const MAY_IMPORT: Record<string, string> = {
  base: '',
  protocol: 'base',
  auth: 'base protocol node:crypto lru-cache',
  relay: 'base protocol auth',
  redis: 'base ioredis node:crypto node:fs',
  cluster: 'base protocol relay redis node:crypto node:net node:tls node:fs',
  store: 'base protocol redis libsql lru-cache valibot node:crypto node:fs node:path',
  management: 'base protocol relay store',
  transports:
    'base protocol auth relay management api uWebSockets.js ipaddr.js node:module ' +
    'node:net node:tls node:crypto node:fs node:os node:path node:url',
  config: 'base protocol valibot yaml ipaddr.js node:fs node:path',
  observability: 'base pino pino-pretty prom-client',
  client:
    'base protocol auth https-proxy-agent http-proxy-agent proxy-from-env node:http node:https ' +
    'node:crypto node:stream node:stream/promises node:net node:tls node:events node:url',
  crypto: 'node:crypto',
  jobs: 'base valibot',
  dispatch: 'base protocol auth store jobs crypto node:crypto valibot croner',
  api:
    'base protocol auth store jobs crypto dispatch valibot @valibot/to-json-schema ' +
    'node:crypto node:zlib node:util',
  machine:
    'base protocol client crypto jobs valibot node:crypto node:fs node:fs/promises node:path node:os ' +
    'node:child_process node:net node:http node:https node:zlib node:events node:stream node:url ' +
    'node:stream/promises node:timers/promises node:util',
  'dispatch-client': 'base protocol client crypto valibot node:http node:crypto',
  portal: 'base jobs crypto dispatch-client preact preact/hooks @preact/signals vite valibot',
  workers:
    'base cluster store config management observability transports version.ts ' +
    'node:child_process node:net',
  cli:
    'base protocol auth config client dispatch-client workers jobs crypto machine server.ts ' +
    'server-parent.ts server-worker.ts ' +
    'commander node:http node:https node:fs node:net node:dns/promises node:stream node:tls ' +
    'node:process ' +
    'node:stream/promises node:crypto node:path node:url node:os node:buffer',
};

const sourceFiles = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(path =>
  /\.tsx?$/.test(path),
);

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import\() ?'([^']+)'/g)].map(
    ([, specifier = '']) => specifier,
  );
  return specifiers.flatMap(specifier => {
    if (!specifier.startsWith('.')) return [specifier];
    const [folder = ''] = relative(SRC, join(SRC, dirname(file), specifier)).split('/');
    return folder === file.split('/')[0] ? [] : [folder];
  });
}

describe('layers', () => {
  test.each(sourceFiles.filter(file => file.includes('/')))(
    '%s imports only what its layer may',
    file => {
      const allowed = (MAY_IMPORT[file.split('/')[0] ?? ''] ?? '').split(' ');
      expect(importsOf(file).filter(name => !allowed.includes(name))).toEqual([]);
    },
  );

  test('every folder of src/ has its line in the table', () => {
    const folders = readdirSync(SRC, { withFileTypes: true }).filter(entry => entry.isDirectory());
    expect(folders.map(entry => entry.name).filter(name => !(name in MAY_IMPORT))).toEqual([]);
  });

  test('nothing but the desktop side can open what is sealed', () => {
    const opening = /crypto\/(?:open-envelope|group-package|cluster-key)\.ts'/;
    const holders = /^(?:crypto|machine|gateway)\//;
    const openers = sourceFiles.filter(
      file => !holders.test(file) && opening.test(readFileSync(join(SRC, file), 'utf8')),
    );
    expect(openers).toEqual([]);
  });
});
