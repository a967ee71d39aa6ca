import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import { meshMessage } from '../../src/protocol/mesh-messages.ts';
import { FrameParser } from '../../src/protocol/frames.ts';
import { OPCODE } from '../../src/relay/ports.ts';
import { ChannelRecord, patterned } from '../conformance/channel.ts';
import { Inbox } from '../support/inbox.ts';
import { QUICK_LIMITS, startMeshNode, startPair, type TestMeshNode } from '../support/mesh-node.ts';
import type { FromMeshChild, ToMeshChild } from '../support/mesh-child.ts';
import { within } from '../support/within.ts';

const CHILD = join(import.meta.dirname, '../support/mesh-child.ts');
const START_PATIENCE_MS = 20_000;

describe('a node in another process', () => {
  test('is linked, answers, and carries a stream', async () => {
    await using it = await startWithChild();
    const reply = await it.near.mesh.request('b', settled('x'), 5_000);
    expect(reply).toMatchObject({ type: 'answered', message: { head: { id: 'x' } } });

    const key = newStreamKey();
    it.tell({ type: 'expect', key });
    expect(await it.said.next()).toEqual({ type: 'expecting' });
    const stream = await it.near.mesh.openStream('b', key);
    const channel = stream.channel();
    if (channel === undefined) throw new Error('The stream was taken');
    const record = new ChannelRecord(channel);
    for (let i = 0; i < 50; i += 1) channel.send(OPCODE.binary, true, patterned(100_000, i));
    const messages = await record.wholeMessages(51);
    expect(messages[0]?.payload.toString()).toBe('stream from a');
    expect(messages.slice(1).every(({ payload }, i) => payload.equals(patterned(100_000, i)))).toBe(
      true,
    );
    channel.close(4000, 'thanks');
    await record.had('gone');
    expect(record.close()).toMatchObject({ code: 4000, reason: 'thanks' });
  });

  test('that is stopped is noticed in time; when it goes on, it is linked again', async () => {
    await using it = await startWithChild();
    it.child.kill('SIGSTOP');
    const stoppedAtMs = performance.now();
    expect(await it.near.events.next()).toBe('down b silent');
    const tookMs = performance.now() - stoppedAtMs;
    expect(tookMs).toBeLessThan(QUICK_LIMITS.silenceMs + QUICK_LIMITS.pingIntervalMs + 1_000);
    it.child.kill('SIGCONT');
    expect(await it.near.events.next()).toBe('up b');
    expect(await it.near.mesh.request('b', settled('x'), 5_000)).toMatchObject({
      type: 'answered',
    });
  });

  test('that is killed is noticed at once', async () => {
    await using it = await startWithChild();
    const question = it.near.mesh.request('b', settled('x'), 5_000);
    await question;
    it.child.kill('SIGKILL');
    expect(await it.near.events.next()).toBe('down b lost');
  });
});

describe('takeSocket()', () => {
  test('gives a descriptor with which another process goes on where this one stopped', async () => {
    await using pair = await startPair();
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, timeoutMs: 5_000 });
    const near = (await pair.a.mesh.openStream('b', key)).channel();
    if (near === undefined) throw new Error('The stream was taken');
    const record = new ChannelRecord(near);
    near.send(OPCODE.text, true, Buffer.from('before'));
    const taken = (await expected).takeSocket();
    if (taken === undefined) throw new Error('There is no socket');
    // It sends back every byte that its standard input gives.
    const script = 'process.stdin.pipe(process.stdout)';
    const child = spawn(process.execPath, ['-e', script], {
      stdio: [taken.socket, 'pipe', 'inherit'],
    });
    taken.socket.destroy();
    near.send(OPCODE.binary, true, Buffer.alloc(200_000, 'x'));
    const parser = new FrameParser();
    const frames = parser.push(taken.head);
    const { stdout } = child;
    if (stdout === null) throw new Error('The child has no output');
    const whole = (async () => {
      for await (const chunk of stdout) {
        if (Buffer.isBuffer(chunk)) frames.push(...parser.push(chunk));
        if (frames.filter(({ isFinal }) => isFinal).length === 2) return;
      }
    })();
    await within('both messages', whole, START_PATIENCE_MS);
    expect(Buffer.from(frames[0]?.payload ?? []).toString()).toBe('before');
    const bytes = frames.slice(1).reduce((sum, { payload }) => sum + payload.length, 0);
    expect(bytes).toBe(200_000);
    child.kill('SIGKILL');
    await record.had('gone');
    expect(record.types).toEqual(['gone']);
  });
});

function settled(id: string): ReturnType<typeof meshMessage> {
  return meshMessage('settled', { id });
}

interface WithChild extends AsyncDisposable {
  readonly near: TestMeshNode;
  readonly child: ChildProcess;
  readonly said: Inbox<FromMeshChild>;
  tell(message: ToMeshChild): void;
}

/** Node `a` here, node `b` in a process of its own, linked. */
async function startWithChild(): Promise<WithChild> {
  const near = await startMeshNode({ nodeId: 'a' });
  const child = fork(CHILD, ['b'], { execArgv: ['--import', 'tsx'] });
  const said = new Inbox<FromMeshChild>('word from the child');
  child.on('message', (message: FromMeshChild) => said.put(message));
  const tell = (message: ToMeshChild): void => void child.send(message);
  const started = await said.next(START_PATIENCE_MS);
  if (started.type !== 'started') throw new Error('The child did not start');
  const far = {
    nodeId: 'b',
    epoch: 'life-of-b.1',
    meshAddress: `127.0.0.1:${started.port}`,
  };
  tell({ type: 'nodes', nodes: [near.node()] });
  near.list.set([far]);
  expect(await near.events.next()).toBe('up b');
  return {
    near,
    child,
    said,
    tell,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await near[Symbol.asyncDispose]();
    },
  };
}
