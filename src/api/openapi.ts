import {
  toJsonSchema,
  toJsonSchemaDefs,
  type ConversionConfig,
  type JsonSchema,
} from '@valibot/to-json-schema';
import * as v from 'valibot';
import { Problem } from '../dispatch/problem.ts';
import { groupPackageSchema } from '../dispatch/records.ts';
import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import { envelopeSchema, jobSchema } from '../jobs/messages.ts';
import { ERROR_CODES, FRAME_ERRORS, type FrameErrorCode } from './api-error.ts';
import type { AnswerSpec, BodySpec, Operation } from './operation.ts';
import { API_PREFIX, PARAMETERS, parameterNames } from './route-table.ts';
import {
  CODE_SHOWN,
  connectionShownSchema,
  ENVIRONMENT_SHOWN,
  groupShownSchema,
  jwkShownSchema,
  keyShownSchema,
  machineShownSchema,
  runShownSchema,
  TOKEN_SHOWN,
  USER_SHOWN,
} from './shown-records.ts';

// The OpenAPI document of the table of operations. Nothing in it is written by hand but the general remarks.

const BEARER = 'bearer';
const DESCRIPTION = `Job dispatch of Halfway. Every answer that is an error is \`application/problem+json\` with a
\`code\`. Mutable records have an \`ETag\`, which is their \`version\`; whoever changes or deletes one sends it as \`If-Match\`.
Lists have \`limit\` and \`after\`, and give a \`next\` while there is more. Moments are ISO 8601 in UTC.`;

const ANY_METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const;

export const problemSchema = v.strictObject({
  type: v.string(),
  title: v.string(),
  status: v.pipe(v.number(), v.safeInteger()),
  detail: v.string(),
  code: v.picklist(ERROR_CODES),
  trackingId: v.pipe(v.string(), v.uuid()),
  errors: v.optional(v.array(v.strictObject({ path: v.string(), message: v.string() }))),
});

/** What stands in many answers. */
const NAMED: Readonly<Record<string, v.GenericSchema>> = {
  Problem: problemSchema,
  Environment: ENVIRONMENT_SHOWN.schema,
  User: USER_SHOWN.schema,
  Token: TOKEN_SHOWN.schema,
  ActivationCode: CODE_SHOWN.schema,
  Machine: machineShownSchema,
  Group: groupShownSchema,
  GroupPackage: groupPackageSchema,
  Key: keyShownSchema,
  DispatchKey: jwkShownSchema,
  Connection: connectionShownSchema,
  Envelope: envelopeSchema,
  Job: jobSchema,
  Run: runShownSchema,
};

/** An OpenAPI 3.1 document. */
export function openApiDocument(
  operations: readonly Operation[],
  version: string,
): Record<string, unknown> {
  const paths = new Map<string, Record<string, unknown>>();
  for (const operation of operations) {
    const path = `${API_PREFIX}${operation.path}`;
    const item = paths.get(path) ?? { parameters: pathParameters(operation.path) };
    for (const method of methodsOf(operation)) item[method] = operationObject(operation, method);
    paths.set(path, item);
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Halfway job dispatch', version, description: DESCRIPTION },
    paths: Object.fromEntries(paths),
    components: {
      schemas: toJsonSchemaDefs(NAMED, CONVERSION),
      securitySchemes: { [BEARER]: { type: 'http', scheme: 'bearer' } },
    },
  };
}

/** The statuses that an operation may answer with, and for problems their codes. */
function statusesOf(operation: Operation): ReadonlyMap<number, readonly string[]> {
  const statuses = new Map<number, string[]>();
  for (const { status } of operation.answers) statuses.set(status, []);
  for (const code of problemCodes(operation)) {
    const status = statusOfCode(code);
    statuses.set(status, [...(statuses.get(status) ?? []), code]);
  }
  return statuses;
}

function methodsOf({ method }: Operation): readonly string[] {
  return method === 'ANY' ? ANY_METHODS : [method.toLowerCase()];
}

/** What every operation of its kind says no with, and what only this one does. */
function problemCodes(operation: Operation): ReadonlySet<JobErrorCode | FrameErrorCode> {
  const { who, body, ifMatch, isRepeatable, path, problems = [] } = operation;
  const codes = new Set<JobErrorCode | FrameErrorCode>([
    'RequestMalformed',
    'InternalError',
    'Overloaded',
    'StoreUnavailable',
    ...problems,
  ]);
  if (who !== 'nobody') codes.add('TokenInvalid').add('AccessDenied');
  if (path.includes('{')) codes.add('NotFound');
  if (ifMatch !== undefined) codes.add('PreconditionFailed');
  if (ifMatch !== undefined) codes.add('PreconditionRequired');
  if (isRepeatable === true) codes.add('IdempotencyKeyReused');
  if (body !== undefined) codes.add('ContentTooLarge').add('RequestTimeout');
  if (body !== undefined && body.kind !== 'any') codes.add('UnsupportedMediaType');
  return codes;
}

function statusOfCode(code: JobErrorCode | FrameErrorCode): number {
  return isFrameCode(code) ? FRAME_ERRORS[code].status : new Problem(code).httpStatus;
}

function isFrameCode(code: string): code is FrameErrorCode {
  return Object.hasOwn(FRAME_ERRORS, code);
}

