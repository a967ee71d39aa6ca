import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { KEY, KEY_NAME, startHalfway, type Halfway } from '../subjects/halfway.ts';
import { Cleanup } from '../support/cleanup.ts';
import { cpuMs, memoryBytes, startProcess, type RunningProcess } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';

const MIB = 1 << 20;
const PIECE_BYTES = 65_536;
/** What one process may grow by while it forwards, whatever the length of the file. */
const GROWTH_BYTES_MAX = 200 * MIB;

/** One file through `halfway forward`: TCP in at -L, relay, TCP out at -R, all processes of their own. */
async function run(options: ScenarioOptions): Promise<Result> {
  const fileBytes = options.isQuick ? 64 * MIB : 1_024 * MIB;
  const rows: (readonly Cell[])[] = [];
  for (const transport of ['websocket', 'poll'] as const) {
    options.progress(`${fileBytes / MIB} MiB by ${transport}`);
    rows.push(...(await carry(transport, fileBytes)));
  }
  return {
    scenario: 'forward',
    command: 'npm run bench forward',
    about: `a file of ${fileBytes / MIB} MiB through both ends of \`halfway forward\`; sent and received checksum are equal`,
    columns: ['transport', 'process', 'MiB at rest', 'MiB at most', 'CPU s', 'MiB/s'],
    rows,
    notes: [],
  };
}

export const forward: Scenario = { name: 'forward', run };

async function carry(
  transport: 'websocket' | 'poll',
  fileBytes: number,
): Promise<readonly (readonly Cell[])[]> {
  await using cleanup = new Cleanup();
  const relay = cleanup.use(await startHalfway());
  const sink = await openSink();
  const remote = cleanup.use(
    await startEnd(relay, ['-R', `127.0.0.1:${sink.port}`, '--transport', transport]),
  );
  const local = cleanup.use(await startEnd(relay, ['-L', '0', '--transport', transport]));
  const processes = [
    { name: 'forward -L', pid: local.pid },
    { name: 'relay', pid: relay.pid },
    { name: 'forward -R', pid: remote.pid },
  ].map(({ name, pid }) => ({ name, pid, restBytes: memoryBytes(pid).now, cpuMs: cpuMs(pid) }));

  const startedAtMs = performance.now();
  const sent = await sendFile(local.found, fileBytes);
  const received = await sink.received;
  const seconds = (performance.now() - startedAtMs) / 1_000;
  if (sent !== received) throw new Error(`Sent ${sent}, received ${received}`);
  return processes.map(({ name, pid, restBytes, cpuMs: cpuBeforeMs }) => {
    const { peak } = memoryBytes(pid);
    if (peak - restBytes > GROWTH_BYTES_MAX) {
      throw new Error(`${name} (${transport}) grew from ${restBytes} to ${peak} bytes`);
    }
    return [
      transport,
      name,
      Math.round(restBytes / MIB),
      Math.round(peak / MIB),
      (cpuMs(pid) - cpuBeforeMs) / 1_000,
      fileBytes / MIB / seconds,
    ];
  });
}

/** One end; `found` is the port of a local one. */
function startEnd(
  relay: Halfway,
  flags: readonly string[],
): Promise<RunningProcess & { readonly found: number }> {
  const endpoint = `Endpoint=http://127.0.0.1:${relay.port};SharedAccessKeyName=${KEY_NAME};SharedAccessKey=${KEY}`;
  return startProcess({
    name: 'halfway forward',
    command: [
      process.execPath,
      'dist/main.js',
      'forward',
      'hc0',
      '--connection-string',
      endpoint,
      ...flags,
    ],
    core: 'load',
    readyOn: 'stderr',
    ready: line => {
      if (!line.startsWith('forwarding ')) return undefined;
      return Number(/^forwarding 127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? 0);
    },
  });
}

/** Takes one connection to its end; `received` is bytes and checksum. */
async function openSink(): Promise<{ readonly port: number; readonly received: Promise<string> }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const server = createServer();
  const received = new Promise<string>((resolve, reject) => {
    server.once('connection', socket => {
      server.close();
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        hash.update(chunk);
      });
      socket.once('end', () => resolve(`${bytes} ${hash.digest('hex')}`));
      socket.once('error', reject);
    });
  });
  received.catch(() => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, received };
}

/** Random bytes that are not kept; resolves with their number and checksum when the other side has ended, too. */
async function sendFile(port: number, fileBytes: number): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const hash = createHash('sha256');
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  const zeros = Buffer.alloc(PIECE_BYTES);
  await pipeline(function* pieces() {
    for (let at = 0; at < fileBytes; at += PIECE_BYTES) {
      const piece = cipher.update(zeros);
      hash.update(piece);
      yield piece;
    }
  }, socket.resume());
  return `${fileBytes} ${hash.digest('hex')}`;
}
