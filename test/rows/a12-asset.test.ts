import { createHash } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { makeAccount } from '../support/accounts.ts';
import { deskRuns } from '../support/desk-runs.ts';
import { machineBench } from '../support/machine-bench.ts';
import { machineDesk } from '../support/machine-desk.ts';
import { tcpSockets } from '../support/socket-table.ts';

// Rows A12 and A19: what a job needs is fetched by the executor, which is the connection's account in all that it does.

const TEST_MS = 60_000;
const ASSET = '#!/bin/sh\necho fetched and run by $(id -un)\n';
const ASSET_URL = 'http://assets.test/tool.sh';

/** A proxy that answers by itself, and writes down whose sockets its requests come from. */
async function watchingProxy() {
  const asked: { readonly url: string | undefined; readonly uid: number | undefined }[] = [];
  const server = createServer(({ url, socket }, answer) => {
    const port = socket.remotePort;
    const sockets = tcpSockets(readFileSync('/proc/net/tcp', 'utf8'));
    asked.push({ url, uid: sockets.find(({ localPort }) => localPort === port)?.uid });
    answer.end(ASSET);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    asked,
    [Symbol.asyncDispose]: async (): Promise<void> => {
      server.closeAllConnections();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}

test(
  "an asset comes through the proxy of the run's account, asked by that account, not by the service",
  async () => {
    await using bench = await machineBench();
    await using ofAccount = await watchingProxy();
    await using ofService = await watchingProxy();
    using account = makeAccount();
    using service = makeAccount();
    writeFileSync(`/home/${account.name}/.profile`, `export http_proxy=${ofAccount.url}\n`);
    chmodSync(bench.place.path, 0o711);
    const own = `${bench.place.path}/of-service`;
    mkdirSync(own, { mode: 0o711 });
    chownSync(own, service.uid, service.uid);
    const ids = [service.uid, service.uid].map(String);
    const desk = machineDesk({
      state: `${own}/state`,
      behind: ['setpriv', '--reuid', ids[0] ?? '', '--regid', ids[1] ?? '', '--clear-groups', '--'],
      env: { HALFWAY_API_TOKEN: bench.apiToken, http_proxy: ofService.url },
    });
    await desk.command(['register', '--name', 'desk', '--endpoint', bench.relay.httpUrl]);
    const signIn = ['--session-host', 'os-account', '--socket-folder', `${own}/s`];
    await using running = await desk.service(signIn);
    const runs = deskRuns(bench);
    const connection = await runs.connect('theirs', 'desk', account);
    const sha256 = createHash('sha256').update(ASSET).digest('hex');
    const asset = { url: ASSET_URL, sha256 };
    const run = await runs.start(connection, ['sh', '-c', 'id -u; "$HALFWAY_ASSET"'], { asset });
    expect(await runs.untilState(run, 'Succeeded')).toMatchObject({ accountName: account.name });
    await runs.untilLog(run, 'run by');
    expect(await runs.logOf(run)).toBe(`${account.uid}\nfetched and run by ${account.name}\n`);
    expect(ofAccount.asked).toEqual([{ url: ASSET_URL, uid: account.uid }]);
    expect(ofService.asked).toEqual([]);
    // The service is somebody else.
    const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Uid:\t${service.uid}\t`, 'm'));

    // Whose password is wrong is not signed in as, and nothing is fetched.
    const other = await runs.connect('wrong', 'desk', { ...account, password: 'not it' });
    const refused = await runs.start(other, ['true'], { asset });
    const ended = await runs.untilState(refused, 'Failed');
    expect(ended).toMatchObject({ fault: { code: 'SessionCreationInvalidCredentials' } });
    expect(ofAccount.asked).toHaveLength(1);
  },
  TEST_MS,
);
