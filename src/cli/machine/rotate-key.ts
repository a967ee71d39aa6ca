import { ControlError } from '../../machine/control-client.ts';
import { rotateEncryptionKey, rotateIdentityKey } from '../../machine/key-rotation.ts';
import type { IdentityKey } from '../../machine/key-store.ts';
import { MachineAccess } from '../../machine/machine-access.ts';
import { writeLine, type CommandContext } from '../context.ts';
import {
  inWords,
  openMachine,
  tellService,
  type MachineOptions,
  type OpenMachine,
} from './open-machine.ts';

export interface RotateKeyOptions extends MachineOptions {
  readonly identity?: boolean;
}

/** `halfway machine rotate-key`: another encryption key for this machine, or another identity key. */
export async function runRotateKey(
  options: RotateKeyOptions,
  context: CommandContext,
): Promise<void> {
  const { stdout } = context;
  const fingerprint = await inWords('Cannot give this machine another key', async () => {
    const machine = await openMachine(options, context);
    const { access, folder, keyStore, keys, record } = machine;
    const { identity } = keys;
    const call = access.call.bind(access);
    const of = { folder, keys: keyStore, identity, record, call };
    const tell = (): Promise<void> => tellService(machine, context);
    if (options.identity !== true) return rotateEncryptionKey(of, tell);
    const isKnown = (next: IdentityKey): Promise<boolean> => isIdentity(next, machine, context);
    await rotateIdentityKey({ ...of, isKnown }, tell);
    return undefined;
  });
  if (options.json === true) {
    await writeLine(stdout, JSON.stringify({ fingerprint }));
    return;
  }
  if (fingerprint === undefined) {
    await writeLine(stdout, 'replaced    the identity key');
    return;
  }
  await writeLine(stdout, `fingerprint ${fingerprint}, of the next key`);
  await writeLine(
    stdout,
    '            it counts when all credentials are sealed to it: by the running service where owners allow that, else by them',
  );
}

async function isIdentity(
  identity: IdentityKey,
  { client, record }: OpenMachine,
  { clock }: CommandContext,
): Promise<boolean> {
  const { environment, machineId } = record;
  try {
    await new MachineAccess({ client, clock, identity, environment, machineId }).prove();
    return true;
  } catch (error) {
    if (error instanceof ControlError && error.code === 'TokenInvalid') return false;
    throw error;
  }
}
