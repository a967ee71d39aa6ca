import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { readAudit } from '../dispatch/audit.ts';
import { requireIn } from '../dispatch/access.ts';
import { Problem } from '../dispatch/problem.ts';
import type { Repository } from '../dispatch/repository.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type ApiContext, type Call, type Operation } from './operation.ts';
import { numberParameter } from './request-fields.ts';
import { personIn, principalOf } from './scope.ts';
import { momentText, momentTextSchema } from './shown.ts';

// What is there without a token, and what concerns no one kind of record.

const AUDIT_AT_A_TIME = 200;
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** Headers that say what proxies made of a request; never one that may hold a secret. */
const ECHOED_HEADERS = [
  'accept',
  'connection',
  'content-length',
  'content-type',
  'forwarded',
  'host',
  'transfer-encoding',
  'user-agent',
  'via',
  'x-forwarded-for',
  'x-forwarded-proto',
] as const;

export const SERVICE_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: '/openapi.json',
    who: 'nobody',
    tag: 'Service',
    summary: 'This document',
    answers: [{ status: 200, text: 'OpenAPI 3.1', schema: v.record(v.string(), v.unknown()) }],
    answer: ({ openApi }) =>
      Promise.resolve({ status: 200, content: { type: 'application/json', body: openApi() } }),
  }),
  operation({
    method: 'GET',
    path: '/endpoints',
    who: 'nobody',
    tag: 'Service',
    summary: 'What machines must reach: name, ports and addresses, for firewalls and diagnosis',
    answers: [
      {
        status: 200,
        text: 'Where this server is reached',
        schema: v.strictObject({
          relaySuffix: v.string(),
          host: v.string(),
          ports: v.array(v.pipe(v.number(), v.safeInteger())),
          addresses: v.array(v.string()),
          machineHost: v.optional(v.string()),
        }),
      },
    ],
    async answer({ publicInfo }, { request }) {
      const { relaySuffix, host, ports, addresses, machineHost } = await publicInfo(
        request.headers.get('host') ?? '',
      );
      const elsewhere = machineHost === undefined ? {} : { machineHost };
      return { status: 200, body: { relaySuffix, host, ports, addresses, ...elsewhere } };
    },
  }),
  operation({
    method: 'ANY',
    path: '/echo',
    who: 'nobody',
    tag: 'Service',
    summary: 'Says what of the request has arrived, for diagnosis of what is on the way',
    body: {
      kind: 'any',
      schema: v.instance(Uint8Array),
      bytesMax: BODY_BYTES_MAX,
    },
    answers: [
      {
        status: 200,
        text: 'What has arrived',
        schema: v.strictObject({
          method: v.string(),
          remoteAddress: v.string(),
          serverTime: momentTextSchema,
          headers: v.record(v.string(), v.string()),
          bodyBytes: count,
          bodySha256: v.string(),
        }),
      },
    ],
    answer({ wallMs }, { body, request: { method, remoteAddress, headers } }) {
      const echoed = ECHOED_HEADERS.map(name => [name, headers.get(name)]);
      return Promise.resolve({
        status: 200,
        body: {
          method,
          remoteAddress,
          serverTime: momentText(wallMs()),
          headers: Object.fromEntries(echoed.filter(([, value]) => value !== undefined)),
          bodyBytes: body.length,
          bodySha256: createHash('sha256').update(body).digest('hex'),
        },
      });
    },
  }),
  operation({
    method: 'GET',
    path: '/me',
    who: 'person',
    tag: 'Service',
    summary: 'Whose token this is',
    answers: [
      {
        status: 200,
        text: 'Who asks',
        schema: v.strictObject({ name: v.string(), isAdmin: v.boolean() }),
      },
    ],
    answer(_api, call) {
      const { name, isAdmin } = principalOf(call);
      return Promise.resolve({ status: 200, body: { name, isAdmin } });
    },
  }),
  auditOperation({
    path: '/environments/{env}/audit',
    summary: 'Who did what in an environment, the oldest first; for its owners',
    async repository(api, call) {
      const { caller, services } = await personIn(api, call);
      requireIn(caller, 'administer');
      return services.repository;
    },
  }),
  auditOperation({
    path: '/audit',
    summary: 'Who did what to environments, roles, users and tokens; for administrators',
    repository({ common }, call) {
      const { isAdmin } = principalOf(call);
      if (!isAdmin) throw new Problem('AccessDenied', 'this takes an administrator');
      return Promise.resolve(common);
    },
  }),
];

function auditOperation(of: {
  readonly path: string;
  readonly summary: string;
  /** Throws when the caller may not look. */
  readonly repository: (api: ApiContext, call: Call<unknown, unknown>) => Promise<Repository>;
}): Operation {
  return operation({
    method: 'GET',
    path: of.path,
    who: 'person',
    tag: 'Audit',
    summary: of.summary,
    query: v.strictObject({
      after: v.optional(numberParameter(0, Number.MAX_SAFE_INTEGER)),
      limit: v.optional(numberParameter(1, AUDIT_AT_A_TIME)),
    }),
    answers: [
      {
        status: 200,
        text: 'Entries behind `after`; `next`: where to go on, when there may be more',
        schema: v.strictObject({
          items: v.array(
            v.strictObject({
              number: count,
              at: momentTextSchema,
              action: v.string(),
              by: v.string(),
              object: v.string(),
              details: v.record(v.string(), v.union([v.string(), v.number(), v.boolean()])),
            }),
          ),
          next: v.optional(v.string()),
        }),
      },
    ],
    async answer(api, call) {
      const repository = await of.repository(api, call);
      const { after = 0, limit = AUDIT_AT_A_TIME } = call.query;
      const entries = await readAudit(repository, { after, limit });
      const items = entries.map(({ atMs, number, action, by, object, details }) => ({
        number,
        at: momentText(atMs),
        action,
        by,
        object,
        details,
      }));
      const next = items.length < limit ? undefined : String(items.at(-1)?.number ?? after);
      return { status: 200, body: { items, next } };
    },
  });
}
