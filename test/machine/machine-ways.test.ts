import { describe, expect, test } from 'vitest';
import { startConnectProxy } from '../support/connect-proxy.ts';
import { makeCertificate } from '../support/certificate.ts';
import { machineBench, member } from '../support/machine-bench.ts';
import { startUpgradeObstacle } from '../support/upgrade-obstacle.ts';
import { until } from '../support/within.ts';
import { commandResult, runCommand } from '../cli/run-command.ts';

// What is between a machine and its server: proxies, authorities, and what does not let WebSockets pass.

describe('the machine service', () => {
  test('finds its way by itself where handshakes are cut, and takes a run by long-polling', async () => {
    await using bench = await machineBench();
    await using obstacle = await startUpgradeObstacle(bench.relay.port, 'cuts');
    const { record } = await bench.register('desk', {}, `http://127.0.0.1:${obstacle.port}`);
    const machine = await bench.start('desk');
    await until('online', () => machine.service.report().channel.transport === 'poll', 20_000);
    expect(obstacle.handshakes).toBeGreaterThan(0);
    const connection = await bench.connectTo({ kind: 'machine', id: record.machineId });
    expect(member(await bench.run(connection), 'state')).toBe('Succeeded');
  }, 40_000);

  test('goes through a proxy with a password, to a server that only --ca vouches for', async () => {
    using certificate = makeCertificate();
    const { certFile: tlsCert, keyFile: tlsKey } = certificate;
    await using bench = await machineBench({ tlsCert, tlsKey }, tlsCert);
    await using proxy = await startConnectProxy({ credentials: 'machine:pass' });
    const state = `${bench.place.path}/pc`;
    const env = { HALFWAY_ENDPOINT: bench.relay.httpUrl, HALFWAY_API_TOKEN: bench.apiToken };
    const way = ['--state', state, '--proxy', proxy.url, '--ca', tlsCert];
    const refused = await commandResult(['machine', 'register', '--state', state], {
      env,
      input: '',
    });
    expect(refused.exitCode).toBe(1);
    expect(refused.err).toContain('certificate');
    const made = await commandResult(['machine', 'register', ...way], { env, input: '' });
    expect(made).toMatchObject({ exitCode: 0 });
    await using service = runCommand(['machine', 'run', ...way], { env });
    await service.saw('listening through the relay');
    const authority = bench.relay.httpUrl.replace('https://', '');
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${authority}`]));
    const output = made.out + made.err + service.out() + service.err();
    expect(output).not.toContain('machine:pass');
  }, 30_000);
});
