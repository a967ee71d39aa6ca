import * as v from 'valibot';
import { requireIn, type Caller } from './access.ts';
import { parseBody } from './checks.ts';
import { Problem } from './problem.ts';
import { CONNECTION, idSchema, type Environment } from './records.ts';
import type { Repository } from './repository.ts';
import { membersIndex } from './run-indexes.ts';
import type { Runs, Submitted } from './runs.ts';
import { MACHINES_PER_GROUP_MAX } from '../jobs/limits.ts';

const TEST_RUN_SECONDS = 300;
const TEST_QUEUE_SECONDS = 900;

export const connectionTestSchema = v.pipe(
  v.strictObject({
    /** The member of the connection's group that is to try it. */
    machineId: v.optional(idSchema),
    /** Each member tries it, one after the other: accounts may differ from machine to machine. */
    everyMember: v.optional(v.boolean(), false),
  }),
  v.check(
    ({ machineId, everyMember }) => machineId === undefined || !everyMember,
    'machineId and everyMember exclude each other',
  ),
);

/** Whether a connection's account can sign in: runs of kind `probe`. Source: job-dispatch.md section 6. */
export class ConnectionTests {
  readonly #repository: Repository;
  readonly #runs: Runs;

  constructor(repository: Repository, runs: Runs) {
    this.#repository = repository;
    this.#runs = runs;
  }

  /**
   * Queues the runs of a test: one, or one for each member. They fail at once where the machine is not there,
   * and no two of them sign in at the same time: after one refusal the connection is suspended, and the others
   * end without trying. Throws what `Runs.submit` throws, and `MachineNotFound` for who is no member.
   */
  async test(
    caller: Caller,
    environment: Environment,
    connectionId: string,
    request: { readonly body: unknown; readonly key?: string | undefined },
  ): Promise<readonly Submitted[]> {
    requireIn(caller, 'run');
    const { machineId, everyMember } = parseBody(connectionTestSchema, request.body ?? {});
    const connection = await this.#repository.get(CONNECTION, connectionId);
    if (connection === undefined) throw new Problem('ConnectionNotFound');
    const { target, kind } = connection.value;
    const members = target.kind === 'machine' ? [target.id] : await this.#members(target.id);
    if (machineId !== undefined && !members.includes(machineId)) {
      throw new Problem('MachineNotFound', 'the connection does not lead to it');
    }
    const wanted = everyMember ? members : [machineId];
    if (wanted.length === 0) throw new Problem('GroupIsEmpty');
    const body = {
      connectionId,
      job: { ref: 'probe', kind: 'probe' },
      mode: kind === 'none' ? 'attended' : 'unattended',
      whenOffline: 'fail',
      timeoutSeconds: TEST_RUN_SECONDS,
      queueTimeoutSeconds: TEST_QUEUE_SECONDS,
    };
    const submitted: Submitted[] = [];
    for (const onlyMachineId of wanted) {
      const key = request.key === undefined ? undefined : `${request.key} ${onlyMachineId ?? ''}`;
      const submission = { body, key, trigger: 'test', onlyMachineId };
      submitted.push(await this.#runs.submit(caller, environment, submission));
    }
    return submitted;
  }

  async #members(groupId: string): Promise<readonly string[]> {
    const query = { limit: MACHINES_PER_GROUP_MAX };
    const entries = await this.#repository.range(membersIndex(groupId), query);
    return entries.map(({ member }) => member);
  }
}
