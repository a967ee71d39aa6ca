import { readAnswer } from '../../dispatch-client/record-collection.ts';
import { resealedSchema } from '../../dispatch-client/representations.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { findRecord } from './find-record.ts';
import { withDispatch } from './open-dispatch.ts';
import { plain } from './show.ts';

export interface PromoteOptions extends ApiOptions {
  readonly suspendRest?: boolean;
}

/** What can be asked about the key of a group, and what is said when it was done. */
const GROUP_VERBS = {
  'rotate-key': 'A new key is asked for: run `halfway machine rotate-group-key` on each member',
  'cancel-rotation': 'The key stays as it is',
} as const;

/** `halfway group rotate-key`, `halfway group cancel-rotation`. */
export async function runGroupKeyVerb(
  verb: keyof typeof GROUP_VERBS,
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.groups, text, 'group');
    const answer = await client.groups.act(id, verb);
    if (options.json === true) return printJson(answer, context);
    await writeLine(context.stdout, GROUP_VERBS[verb]);
  });
}

/** `halfway group reseal`: a member that has both keys does it; what cannot be sealed anew is told. */
export async function runGroupReseal(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.groups, text, 'group');
    const answer = await client.groups.act(id, 'reseal');
    if (options.json === true) return printJson(answer, context);
    const { resealed, refused } = readAnswer(resealedSchema, answer);
    await writeLine(context.stdout, `${resealed} connections are sealed to the next key`);
    for (const { connectionId, code } of refused) {
      await writeLine(context.stdout, `${plain(connectionId)} is not: ${plain(code)}`);
    }
  });
}

/** `halfway group promote-key`, `halfway machine promote-key`: the next key is the present one from now on. */
export async function runPromoteKey(
  kind: 'machine' | 'group',
  text: string,
  options: PromoteOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const body = { suspendRest: options.suspendRest === true };
    const answer =
      kind === 'group'
        ? await client.groups.act(
            (await findRecord(client.groups, text, 'group')).id,
            'promote-secondary',
            body,
          )
        : await client.machines.act(
            (await findRecord(client.machines, text, 'machine')).id,
            'promote-key',
            body,
          );
    if (options.json === true) return printJson(answer, context);
    await writeLine(context.stdout, `The next key of ${text} is the present one now`);
  });
}
