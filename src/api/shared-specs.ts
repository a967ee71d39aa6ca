import * as v from 'valibot';
import type { Caller } from '../dispatch/access.ts';
import type { EnvironmentServices } from '../dispatch/control-plane.ts';
import { PAGE_MAX } from '../dispatch/paging.ts';
import { grantSchema, type Grant } from '../dispatch/records.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import {
  operation,
  type Answer,
  type AnswerSpec,
  type BodySpec,
  type Operation,
} from './operation.ts';
import { numberParameter } from './request-fields.ts';
import { param, personIn } from './scope.ts';

// What many operations have in common.

const cursorSchema = v.pipe(v.string(), v.minLength(1), v.maxLength(1_024));

export const pageEntries = {
  limit: v.optional(numberParameter(1, PAGE_MAX)),
  /** `next` of the page before. */
  after: v.optional(cursorSchema),
};
export const pageQuery = v.strictObject(pageEntries);

/** Of actions that take nothing: `{}`, or no body at all. */
export const EMPTY_BODY: BodySpec<Record<string, never>> = {
  kind: 'json',
  schema: v.strictObject({}),
  bytesMax: BODY_BYTES_MAX,
  isOptional: true,
};

export const NO_CONTENT: AnswerSpec = { status: 204, text: 'Done' };

/** What whoever changes a record with If-Match may hear. */
export const CHANGE_PROBLEMS = [
  'PreconditionFailed',
  'PreconditionRequired',
  'VersionConflict',
] as const;

/** PUT and DELETE of `…/access/{principal}`. */
export function accessOperations(of: {
  readonly path: string;
  readonly tag: string;
  readonly answer: AnswerSpec;
  readonly notFound: JobErrorCode;
  readonly set: (
    services: EnvironmentServices,
    caller: Caller,
    about: { readonly id: string; readonly principal: string; readonly grant: Grant | undefined },
  ) => Promise<Answer>;
}): readonly Operation[] {
  const shared = {
    path: `${of.path}/access/{principal}`,
    who: 'person',
    tag: of.tag,
    problems: [of.notFound, 'VersionConflict'],
  } as const;
  return [
    operation({
      ...shared,
      method: 'PUT',
      summary: 'Shares it',
      body: {
        kind: 'json',
        schema: v.strictObject({ grant: grantSchema }),
        bytesMax: BODY_BYTES_MAX,
      },
      answers: [of.answer],
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        const [id, principal] = [param(call, 'id'), param(call, 'principal')];
        return of.set(services, caller, { id, principal, grant: call.body.grant });
      },
    }),
    operation({
      ...shared,
      method: 'DELETE',
      summary: 'Takes access away',
      answers: [NO_CONTENT],
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        const [id, principal] = [param(call, 'id'), param(call, 'principal')];
        await of.set(services, caller, { id, principal, grant: undefined });
        return { status: 204 };
      },
    }),
  ];
}
