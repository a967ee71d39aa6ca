import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Line } from './line.ts';

/** What one side may ask of the other, by name. */
type Procedures<P> = { readonly [Name in keyof P]: (...args: never[]) => unknown };

/** Errors that cross the line and are thrown again as what they were; others arrive as `RpcError`. */
export interface Fault {
  readonly name: string;
  readonly message: string;
  /** Of a `CoordinatorError`. */
  readonly kind?: string;
}

/** A question that has no answer: the line is down, too much is under way, or it took too long. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  /** What the other side's procedure failed with; undefined when the line did. */
  readonly fault: Fault | undefined;

  constructor(message: string, fault?: Fault) {
    super(message);
    this.fault = fault;
  }
}

/** Questions of one caller under way; one more is refused at once. It bounds what waits in the line. */
export const CALLS_MAX = 1_024;

interface Question {
  readonly type: 'question';
  readonly service: string;
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

interface Answer {
  readonly type: 'answer';
  readonly service: string;
  readonly id: number;
  readonly result?: unknown;
  readonly fault?: Fault;
}

interface Call {
  readonly cancel: CancelTimer;
  readonly settle: (outcome: Pick<Answer, 'result' | 'fault'>) => void;
  readonly fail: (error: RpcError) => void;
}

export interface RpcClient<P extends Procedures<P>> {
  /** Rejects with `RpcError`, and nothing else. */
  call<Name extends keyof P & string>(
    name: Name,
    args: Parameters<P[Name]>,
    timeoutMs: number,
  ): Promise<Awaited<ReturnType<P[Name]>>>;
}

/** Asks the procedures that the other end of the line serves under the name `service`. */
export function rpcClient<P extends Procedures<P>>(
  line: Line,
  service: string,
  clock: Clock,
): RpcClient<P> {
  const calls = new Map<number, Call>();
  let last = 0;
  line.onMessage(message => {
    if (!isAnswer(message) || message.service !== service) return;
    // Unknown: it came too late.
    const call = calls.get(message.id);
    calls.delete(message.id);
    call?.cancel();
    call?.settle(message);
  });
  line.onUpChange(isUp => {
    if (isUp) return;
    const broken = [...calls.values()];
    calls.clear();
    for (const { cancel, fail } of broken) {
      cancel();
      fail(new RpcError('The line to the other process is down'));
    }
  });
  return {
    call: (name, args, timeoutMs) =>
      new Promise((resolve, reject) => {
        if (calls.size >= CALLS_MAX) {
          reject(new RpcError(`More than ${CALLS_MAX} questions are under way`));
          return;
        }
        last += 1;
        const id = last;
        const question: Question = { type: 'question', service, id, name, args };
        if (!line.send(question)) {
          reject(new RpcError('The line to the other process is down'));
          return;
        }
        const cancel = clock.after(timeoutMs, () => {
          calls.delete(id);
          reject(new RpcError(`The other process did not answer within ${timeoutMs} ms`));
        });
        calls.set(id, {
          cancel,
          fail: reject,
          settle: ({ result, fault }) => {
            if (fault !== undefined) reject(new RpcError(fault.message, fault));
            else resolve(asSent(result));
          },
        });
      }),
  };
}

/** Answers what the other end asks of `service`. Answers that find the line down are dropped. */
export function serveRpc(
  line: Line,
  service: string,
  procedures: object,
  reportBug: (bug: unknown) => void,
): void {
  const byName = new Map<string, unknown>(Object.entries(procedures));
  line.onMessage(message => {
    if (!isQuestion(message) || message.service !== service) return;
    const { id, name, args } = message;
    const answer = (outcome: Pick<Answer, 'result' | 'fault'>): void => {
      line.send({ type: 'answer', service, id, ...outcome } satisfies Answer);
    };
    const procedure = byName.get(name);
    if (!isProcedure(procedure)) {
      answer({ fault: { name: 'RpcError', message: `There is no ${service}.${name}` } });
      return;
    }
    Promise.resolve()
      .then(() => procedure(...args))
      .then(
        result => answer({ result }),
        (error: unknown) => {
          const fault = faultOf(error);
          if (!EXPECTED.has(fault.name)) reportBug(error);
          answer({ fault });
        },
      );
  });
}

const EXPECTED: ReadonlySet<string> = new Set(['CoordinatorError', 'StoreError', 'StartError']);

function faultOf(error: unknown): Fault {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const kind = 'kind' in error && typeof error.kind === 'string' ? { kind: error.kind } : {};
  return { name: error.name, message: error.message, ...kind };
}

function isQuestion(message: unknown): message is Question {
  return typeOf(message) === 'question';
}

function isAnswer(message: unknown): message is Answer {
  return typeOf(message) === 'answer';
}

function typeOf(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'type' in message
    ? message.type
    : undefined;
}

function isProcedure(value: unknown): value is (...args: readonly unknown[]) => unknown {
  return typeof value === 'function';
}

/** Nobody else can write to the line, and both ends run the same build: what comes has the type that was sent. */
function asSent(value: unknown): never {
  // oxlint-disable-next-line no-unsafe-type-assertion -- says the above
  return value as never;
}
