import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import * as v from 'valibot';
import { renewedSchema, type Renewed } from '../jobs/messages.ts';
import { ControlError, type ControlAnswer, type ControlCall } from './control-client.ts';
import type { MachineAccess } from './machine-access.ts';
import { ReportError, type Attempt, type LogAnswer, type RunReporter } from './ports.ts';

const compress = promisify(gzip);

/** Below it compressing saves nothing. */
const COMPRESSED_BYTES_MIN = 512;
/** Outputs may have 32 MiB, on lines that are slow. */
const RESULT_TIMEOUT_MS = 300_000;
const REPORT_TIMEOUT_MS = 20_000;

const logAnswerSchema = v.object({
  isTaken: v.boolean(),
  nextOffset: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  isTruncated: v.boolean(),
});

/** Reports of runs as REST requests in the machine's name. */
export function runReporter(access: MachineAccess): RunReporter {
  const send = async (call: ControlCall): Promise<ControlAnswer> => {
    try {
      return await access.call({ timeoutMs: REPORT_TIMEOUT_MS, ...call });
    } catch (error) {
      throw reportError(error);
    }
  };
  const renewed = async (call: ControlCall): Promise<Renewed> =>
    read(renewedSchema, (await send(call)).body);
  return {
    start: ({ instance, agentVersion, ...about }) =>
      renewed({
        method: 'PUT',
        path: `${pathOf(about)}/start`,
        body: { fence: about.fence, instance, agentVersion },
      }),
    renew: (about, isLaunched) =>
      renewed({
        method: 'PUT',
        path: `${pathOf(about)}/renew`,
        body: { fence: about.fence, isLaunched },
      }),
    startInterrupted: async about => {
      const body = { fence: about.fence };
      await send({ method: 'PUT', path: `${pathOf(about)}/start-interrupted`, body });
    },
    result: async result => {
      const path = `${pathOf(result)}/result`;
      await send({ method: 'PUT', path, body: result, timeoutMs: RESULT_TIMEOUT_MS });
    },
    progress: async progress => {
      await send({ method: 'POST', path: `${pathOf(progress)}/progress`, body: progress });
    },
    log: async ({ offset, sha256, bytes, ...about }): Promise<LogAnswer> => {
      const query = new URLSearchParams({
        offset: String(offset),
        fence: String(about.fence),
        sha256,
      });
      const { body } = await send({
        method: 'POST',
        path: `${pathOf(about)}/logs?${query.toString()}`,
        bytes: await packed(bytes),
      });
      return read(logAnswerSchema, body);
    },
  };
}

function pathOf({ runId, attempt }: Attempt): string {
  return `/agent/runs/${encodeURIComponent(runId)}/attempts/${attempt}`;
}

async function packed(bytes: Uint8Array): Promise<NonNullable<ControlCall['bytes']>> {
  const type = 'application/octet-stream';
  if (bytes.length < COMPRESSED_BYTES_MIN) return { type, data: bytes };
  const data = await compress(bytes);
  return data.length < bytes.length ? { type, data, encoding: 'gzip' } : { type, data: bytes };
}

function read<Schema extends v.GenericSchema>(
  schema: Schema,
  body: unknown,
): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  throw new ReportError('Unreachable', false, { cause: new Error('an answer of another form') });
}

function reportError(error: unknown): ReportError {
  if (error instanceof ControlError) {
    return new ReportError(error.code, !error.isTransient, { cause: error });
  }
  return new ReportError('Unreachable', false, { cause: error });
}
