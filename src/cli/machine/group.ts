import type { ControlAnswer, ControlCall } from '../../machine/control-client.ts';
import { changeGroupPassword, joinGroup, leaveGroup } from '../../machine/group-joining.ts';
import { takeNextGroupKey } from '../../machine/key-rotation.ts';
import { writeLine, type CommandContext } from '../context.ts';
import { readSecret } from '../secret-input.ts';
import {
  givenSecret,
  inWords,
  openMachine,
  tellService,
  type MachineOptions,
  type OpenMachine,
} from './open-machine.ts';

export interface GroupOptions extends MachineOptions {
  readonly passwordFile?: string;
  readonly password?: boolean;
  readonly apiTokenFile?: string;
}

const PASSWORD_VARIABLE = 'HALFWAY_GROUP_PASSWORD';

/** `halfway machine join-group GROUP` */
export async function runJoinGroup(
  groupId: string,
  options: GroupOptions,
  context: CommandContext,
): Promise<void> {
  const { stdout } = context;
  const joined = await inWords('Cannot join the group', async () => {
    const machine = await openMachine(options, context);
    const call = await callOf(machine, options, context);
    const { folder, keyStore, keys, record } = machine;
    const { identity } = keys;
    const made = await joinGroup(groupId, isFirst => askedPassword(isFirst, options, context), {
      folder,
      keys: keyStore,
      identity,
      record,
      call,
    });
    await tellService(machine, context);
    return made;
  });
  if (options.json === true) {
    await writeLine(stdout, JSON.stringify(joined));
    return;
  }
  await writeLine(stdout, `joined      ${joined.groupId}`);
  await writeLine(stdout, `fingerprint ${joined.fingerprint}`);
  if (joined.generatedPassword === undefined) return;
  await showPassword(joined.generatedPassword, context);
}

/** `halfway machine rotate-group-key`: makes the group's next key, or takes it where it is there. */
export async function runRotateGroupKey(
  options: GroupOptions,
  context: CommandContext,
): Promise<void> {
  const { stdout } = context;
  const taken = await inWords('Cannot take the next key of the group', async () => {
    const machine = await openMachine(options, context);
    const { folder, keyStore, keys, record } = machine;
    const { identity } = keys;
    const call = await callOf(machine, options, context);
    const parts = { folder, keys: keyStore, identity, record, call };
    const made = await takeNextGroupKey(isFirst => askedPassword(isFirst, options, context), parts);
    await tellService(machine, context);
    return made;
  });
  if (options.json === true) {
    await writeLine(stdout, JSON.stringify(taken));
    return;
  }
  await writeLine(
    stdout,
    `${taken.isFirst ? 'made       ' : 'taken      '} the next key of ${taken.groupId}`,
  );
  await writeLine(stdout, `fingerprint ${taken.fingerprint}`);
  if (taken.generatedPassword !== undefined) await showPassword(taken.generatedPassword, context);
}

/** `halfway machine leave-group` */
export async function runLeaveGroup(options: GroupOptions, context: CommandContext): Promise<void> {
  const { stdout, stderr } = context;
  const groupId = await inWords('Cannot leave the group', async () => {
    const machine = await openMachine(options, context);
    const { folder, keyStore: keys, record } = machine;
    const left = await leaveGroup({
      folder,
      keys,
      record,
      call: await callOf(machine, options, context),
    });
    await tellService(machine, context);
    return left;
  });
  if (options.json === true) await writeLine(stdout, JSON.stringify({ groupId }));
  else
    await writeLine(
      stdout,
      `left        ${groupId}; the copy of its key on this computer is deleted`,
    );
  if (options.quiet === true) return;
  stderr.write(
    'note: nobody can prove that no copy of the key was kept; if this computer is not trusted any more, ' +
      'give the group a new key and enter its credentials again\n',
  );
}

/** `halfway machine change-group-password` */
export async function runChangeGroupPassword(
  options: GroupOptions,
  context: CommandContext,
): Promise<void> {
  const { stdout, stderr } = context;
  const { groupId, generatedPassword } = await inWords(
    'Cannot change the group password',
    async () => {
      const machine = await openMachine(options, context);
      const { folder, keyStore: keys, record } = machine;
      const call = await callOf(machine, options, context);
      return changeGroupPassword(await passwordOf(options, context), {
        folder,
        keys,
        record,
        call,
      });
    },
  );
  if (options.json === true) {
    await writeLine(stdout, JSON.stringify({ groupId, generatedPassword }));
  } else {
    await writeLine(
      stdout,
      `changed     the password of ${groupId}; the machines in it are not affected`,
    );
    if (generatedPassword !== undefined) await showPassword(generatedPassword, context);
  }
  if (options.quiet === true) return;
  stderr.write(
    'note: the key is the same as before: whoever kept the old package and the old password still has it\n',
  );
}

async function showPassword(password: string, { stdout }: CommandContext): Promise<void> {
  await writeLine(stdout, `password    ${password}`);
  await writeLine(
    stdout,
    '            shown this once and kept nowhere: machines that join later need it',
  );
}

/** In the name of the person whose token is given, or else of the machine. */
async function callOf(
  { access, client }: OpenMachine,
  { apiTokenFile }: GroupOptions,
  context: CommandContext,
): Promise<(call: ControlCall) => Promise<ControlAnswer>> {
  const variable = 'HALFWAY_API_TOKEN';
  const token = await givenSecret({ what: 'API token', file: apiTokenFile, variable }, context);
  if (token === undefined) return call => access.call(call);
  return call => client.call({ ...call, path: `${access.base}${call.path}`, token });
}

/** The first machine may have one made; later ones must know it. */
async function askedPassword(
  isFirst: boolean,
  options: GroupOptions,
  context: CommandContext,
): Promise<string | undefined> {
  const found = await passwordOf(options, context);
  if (found !== undefined || isFirst) return found;
  return readSecret({ what: 'group password', file: undefined }, context);
}

async function passwordOf(
  { passwordFile, password }: GroupOptions,
  context: CommandContext,
): Promise<string | undefined> {
  const what = 'group password';
  if (password === true) return readSecret({ what, file: undefined }, context);
  return givenSecret({ what, file: passwordFile, variable: PASSWORD_VARIABLE }, context);
}
