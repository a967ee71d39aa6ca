// The execution half of a machine service in a process of its own, to be killed. What it reports goes over its
// IPC channel to the test, which plays the control plane.
import { systemClock } from '../../src/base/clock.ts';
import * as v from 'valibot';
import { renewedSchema, type Cancel, type Offer } from '../../src/jobs/messages.ts';
import { openDurableFile, type DurableFile } from '../../src/machine/durable-file.ts';
import { openJobDoor } from '../../src/machine/open-job-door.ts';
import { ReportError, type RunReporter } from '../../src/machine/ports.ts';
import { openSessionHost } from '../../src/machine/session-hosts/open-session-host.ts';
import type { SessionHost } from '../../src/machine/session-hosts/session-host.ts';
import { isJobErrorCode } from '../../src/jobs/error-codes.ts';
import { noOpener } from './machine-runs.ts';

export interface MachineChildOptions {
  readonly folder: string;
  readonly socketFolder: string;
  readonly instance: string;
  readonly host: SessionHost['kind'];
  /** Ends it at once, as a crash does, around the writing of this line of the journal. */
  readonly diesAt?: { readonly line: string; readonly when: 'before' | 'after' };
  /** With which sealed credentials are said to have opened. */
  readonly credential?: { readonly user: string; readonly password: string };
}

export type ToMachineChild =
  | { readonly type: 'offer'; readonly id: number; readonly offer: Offer }
  | { readonly type: 'cancel'; readonly cancel: Cancel }
  /** How a report was taken. */
  | { readonly type: 'taken'; readonly id: number; readonly value?: unknown }
  | {
      readonly type: 'refused';
      readonly id: number;
      readonly code: string;
      readonly isFinal: boolean;
    };

export type FromMachineChild =
  | { readonly type: 'ready' }
  | {
      readonly type: 'report';
      readonly id: number;
      readonly method: keyof RunReporter;
      readonly about: unknown;
    }
  | { readonly type: 'answer'; readonly id: number; readonly answer: unknown };

const logAnswerSchema = v.object({
  isTaken: v.boolean(),
  nextOffset: v.number(),
  isTruncated: v.boolean(),
});

const options: MachineChildOptions = JSON.parse(process.argv[2] ?? '');
const waiting = new Map<
  number,
  { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void }
>();
let last = 0;

function tell(message: FromMachineChild): void {
  process.send?.(message);
}

function report(method: keyof RunReporter, about: unknown): Promise<unknown> {
  last += 1;
  const id = last;
  tell({ type: 'report', id, method, about });
  return new Promise((resolve, reject) => void waiting.set(id, { resolve, reject }));
}

function dieAt(when: 'before' | 'after', line: string): void {
  const { diesAt } = options;
  if (diesAt?.when !== when || !line.includes(`"type":"${diesAt.line}"`)) return;
  process.kill(process.pid, 'SIGKILL');
}

/** A disk at which the process ends. */
async function openFile(path: string): ReturnType<typeof openDurableFile> {
  const { file, text } = await openDurableFile(path);
  const deadly: DurableFile = {
    append: async line => {
      dieAt('before', line);
      await file.append(line);
      dieAt('after', line);
    },
    replace: all => file.replace(all),
    get sizeBytes() {
      return file.sizeBytes;
    },
    close: () => file.close(),
  };
  return { file: deadly, text };
}

const door = await openJobDoor({
  openFile,
  folder: options.folder,
  socketFolder: options.socketFolder,
  reporter: {
    start: async about => v.parse(renewedSchema, await report('start', about)),
    renew: async (about, isLaunched) =>
      v.parse(renewedSchema, await report('renew', { ...about, isLaunched })),
    startInterrupted: async about => void (await report('startInterrupted', about)),
    result: async result => void (await report('result', result)),
    progress: async progress => void (await report('progress', progress)),
    log: async ({ bytes, ...chunk }) => {
      const data = Buffer.from(bytes).toString('base64');
      return v.parse(logAnswerSchema, await report('log', { ...chunk, data }));
    },
  },
  opener: {
    ...noOpener,
    open: () => {
      const { user = '', password = '' } = options.credential ?? {};
      return Promise.resolve({ user, password: Buffer.from(password) });
    },
  },
  host: openSessionHost({ kind: options.host, unattended: 4, attended: 1 }),
  clock: systemClock,
  log: {
    debug: () => undefined,
    info: () => undefined,
    warn: (fields, message) => console.error(message, fields),
    error: (fields, message) => console.error(message, fields),
  },
  instance: options.instance,
  agentVersion: '1.0.0',
  askStandings: () => undefined,
  retryDelayMs: () => 50,
});

process.on('message', (message: ToMachineChild) => {
  if (message.type === 'offer') {
    void door.offer(message.offer).then(answer => tell({ type: 'answer', id: message.id, answer }));
  } else if (message.type === 'cancel') {
    door.cancel(message.cancel);
  } else {
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.type === 'taken') call?.resolve(message.value);
    else {
      const code = isJobErrorCode(message.code) ? message.code : 'Unreachable';
      call?.reject(new ReportError(code, message.isFinal));
    }
  }
});
process.on('disconnect', () => process.exit());
await door.recover();
tell({ type: 'ready' });
