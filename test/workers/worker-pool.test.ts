import { describe, expect, test } from 'vitest';
import type { WorkerProcess } from '../../src/workers/fork-worker.ts';
import { serveRpc } from '../../src/workers/rpc.ts';
import { ENDS_IN_A_ROW_MAX } from '../../src/workers/restarts.ts';
import { WorkerPool } from '../../src/workers/worker-pool.ts';
import { workerSpecs } from '../../src/workers/worker-specs.ts';
import { configOf } from '../support/config-of.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { testLines } from '../support/lines.ts';
import { MemoryLog } from '../support/relay.ts';

/** A process of a worker that does what a test says. */
class FakeProcess {
  readonly lines = testLines();
  readonly asked: string[] = [];
  isReady = true;
  hangs = false;
  startFault: Error | undefined;
  #end: ((how: string) => void) | undefined;

  readonly process: WorkerProcess = {
    pid: 1,
    line: {
      ...this.lines.parent,
      isUp: true,
      send: message => this.lines.parent.send(message),
      onMessage: observer => this.lines.parent.onMessage(observer),
      onUpChange: observer => this.lines.parent.onUpChange(observer),
      sendConnection: () => {},
      onConnection: () => {},
    },
    onEnd: observer => {
      this.#end = observer;
    },
    kill: () => this.end('SIGKILL'),
  };

  constructor() {
    const answer = async <Result>(name: string, result: Result): Promise<Result> => {
      this.asked.push(name);
      if (this.hangs) await new Promise(() => {});
      return result;
    };
    serveRpc(
      this.lines.worker,
      'worker',
      {
        start: async () => {
          if (this.startFault !== undefined) throw this.startFault;
          return answer('start', { port: 1 });
        },
        readiness: () => answer('readiness', { ready: this.isReady, reasons: [] }),
        drain: () => answer('drain', undefined),
      },
      () => {},
    );
  }

  end(how: string): void {
    this.lines.setUp(false);
    this.#end?.(how);
  }
}

function open(count = 2) {
  const clock = new FakeClock();
  const processes: FakeProcess[] = [];
  const hopeless: string[] = [];
  const ended: string[] = [];
  const pool = new WorkerPool({
    clock,
    log: new MemoryLog(),
    jitter: () => 0,
    fork: () => {
      const process = new FakeProcess();
      processes.push(process);
      return process.process;
    },
    specs: workerSpecs(configOf({ nodeId: 'box' }), count, { meshSecret: '', store: undefined }),
    serve: () => () => {},
    onEnd: name => ended.push(name),
    onHopeless: message => hopeless.push(message),
  });
  /** Lets time pass, and all that follows from it. */
  const elapse = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += 100) {
      clock.advance(100);
      await new Promise(resolve => void setImmediate(resolve));
    }
  };
  return { pool, processes, hopeless, ended, elapse };
}

function statesOf(pool: WorkerPool): readonly string[] {
  return pool.workers.map(({ state }) => state);
}

describe('WorkerPool', () => {
  test('start() resolves when all accept', async () => {
    const { pool, processes } = open(3);
    expect(statesOf(pool)).toEqual(['starting', 'starting', 'starting']);
    await pool.start();
    expect(statesOf(pool)).toEqual(['running', 'running', 'running']);
    expect(pool.ready.map(({ name }) => name)).toEqual(['box-1', 'box-2', 'box-3']);
    expect(processes).toHaveLength(3);
  });

  test('a worker that ends is started again after a wait, the others stay', async () => {
    const { pool, processes, ended, elapse } = open();
    await pool.start();
    await elapse(20_000);
    processes[0]?.end('SIGSEGV');
    expect(statesOf(pool)).toEqual(['waiting', 'running']);
    expect(pool.ready.map(({ name }) => name)).toEqual(['box-2']);
    expect(ended).toEqual(['box-1']);
    await elapse(100);
    expect(processes).toHaveLength(2);
    await elapse(100);
    expect(processes).toHaveLength(3);
    expect(statesOf(pool)).toEqual(['running', 'running']);
    expect(pool.workers.map(({ restarts }) => restarts)).toEqual([1, 0]);
  });

  test('one that ends again and again is reported, and not started any more', async () => {
    const { pool, processes, hopeless, elapse } = open();
    await pool.start();
    for (let i = 1; i <= ENDS_IN_A_ROW_MAX; i += 1) {
      const last = i === 1 ? processes[0] : processes.at(-1);
      last?.end('exit code 1');
      await elapse(6_000);
    }
    expect(hopeless).toEqual([
      'Worker box-1 ended 5 times in a row (last: exit code 1); its log says why',
    ]);
    expect(processes).toHaveLength(2 + ENDS_IN_A_ROW_MAX - 1);
  });

  test('readiness follows what workers say', async () => {
    const { pool, processes, elapse } = open();
    await pool.start();
    const [first] = processes;
    if (first === undefined) throw new Error('No process');
    first.isReady = false;
    await elapse(600);
    expect(pool.ready.map(({ name }) => name)).toEqual(['box-2']);
    first.isReady = true;
    await elapse(600);
    expect(pool.ready).toHaveLength(2);
  });

  test('one that hangs is not ready, and after a while is killed and started again', async () => {
    const { pool, processes, elapse } = open();
    await pool.start();
    const [first] = processes;
    if (first === undefined) throw new Error('No process');
    first.hangs = true;
    await elapse(3_000);
    expect(pool.workers[0]).toMatchObject({
      isReady: false,
      reasons: ['degraded: box-1 does not answer'],
      restarts: 0,
    });
    await elapse(35_000);
    expect(pool.workers[0]).toMatchObject({ isReady: true, restarts: 1 });
  });

  test('drain() tells all, starts nothing again, and resolves when the last has ended', async () => {
    const { pool, processes, elapse } = open();
    await pool.start();
    let isDrained = false;
    const drained = pool.drain().then(() => {
      isDrained = true;
    });
    await elapse(100);
    expect(processes.map(({ asked }) => asked.at(-1))).toEqual(['drain', 'drain']);
    expect(statesOf(pool)).toEqual(['draining', 'draining']);
    processes[0]?.end('exit code 0');
    await elapse(10_000);
    expect(isDrained).toBe(false);
    expect(statesOf(pool)).toEqual(['ended', 'draining']);
    processes[1]?.end('exit code 0');
    await drained;
    expect(processes).toHaveLength(2);
  });

  test('drain() while a worker waits for its start does not start it', async () => {
    const { pool, processes, elapse } = open();
    await pool.start();
    processes[0]?.end('SIGKILL');
    const drained = pool.drain();
    processes[1]?.end('exit code 0');
    await drained;
    await elapse(10_000);
    expect(processes).toHaveLength(2);
    expect(statesOf(pool)).toEqual(['ended', 'ended']);
  });
});
