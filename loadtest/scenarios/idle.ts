import { startHalfway } from '../subjects/halfway.ts';
import { startUwsEcho } from '../subjects/uws-echo.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startGenerator } from '../support/generator.ts';
import { cpuMs, memoryBytes, PINNING, sleep } from '../support/process.ts';
import { takesPart } from '../support/scenario.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';

const MIB = 1 << 20;
/** Handshakes at a time: more would only wait in the server's queue. */
const BATCH = 100;
/** Spread over the configured hybrid connections, of which each takes 25 listeners at most. */
const HYBRID_CONNECTIONS = 400;
const SETTLE_MS = 1_500;

interface Idler {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly pathOf: (index: number) => string;
}

/** What standing, silent connections cost: listeners of the relay beside bare WebSockets of uWebSockets.js. */
async function run(options: ScenarioOptions): Promise<Result> {
  const count = options.isQuick ? 1_000 : 5_000;
  const idleMs = options.isQuick ? 1_000 : 5_000;
  await using cleanup = new Cleanup();
  const idlers: Idler[] = [];
  if (takesPart(options, 'uws-echo')) {
    const { pid, port } = cleanup.use(await startUwsEcho());
    idlers.push({ name: 'uws-echo', pid, port, pathOf: index => `/${index}` });
  }
  if (takesPart(options, 'halfway')) {
    const halfway = cleanup.use(await startHalfway());
    const { pid, port } = halfway;
    const paths = Array.from({ length: HYBRID_CONNECTIONS }, (_, index) =>
      halfway.listenPath(`hc${index}`),
    );
    const pathOf = (index: number): string => paths[index % paths.length] ?? '';
    idlers.push({ name: 'halfway', pid, port, pathOf });
  }

  const rows: Cell[][] = [];
  let echoKib = Number.NaN;
  for (const idler of idlers) {
    options.progress(`${count} idle connections to ${idler.name}`);
    const generator = cleanup.use(startGenerator());
    const before = memoryBytes(idler.pid).now;
    const cpuBefore = cpuMs(idler.pid);
    for (let first = 0; first < count; first += BATCH) {
      const ids = Array.from({ length: BATCH }, (_, index) => first + index);
      const opened = generator.opened(ids);
      for (const id of ids) generator.dial(id, idler.port, idler.pathOf(id));
      await opened;
    }
    const cpuOpened = cpuMs(idler.pid);
    await sleep(SETTLE_MS);
    const grew = memoryBytes(idler.pid).now - before;
    const cpuSettled = cpuMs(idler.pid);
    await sleep(idleMs);
    const idleLoad = (cpuMs(idler.pid) - cpuSettled) / idleMs;
    const kib = grew / 1_024 / count;
    if (idler.name === 'uws-echo') echoKib = kib;
    rows.push([
      idler.name,
      (grew / MIB / count) * 1_000,
      kib,
      kib / echoKib,
      ((cpuOpened - cpuBefore) * 1_000) / count,
      idleLoad * 100,
    ]);
  }
  return {
    scenario: 'idle',
    command: 'npm run bench idle',
    about: `${count} connections that do nothing (listeners, for halfway); ${PINNING}`,
    columns: ['subject', 'MiB/1,000', 'KiB each', 'this/echo', 'CPU µs to open', 'CPU idle %'],
    rows,
    notes: ['Memory of the process only; the kernel keeps its socket buffers on top.'],
  };
}

export const idle: Scenario = { name: 'idle', run };
