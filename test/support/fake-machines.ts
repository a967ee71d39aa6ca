import type {
  MachineRequest,
  MachineResponse,
  MachineSender,
} from '../../src/dispatch/machine-sender.ts';
import { offerSchema, parseMessage, type Offer } from '../../src/jobs/messages.ts';
import type { JobErrorCode } from '../../src/jobs/error-codes.ts';

export const NOBODY: MachineResponse = { type: 'fault', code: 'NoListenerConnected' };

/** A sender whose other end the test plays: each request is kept, and answered as the test says. */
export class FakeSender implements MachineSender {
  readonly requests: MachineRequest[] = [];
  answer: (request: MachineRequest) => MachineResponse | Promise<MachineResponse> = accepted;

  async send(request: MachineRequest): Promise<MachineResponse> {
    this.requests.push(request);
    return this.answer(request);
  }

  /** Which machines were offered a run, in order; with its id, which of them were offered this one. */
  offeredTo(runId?: string): readonly string[] {
    return this.requests
      .filter(({ path }) => (runId === undefined ? path.startsWith('runs/') : path.endsWith(runId)))
      .map(({ machineId }) => machineId);
  }
}

export function offerIn({ body }: MachineRequest): Offer {
  const parsed = parseMessage(offerSchema, body);
  if (!('message' in parsed)) throw new Error(`not an offer: ${parsed.why}`);
  return parsed.message;
}

export function accepted(request: MachineRequest): MachineResponse {
  if (!request.path.startsWith('runs/')) return { type: 'answer', status: 200, body: '{}' };
  const { runId, attempt, fence } = offerIn(request);
  return answer(202, { v: 1, type: 'accept', runId, attempt, fence });
}

export function refused(
  request: MachineRequest,
  code: JobErrorCode,
  more: object = {},
): MachineResponse {
  const { runId, attempt, fence } = offerIn(request);
  return answer(409, { v: 1, type: 'refuse', runId, attempt, fence, code, ...more });
}

function answer(status: number, body: object): MachineResponse {
  return { type: 'answer', status, body: JSON.stringify(body) };
}

/** Until all that does not wait for time has happened. */
export async function settled(turns = 4): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) {
    await new Promise(resolve => void setImmediate(resolve));
  }
}
