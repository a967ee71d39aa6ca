import { expect, test } from 'vitest';
import { CoordinatorError } from '../../src/cluster/coordinator.ts';
import { rpcClient, RpcError, serveRpc } from '../../src/workers/rpc.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { testLines } from '../support/lines.ts';

interface Sums {
  add(a: number, b: number): Promise<number>;
  fail(): Promise<void>;
  breakDown(): Promise<void>;
  hang(): Promise<void>;
  missing(): Promise<void>;
}

function open() {
  const lines = testLines();
  const clock = new FakeClock();
  const bugs: unknown[] = [];
  const served: Omit<Sums, 'missing'> = {
    add: async (a, b) => Promise.resolve(a + b),
    fail: async () => Promise.reject(new CoordinatorError('unusable', 'not like that')),
    breakDown: async () => Promise.reject(new TypeError('a bug')),
    hang: async () => new Promise(() => {}),
  };
  serveRpc(lines.parent, 'sums', served, bug => bugs.push(bug));
  return { lines, clock, bugs, rpc: rpcClient<Sums>(lines.worker, 'sums', clock) };
}

async function errorOf(promise: Promise<unknown>): Promise<RpcError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof RpcError) return error;
  throw new Error(`Not an RpcError: ${String(error)}`);
}

test('call() resolves with what the other side returns, each with its own', async () => {
  const { rpc, clock } = open();
  const sums = [1, 2, 3].map(n => rpc.call('add', [n, n], 1_000));
  expect(await Promise.all(sums)).toEqual([2, 4, 6]);
  expect(clock.pendingTasks).toBe(0);
});

test('call() rejects with the name, kind and message of an expected error; a bug is reported there', async () => {
  const { rpc, bugs } = open();
  const fault = { name: 'CoordinatorError', kind: 'unusable', message: 'not like that' };
  expect((await errorOf(rpc.call('fail', [], 1_000))).fault).toEqual(fault);
  expect(bugs).toEqual([]);
  const broken = await errorOf(rpc.call('breakDown', [], 1_000));
  expect(broken.fault).toEqual({ name: 'TypeError', message: 'a bug' });
  expect(bugs).toEqual([expect.any(TypeError)]);
  expect((await errorOf(rpc.call('missing', [], 1_000))).message).toBe('There is no sums.missing');
});

test('call() rejects when no answer comes in time, and when the line is down or goes down', async () => {
  const { rpc, clock, lines } = open();
  const late = errorOf(rpc.call('hang', [], 1_000));
  clock.advance(1_000);
  expect((await late).message).toContain('within 1000 ms');
  const cut = errorOf(rpc.call('hang', [], 1_000));
  lines.setUp(false);
  expect((await cut).message).toContain('is down');
  expect((await errorOf(rpc.call('add', [1, 1], 1_000))).message).toContain('is down');
  expect(clock.pendingTasks).toBe(0);
});

test('services on one line do not hear each other', async () => {
  const { lines, clock, rpc } = open();
  serveRpc(lines.parent, 'others', { add: async () => Promise.resolve(-1) }, () => {});
  const others = rpcClient<Sums>(lines.worker, 'others', clock);
  expect(await Promise.all([rpc.call('add', [1, 1], 9), others.call('add', [1, 1], 9)])).toEqual([
    2, -1,
  ]);
});
