import { ControlError } from '../../machine/control-client.ts';
import { removeItself } from '../../machine/register.ts';
import { removeRegistration } from '../../machine/registration-record.ts';
import { askService } from '../../machine/service-socket.ts';
import { writeLine, type CommandContext } from '../context.ts';
import { inWords, openMachine, type MachineOptions } from './open-machine.ts';

export interface UnregisterOptions extends MachineOptions {
  readonly localOnly?: boolean;
}

/** `halfway machine unregister`: deletes the machine and its keys. */
export async function runUnregister(
  options: UnregisterOptions,
  context: CommandContext,
): Promise<void> {
  const record = await inWords('Cannot unregister this machine', async () => {
    const machine = await openMachine(options, context);
    const { access, folder, keyStore } = machine;
    if (options.localOnly !== true) {
      try {
        await removeItself(access, machine.record.machineId);
      } catch (error) {
        // Deleted by somebody else: then only this computer's part is left to do.
        const isGone = error instanceof ControlError && error.code === 'MachineNotFound';
        if (!isGone) throw error;
      }
    }
    removeRegistration(folder);
    keyStore.removeOthers();
    // A service that still runs ends; where none answers none has to.
    await askService(folder, 'reload', context.clock).catch(() => undefined);
    return machine.record;
  });
  const { machineId, name, environment } = record;
  if (options.json === true) {
    await writeLine(context.stdout, JSON.stringify({ machineId, name, environment }));
    return;
  }
  await writeLine(
    context.stdout,
    `unregistered ${name} (${machineId}) in ${environment}; its keys are deleted`,
  );
}
