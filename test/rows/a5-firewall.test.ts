import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { makeCertificate } from '../support/certificate.ts';
import { deskRuns } from '../support/desk-runs.ts';
import { machineBench } from '../support/machine-bench.ts';
import { machineDesk } from '../support/machine-desk.ts';
import { firewalledNetwork, type FirewalledNetwork } from '../support/network-namespace.ts';
import { kernelCounter, tcpSockets } from '../support/socket-table.ts';

// Rows A5, A7 and A20: outbound to one port of one name is all that a machine needs, and nothing ever comes in.

const NAME = 'relay.test';
const HTTPS = 443;
const TEST_MS = 60_000;

/** Takes connections at a port of an address, for the relay that listens on loopback. */
async function door(address: string, port: number, relayPort: number) {
  const open = new Set<Socket>();
  const server: Server = createServer(near => {
    const far = connect(relayPort, '127.0.0.1');
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on('error', () => undefined);
    }
    near.pipe(far).pipe(near);
    near.once('close', () => far.destroy());
    far.once('close', () => near.destroy());
  });
  await once(server.listen(port, address), 'listening');
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}

async function socketsOf(network: FirewalledNetwork) {
  const tables = ['tcp', 'tcp6'].map(table => `/proc/net/${table}`);
  return tcpSockets(await network.run('cat', ...tables));
}

async function opened(network: FirewalledNetwork, which: 'ActiveOpens' | 'PassiveOpens') {
  return kernelCounter(await network.run('cat', '/proc/net/snmp'), 'Tcp', which);
}

/** Status of the relay's health from there, or why there is none. */
function reached(network: FirewalledNetwork, url: string): Promise<string> {
  const asking = ['curl', '--silent', '--show-error', '--insecure', '--max-time', '5', '-o'];
  return network
    .run(...asking, '/dev/null', '-w', '%{http_code}', url)
    .catch((error: unknown) => String(error));
}

test(
  'behind a firewall with one port out a machine registers, runs, is cancelled, and tells its log',
  async () => {
    using certificate = makeCertificate([`DNS:${NAME}`]);
    const { certFile: tlsCert, keyFile: tlsKey } = certificate;
    await using bench = await machineBench(
      { tlsCert, tlsKey, publicUrl: `https://${NAME}` },
      tlsCert,
    );
    using network = firewalledNetwork(NAME, HTTPS);
    await using httpsDoor = await door(network.address, HTTPS, bench.relay.port);
    await using otherDoor = await door(network.address, HTTPS + 1, bench.relay.port);
    expect(await reached(network, `https://${NAME}/$hc/health`)).toMatch(/^\d{3}$/);
    expect([httpsDoor.port, otherDoor.port]).toEqual([HTTPS, HTTPS + 1]);
    expect(await reached(network, `https://${NAME}:${HTTPS + 1}/`)).toMatch(/connect/i);
    expect(await reached(network, `https://127.0.0.1:${bench.relay.port}/`)).toMatch(/connect/i);

    const desk = machineDesk({
      state: `${bench.place.path}/desk`,
      behind: network.behind,
      env: { HALFWAY_API_TOKEN: bench.apiToken },
    });
    const way = ['--ca', tlsCert];
    await desk.command(['register', '--name', 'desk', '--endpoint', `https://${NAME}`, ...way]);
    const sockets = ['--socket-folder', `${bench.place.path}/s`];
    await using service = await desk.service([...way, ...sockets]);
    const runs = deskRuns(bench, tlsCert);
    const connection = await runs.connect('me', 'desk');

    const done = await runs.start(connection, ['echo', 'through one port']);
    await runs.untilState(done, 'Succeeded');
    await runs.untilLog(done, '\n');
    expect(await runs.logOf(done)).toBe('through one port\n');
    const endless = await runs.start(connection, ['sh', '-c', 'echo here; exec sleep 300']);
    await runs.untilLog(endless, 'here\n');

    // While it runs: each socket of that computer was opened by it, to that one port.
    const table = await socketsOf(network);
    expect(table.length).toBeGreaterThan(0);
    expect(table.filter(({ isListening }) => isListening)).toEqual([]);
    expect(new Set(table.map(({ remotePort }) => remotePort))).toEqual(new Set([HTTPS]));
    expect(await network.run('cat', '/proc/net/udp', '/proc/net/udp6')).not.toMatch(/^ *\d+: /m);

    await bench.ask('POST', `/runs/${endless}:cancel`, {});
    await runs.untilState(endless, 'Cancelled');
    // The kernel counts, of all that was ever opened there, who began.
    expect(await opened(network, 'ActiveOpens')).toBeGreaterThan(0);
    expect(await opened(network, 'PassiveOpens')).toBe(0);
    expect(service.output()).toContain('"transport":"websocket"');

    // What was looked at can see: a listener shows, who comes in is counted, and the firewall was what kept all else.
    const listen = `const s=require('net').createServer(c=>c.end()).listen(0,'127.0.0.1',()=>{
      console.log(require('fs').readFileSync('/proc/net/tcp','utf8'));
      require('net').connect(s.address().port,'127.0.0.1').on('close',()=>s.close()).resume();
    })`;
    const seen = tcpSockets(await network.run(process.execPath, '-e', listen));
    expect(seen.filter(({ isListening }) => isListening)).toHaveLength(1);
    expect(await opened(network, 'PassiveOpens')).toBe(1);
    network.openAll();
    expect(await reached(network, `https://${NAME}:${HTTPS + 1}/`)).toMatch(/^\d{3}$/);
  },
  TEST_MS,
);
