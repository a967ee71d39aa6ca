import * as v from 'valibot';
import { DispatchError } from '../../dispatch-client/dispatch-error.ts';

const problemSchema = v.object({
  title: v.optional(v.string(), ''),
  detail: v.optional(v.string(), ''),
  code: v.optional(v.string(), ''),
  trackingId: v.optional(v.string()),
  errors: v.optional(v.array(v.object({ path: v.string(), message: v.string() })), []),
});

/** Of an answer that is no success. Whatever its body is: something between may have written it. */
export function problemOf(status: number, text: string): DispatchError {
  const { title, detail, code, trackingId, errors } = parsed(text);
  const message = detail === '' ? title : detail;
  return new DispatchError(code, message === '' ? `The server answered ${status}` : message, {
    status,
    trackingId,
    faults: errors,
  });
}

function parsed(text: string): v.InferOutput<typeof problemSchema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // A page of some proxy: the status is all there is to say.
    value = {};
  }
  const result = v.safeParse(problemSchema, value);
  return result.success ? result.output : v.parse(problemSchema, {});
}

export function unreachable(): DispatchError {
  return new DispatchError('Unreachable', 'The server cannot be reached');
}

/** A fault that this page found by itself, said beside a field as the server would. */
export function faultAt(path: string, message: string): DispatchError {
  const faults = [{ path, message }];
  return new DispatchError('', 'Something is not filled in as it must be', { faults });
}

/** What is shown of anything that was thrown. */
export function toProblem(error: unknown): DispatchError {
  if (error instanceof DispatchError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new DispatchError('PageFailed', message);
}
