import { systemClock, type Clock } from '../base/clock.ts';
import { plainOnLoopback } from '../client/relay-target.ts';
import { Routes, type CertificateAuthorities } from '../client/routes.ts';
import { httpOrigin, parseEndpoint } from '../protocol/connection-string.ts';
import { askApi, type ApiCall } from './api-exchange.ts';
import { readAnswer, RecordCollection, type CallApi } from './record-collection.ts';
import {
  activationCodeSchema,
  auditEntrySchema,
  callerSchema,
  connectionSchema,
  environmentSchema,
  groupSchema,
  machineSchema,
  publicKeySchema,
  scheduleSchema,
  tokenSchema,
  triggerSchema,
  userSchema,
  type ActivationCodeView,
  type AuditEntryView,
  type ConnectionView,
  type EnvironmentView,
  type GroupView,
  type MachineView,
  type ScheduleView,
  type TargetRef,
  type TokenView,
  type TriggerView,
  type UserView,
} from './representations.ts';
import { RunCollection } from './run-collection.ts';
import { targetKeyOf, type TargetKey } from './sealing.ts';

/** Where job dispatch is and how to enter. */
export interface DispatchOptions {
  /** The relay's public port: `https://host[:port]`, `http://127.0.0.1:port`, or `sb://…` as in connection strings. */
  readonly endpoint: string;
  /** `hwt_…`; undefined only for what needs none. */
  readonly token?: string | undefined;
  /** `default` unless it is given. */
  readonly environment?: string | undefined;
  /** Envelopes are bound to it; there is but one, `default`. */
  readonly tenant?: string | undefined;
  /** URL of a proxy; by default that of HTTPS_PROXY and its kin; false: none. */
  readonly proxy?: string | false | undefined;
  /** Certificates in PEM form of authorities to trust besides the usual ones. */
  readonly ca?: CertificateAuthorities | undefined;
  /** For tests. */
  readonly clock?: Clock | undefined;
}

const BASE = '/$api/v1';

/** Job dispatch over REST, in one environment. Every method rejects with a `DispatchError`. */
export class DispatchClient {
  /** `https://host:port` */
  readonly origin: string;
  readonly environment: string;
  readonly machines: RecordCollection<MachineView>;
  readonly groups: RecordCollection<GroupView>;
  readonly connections: RecordCollection<ConnectionView>;
  readonly runs: RunCollection;
  readonly schedules: RecordCollection<ScheduleView>;
  readonly triggers: RecordCollection<TriggerView>;
  readonly activationCodes: RecordCollection<ActivationCodeView>;
  readonly auditEntries: RecordCollection<AuditEntryView>;
  readonly environments: RecordCollection<EnvironmentView>;
  readonly users: RecordCollection<UserView>;
  readonly tokens: RecordCollection<TokenView>;
  readonly #tenant: string;
  readonly #routes: Routes;
  readonly #clock: Clock;
  readonly #token: string | undefined;

  /** Throws a `TypeError` that says what is wrong with the options. */
  constructor(options: DispatchOptions) {
    const endpoint = parseEndpoint(options.endpoint);
    if (endpoint === undefined) {
      throw new TypeError(
        '`endpoint` must be such as https://relay.example.com or http://127.0.0.1:9350',
      );
    }
    this.origin = httpOrigin(plainOnLoopback(endpoint, false));
    this.environment = options.environment ?? 'default';
    this.#tenant = options.tenant ?? 'default';
    this.#routes = new Routes({ proxy: options.proxy, ca: options.ca });
    this.#clock = options.clock ?? systemClock;
    this.#token = options.token;
    const call: CallApi = (method, path, more) => this.call(method, path, more);
    const within = `/environments/${encodeURIComponent(this.environment)}`;
    this.machines = new RecordCollection(call, `${within}/machines`, machineSchema);
    this.groups = new RecordCollection(call, `${within}/groups`, groupSchema);
    this.connections = new RecordCollection(call, `${within}/connections`, connectionSchema);
    this.runs = new RunCollection(call, `${within}/runs`, this.#clock);
    this.schedules = new RecordCollection(call, `${within}/schedules`, scheduleSchema);
    this.triggers = new RecordCollection(call, `${within}/triggers`, triggerSchema);
    this.activationCodes = new RecordCollection(
      call,
      `${within}/activation-codes`,
      activationCodeSchema,
      false,
    );
    this.auditEntries = new RecordCollection(call, `${within}/audit`, auditEntrySchema);
    this.environments = new RecordCollection(call, '/environments', environmentSchema, false);
    this.users = new RecordCollection(call, '/users', userSchema, false);
    this.tokens = new RecordCollection(call, '/tokens', tokenSchema, false);
  }

  /** Who the server takes the token for. */
  async me(): Promise<{ readonly name: string; readonly isAdmin: boolean }> {
    return readAnswer(callerSchema, await this.call('GET', '/me'));
  }

  /** Gives a principal a role in this environment; undefined takes it away. */
  async setRole(principal: string, role: string | undefined): Promise<void> {
    const path = `${this.environments.pathOf(this.environment)}/roles/${encodeURIComponent(principal)}`;
    if (role === undefined) await this.call('DELETE', path);
    else await this.call('PUT', path, { body: { role } });
  }

  /** The key that credentials for a target are sealed to. Throws `KeyMismatch` for one that is not what its id says. */
  async publicKeyOf({ kind, id }: Pick<TargetRef, 'kind' | 'id'>): Promise<TargetKey> {
    const records = kind === 'machine' ? this.machines : this.groups;
    const path = `${records.pathOf(id)}/public-key`;
    const key = readAnswer(publicKeySchema, await this.call('GET', path));
    const { environment } = this;
    return targetKeyOf({ tenant: this.#tenant, environment, kind, id, kid: key.kid }, key);
  }

  /** Any request: `path` is what stands behind `/$api/v1`. The answer's body, undefined if it has none. */
  async call(method: string, path: string, more: ApiCall = {}): Promise<unknown> {
    const url = new URL(`${this.origin}${BASE}${path}`);
    for (const [name, value] of Object.entries(more.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const request = { ...more, url, method, token: this.#token };
    const { body } = await askApi(request, { routes: this.#routes, clock: this.#clock });
    return body;
  }
}