function operationObject(operation: Operation, method: string): Record<string, unknown> {
  const { summary, tag, who, body } = operation;
  return {
    operationId: operationId(operation, method),
    tags: [tag],
    summary,
    security: securityOf(who),
    parameters: [...queryParameters(operation), ...headerParameters(operation)],
    ...(body === undefined ? {} : { requestBody: requestBody(body) }),
    responses: responsesOf(operation),
  };
}

/** `getMachinesQueue`: the method and the words of the path that are no parameters. */
function operationId({ path }: Operation, method: string): string {
  const words = path.replaceAll(/\{(\w+)\}/g, 'By-$1').split(/[^A-Za-z0-9]+/);
  const named = words
    .filter(word => word !== '')
    .map(word => word[0]?.toUpperCase() + word.slice(1));
  return method + named.join('');
}

function securityOf(who: Operation['who']): readonly object[] {
  if (who === 'nobody') return [];
  return who === 'anyone' ? [{}, { [BEARER]: [] }] : [{ [BEARER]: [] }];
}

function pathParameters(path: string): readonly object[] {
  return parameterNames(path).map(name => ({
    name,
    in: 'path',
    required: true,
    schema: jsonSchemaOf(PARAMETERS[name] ?? v.string()),
  }));
}

function queryParameters({ query }: Operation): readonly object[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = jsonSchemaOf(query, 'output');
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
}

function headerParameters({ ifMatch, isRepeatable, headers = [] }: Operation): readonly object[] {
  const tag = {
    name: 'If-Match',
    in: 'header',
    required: ifMatch === 'required',
    description: 'The version that was read, in quotes: the ETag of the answer that had it',
    schema: { type: 'string', pattern: '^"[0-9]{1,15}"$' },
  };
  const key = {
    name: 'Idempotency-Key',
    in: 'header',
    required: false,
    description: 'The same request with the same key makes nothing new, for a day',
    schema: { type: 'string', minLength: 1, maxLength: 256 },
  };
  const others = headers.map(name => ({ name, in: 'header', schema: { type: 'string' } }));
  return [
    ...(ifMatch === undefined ? [] : [tag]),
    ...(isRepeatable === true ? [key] : []),
    ...others,
  ];
}

function requestBody({ kind, schema, isOptional }: BodySpec<unknown>): object {
  const required = kind !== 'any' && isOptional !== true;
  if (kind === 'json') {
    return { required, content: { 'application/json': { schema: jsonSchemaOf(schema) } } };
  }
  const type = kind === 'bytes' ? 'application/octet-stream' : '*/*';
  return { required, content: { [type]: {} } };
}

function responsesOf(operation: Operation): Record<string, object> {
  const answers = new Map(operation.answers.map(answer => [answer.status, answer]));
  const responses: Record<string, object> = {};
  for (const [status, codes] of statusesOf(operation)) {
    const answer = answers.get(status);
    responses[status] = answer === undefined ? problemResponse(codes) : goodResponse(answer);
  }
  return responses;
}

function goodResponse({ text, schema, contentType, hasEtag, hasLocation }: AnswerSpec): object {
  const string = { schema: { type: 'string' } };
  const headers = {
    ...(hasEtag === true ? { ETag: string } : {}),
    ...(hasLocation === true ? { Location: string } : {}),
  };
  const content = {
    ...(schema === undefined ? {} : { 'application/json': { schema: jsonSchemaOf(schema) } }),
    ...(contentType === undefined ? {} : { [contentType]: {} }),
  };
  return { description: text, headers, ...(schema === undefined ? {} : { content }) };
}

function problemResponse(codes: readonly string[]): object {
  const schema = { $ref: '#/components/schemas/Problem' };
  return {
    description: codes.toSorted().join(', '),
    content: { 'application/problem+json': { schema } },
  };
}

/** As JSON Schema of the dialect that OpenAPI 3.1 has; what has a name of its own is referred to. */
export function jsonSchemaOf(
  schema: v.GenericSchema,
  typeMode: 'ignore' | 'output' = 'ignore',
): JsonSchema {
  const {
    $schema: _dialect,
    $defs: _named,
    ...rest
  } = toJsonSchema(schema, {
    ...CONVERSION,
    typeMode,
    definitions: NAMED,
  });
  return rest;
}

const CONVERSION: ConversionConfig = {
  target: 'draft-2020-12',
  // Neither has a form in JSON Schema; their limits are in the texts of the refusals.
  ignoreActions: ['trim', 'check', 'transform'],
  overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  overrideSchema: ({ valibotSchema }) =>
    // The messages of job dispatch have one custom kind of value: a code.
    valibotSchema.type === 'custom' ? { type: 'string', enum: Object.keys(JOB_ERRORS) } : undefined,
  overrideAction: ({ valibotAction, jsonSchema }) => {
    const pattern = patternOf(valibotAction);
    if (pattern === undefined) return undefined;
    // It may have been converted already.
    const { pattern: before = pattern } = jsonSchema;
    if (before === pattern) return { ...jsonSchema, pattern };
    return { ...jsonSchema, allOf: [...(jsonSchema.allOf ?? []), { pattern }] };
  },
};

/** Patterns of ours have no flag but `u`, which JSON Schema means anyhow. */
function patternOf(action: object): string | undefined {
  if (isRegex(action)) return action.requirement.source;
  return isStart(action) ? `^${action.requirement}` : undefined;
}

function isRegex(action: object): action is v.RegexAction<string, undefined> {
  return 'type' in action && action.type === 'regex';
}

function isStart(action: object): action is v.StartsWithAction<string, string, undefined> {
  return 'type' in action && action.type === 'starts_with';
}
