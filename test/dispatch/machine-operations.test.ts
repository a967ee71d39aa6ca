import { createPublicKey } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { openDetached } from '../../src/crypto/es256.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { MachineCommands } from '../../src/dispatch/machine-commands.ts';
import { MachineOperations } from '../../src/dispatch/machine-operations.ts';
import type { MachineResponse } from '../../src/dispatch/machine-sender.ts';
import { Machines } from '../../src/dispatch/machines.ts';
import { parseMoment } from '../../src/dispatch/moments.ts';
import { commandSchema, parseMessage } from '../../src/jobs/messages.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { FakeSender, NOBODY } from '../support/fake-machines.ts';

let bench: DispatchBench;
let sender: FakeSender;
let keys: DispatchKeys;
let commands: MachineCommands;
let operations: MachineOperations;

beforeEach(async () => {
  bench = dispatchBench();
  const { repository, changes, clock } = bench;
  sender = new FakeSender();
  keys = new DispatchKeys(bench.store, clock);
  commands = new MachineCommands({ repository, sender, keys, clock });
  const machines = new Machines({
    repository,
    changes,
    clock,
    endpoints: { create: () => Promise.resolve(), delete: () => Promise.resolve() },
    minAgentVersion: () => Promise.resolve(undefined),
  });
  operations = new MachineOperations({ repository, machines, commands, clock });
  await bench.addMachine('m1');
});

function answers(status: number, body: string): void {
  sender.answer = () => ({ type: 'answer', status, body });
}

describe('a command', () => {
  test('is signed for its machine, has an id of its own and an end', async () => {
    await commands.send('m1', 'drain', { why: 'x' });
    await commands.send('m1', 'drain');
    const [one, two] = sender.requests;
    expect(one?.path).not.toBe(two?.path);
    const parsed = parseMessage(commandSchema, one?.body ?? '');
    const message = 'message' in parsed ? parsed.message : undefined;
    expect(message).toMatchObject({ name: 'drain', args: { why: 'x' } });
    expect(one?.path).toBe(`commands/${message?.id}`);
    const leftMs = (parseMoment(message?.notAfter ?? '') ?? 0) - bench.clock.wallMs();
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(60_000);
    const [jwk] = await keys.published();
    const key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
    expect(openDetached(one?.signature ?? '', one?.body ?? '', () => key)).toMatchObject({
      aud: 'dev/m/m1',
    });
  });

  test.each<[string, MachineResponse, string]>([
    ['nobody is there', NOBODY, 'NoListenerConnected'],
    [
      'the machine says no',
      { type: 'answer', status: 409, body: '{"code":"KeyIdUnknown","message":"no"}' },
      'KeyIdUnknown',
    ],
    [
      'it says no in its own way',
      { type: 'answer', status: 500, body: 'x' },
      'DesktopFlowMalformedMachineResponse',
    ],
    [
      'the answer is no object',
      { type: 'answer', status: 200, body: '[1]' },
      'DesktopFlowMalformedMachineResponse',
    ],
  ])('fails when %s', async (_what, response, code) => {
    sender.answer = () => response;
    await expect(commands.send('m1', 'collect-diagnostics')).rejects.toMatchObject({ code });
  });
});

describe('MachineOperations', () => {
  test('drain() is set whether or not the machine hears of it', async () => {
    sender.answer = () => NOBODY;
    const { value } = await operations.drain(ANN, 'm1');
    expect(value.isDraining).toBe(true);
    expect(sender.requests).toHaveLength(1);
  });

  test('diagnostics() hands on what the machine says, to who may edit it', async () => {
    answers(200, '{"dns":"Open"}');
    await expect(operations.diagnostics(ANN, 'm1')).resolves.toEqual({ dns: 'Open' });
    const bob = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
    await expect(operations.diagnostics(bob, 'm1')).rejects.toMatchObject({ code: 'AccessDenied' });
    await expect(operations.diagnostics(ANN, 'm9')).rejects.toMatchObject({
      code: 'MachineNotFound',
    });
    expect(sender.requests).toHaveLength(1);
  });
});
