import { release, type as osType } from 'node:os';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { trustedKeys } from '../crypto/key-chain.ts';
import type { OpeningKey } from '../crypto/key-pair.ts';
import type { Command, Hello } from '../jobs/messages.ts';
import type { HeldKeys } from './credential-opener.ts';
import { HelloLoop } from './hello-loop.ts';
import type { KeyStore, MachineKeys } from './key-store.ts';
import type { MachineAccess } from './machine-access.ts';
import { textOf } from './machine-error.ts';
import type { JobDoor } from './ports.ts';
import { momentText } from './register.ts';
import {
  readRegistration,
  writeRegistration,
  type DispatchKey,
  type RegistrationRecord,
} from './registration-record.ts';
import { listenOnRelay, type RelayWay } from './relay-listener.ts';
import { RelayRequests } from './relay-requests.ts';
import { openServiceSocket, type ServiceSocket } from './service-socket.ts';
import { ServiceStatus, type ServiceReport } from './service-status.ts';
import { SignatureCheck } from './signed-message.ts';
import type { StateFolder } from './state-folder.ts';

export interface ServiceParts {
  readonly folder: StateFolder;
  readonly keyStore: KeyStore;
  readonly keys: MachineKeys;
  readonly record: RegistrationRecord;
  readonly access: MachineAccess;
  readonly way: RelayWay;
  readonly installId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Drawn anew at each start. */
  readonly instance: string;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random?: () => number;
}

/** How long runs may go on after a signal; then the next process of the service takes them up. */
export const DRAIN_TIMEOUT_MS = 30_000;
const DRAIN_LOOK_MS = 250;

/**
 * The machine service without what carries out runs: says hello, listens through the relay, checks what
 * comes, and hands it to a `JobDoor`. Made first, since what opens credentials needs its keys.
 *
 *     made ── run ──▶ running ── drain ──▶ draining ── no run left, or deadline ──▶ over
 *     running, draining ── the control plane does not know this machine ──▶ over (rejects)
 */
export class MachineService {
  readonly #of: ServiceParts;
  readonly #status: ServiceStatus;
  readonly #ended = new AbortController();
  #record: RegistrationRecord;
  #groupKeys: readonly OpeningKey[] = [];
  #door: JobDoor | undefined;
  #hello: HelloLoop | undefined;

  constructor(of: ServiceParts) {
    this.#of = of;
    this.#record = of.record;
    this.#status = new ServiceStatus(of.clock);
  }

  /** For the `CredentialOpener`. */
  held(): HeldKeys {
    const { tenant, environment, machineId, group } = this.#record;
    return {
      tenant,
      environment,
      machineId,
      machineKeys: [this.#of.keys.encryption],
      group: group === undefined ? undefined : { id: group.id, keys: this.#groupKeys },
    };
  }

  /**
   * Runs until it is drained or `signal` is aborted. Rejects with a `MachineError` when the control plane
   * does not know this machine any more, or when another process uses the folder.
   */
  async run(door: JobDoor, signal: AbortSignal): Promise<void> {
    const { folder, log } = this.#of;
    this.#door = door;
    let socket: ServiceSocket | undefined;
    const onAbort = (): void => this.#ended.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await this.#reload();
      socket = await openServiceSocket(folder, async question => {
        if (question === 'reload') {
          await this.#reload();
          this.askStandings();
        }
        return this.report();
      });
      await door.recover();
      await this.#serve(door);
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#ended.abort();
      await socket?.close();
      await door.close();
      log.info({}, 'machine service ended');
    }
  }

  /** Says hello at once, and hands on what the control plane makes of the runs. */
  askStandings(): void {
    this.#hello?.hurry();
  }

  /** Takes nothing new; `run` ends when the last run has, or at the deadline. Hellos go on until then. */
  async drain(timeoutMs = DRAIN_TIMEOUT_MS): Promise<void> {
    const { clock, log } = this.#of;
    if (this.#status.isDraining) return;
    this.#status.isDraining = true;
    this.#door?.setDraining(true);
    log.info({ runs: this.#door?.runs().length ?? 0, timeoutMs }, 'draining');
    const deadlineMs = clock.nowMs() + timeoutMs;
    while (clock.nowMs() < deadlineMs && !this.#ended.signal.aborted) {
      if ((this.#door?.runs().length ?? 0) === 0) break;
      await new Promise<void>(resolve => void clock.after(DRAIN_LOOK_MS, resolve));
    }
    const left = this.#door?.runs().length ?? 0;
    if (left > 0)
      log.warn({ runs: left }, 'runs go on without the service: its next process takes them up');
    this.#ended.abort();
  }

  /** What `halfway machine status` shows. */
  report(): ServiceReport {
    const { instance, version, keyStore, keys } = this.#of;
    const { machineId, name, environment, server, group } = this.#record;
    return {
      v: 1,
      pid: process.pid,
      instance,
      version,
      machineId,
      name,
      environment,
      server,
      fingerprint: fingerprintOf(keys.encryption.kid),
      keyProtection: keyStore.protection,
      group: group && { id: group.id, hasKey: this.#groupKeys.length > 0 },
      ...this.#status.parts(),
      runs: this.#door?.runs() ?? [],
    };
  }

  async #serve(door: JobDoor): Promise<void> {
    const { access, clock, log, way, random } = this.#of;
    const { server: origin, relayPath } = this.#record;
    const status = this.#status;
    const hello = new HelloLoop({
      access,
      door,
      status,
      clock,
      log,
      random,
      hello: () => this.#helloOf(door),
      onDispatchKeys: published => this.#pin(published),
    });
    this.#hello = hello;
    const serverNowMs = (): number => access.serverNowMs();
    const requests = new RelayRequests({
      relayPath,
      check: new SignatureCheck({
        pinned: () => this.#record.dispatchKeys,
        audience: relayPath,
        serverNowMs,
      }),
      log,
      takers: {
        offer: offer => door.offer(offer),
        cancel: cancel => door.cancel(cancel),
        command: command => this.#command(command),
        // oxlint-disable-next-line no-restricted-globals -- reads a text, asks no clock
        isOver: moment => Date.parse(moment) < serverNowMs(),
      },
    });
    const { signal } = this.#ended;
    const listening = listenOnRelay(
      {
        origin,
        relayPath,
        way,
        access,
        requests,
        status,
        clock,
        log,
        random,
        onChange: () => this.askStandings(),
      },
      signal,
    );
    const speaking = hello.run(signal);
    try {
      await Promise.race([speaking, listening]);
    } finally {
      this.#ended.abort();
      await Promise.allSettled([speaking, listening]);
    }
  }

  #helloOf(door: JobDoor): Hello {
    const { machineId } = this.#record;
    const { keys, instance, version, labels, clock, installId } = this.#of;
    const { transport } = this.#status;
    return {
      v: 1,
      type: 'hello',
      machineId,
      installId,
      instance,
      agentVersion: version,
      os: `${osType()} ${release()}`,
      capacity: door.capacity(),
      sessions: door.sessions(),
      labels,
      keys: [keys.encryption.kid, ...this.#groupKeys.map(({ kid }) => kid)],
      clock: momentText(clock.wallMs()),
      ...(transport === undefined ? {} : { transport }),
      journal: door.journal(),
    };
  }

  /** Reads again what a command may have changed: the group and its key. */
  async #reload(): Promise<void> {
    const { folder, keyStore } = this.#of;
    const record = readRegistration(folder);
    if (record?.machineId !== this.#record.machineId) {
      const what = record === undefined ? 'unregistered' : 'registered anew';
      this.#of.log.warn({ machineId: record?.machineId }, `${what}: ending`);
      this.drain(0).catch(() => undefined);
      return;
    }
    this.#record = record;
    this.#groupKeys = record.group === undefined ? [] : await keyStore.groupKeys(record.group.id);
  }

  /**
   * Pins the successors of what is pinned, and lets go of what is not published any more. What no pinned key
   * has signed is nobody's, whoever publishes it.
   */
  async #pin(published: readonly DispatchKey[]): Promise<void> {
    const { folder, log } = this.#of;
    const trusted = await trustedKeys(this.#record.dispatchKeys, published);
    const strange = published.filter(key => !trusted.includes(key));
    if (strange.length > 0) {
      log.warn({ event: 'security', kids: kids(strange) }, 'keys that no known one has signed');
    }
    if (trusted.length === 0 || kids(trusted) === kids(this.#record.dispatchKeys)) return;
    // Read anew: a command may have changed the record meanwhile.
    const record = readRegistration(folder);
    if (record?.machineId !== this.#record.machineId) return;
    this.#record = { ...record, dispatchKeys: [...trusted] };
    writeRegistration(folder, this.#record);
    log.info({ kids: kids(trusted) }, 'keys that sign offers are others from now on');
  }

  /** Undefined for what this version does not do. */
  async #command({ id, name }: Command): Promise<object | undefined> {
    const { log, clock } = this.#of;
    log.info({ commandId: id, command: name }, 'command of the control plane');
    switch (name) {
      case 'drain':
        // It offers nothing by itself until somebody ends that; who sits here sees it in the status.
        this.#status.drainAskedAt = momentText(clock.wallMs());
        return { v: 1, type: 'done', id };
      case 'collect-diagnostics':
        return { v: 1, type: 'diagnostics', id, report: this.report() };
      case 'group-key-changed': {
        const hasKey = await this.#hasCurrentGroupKey();
        this.askStandings();
        return { v: 1, type: 'done', id, hasKey };
      }
      default:
        return undefined;
    }
  }

  /** Whether what the group is known by now is among the keys here. */
  async #hasCurrentGroupKey(): Promise<boolean> {
    const { access, log } = this.#of;
    const { group } = this.#record;
    if (group === undefined) return false;
    try {
      const path = `/groups/${group.id}/public-key`;
      const { body } = await access.call({ method: 'GET', path });
      const kid = typeof body === 'object' && body !== null && 'kid' in body ? body.kid : undefined;
      if (this.#groupKeys.some(key => key.kid === kid)) return true;
      const why = `the group ${group.id} has a new key: "halfway machine join-group ${group.id}" with its password`;
      this.#status.error('group', why);
      log.warn({ groupId: group.id }, 'the group has a new key: join it again with its password');
    } catch (error) {
      log.warn({ why: textOf(error) }, 'the key of the group could not be looked at');
    }
    return false;
  }
}

function kids(keys: readonly DispatchKey[]): string {
  return keys.map(({ kid }) => kid).join(' ');
}
