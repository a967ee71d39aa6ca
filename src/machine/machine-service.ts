import { release, type as osType } from 'node:os';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import type { Hello } from '../jobs/messages.ts';
import { ControlError } from './control-client.ts';
import type { HeldKeys } from './credential-opener.ts';
import { Keyring } from './keyring.ts';
import { HelloLoop } from './hello-loop.ts';
import type { KeyStore, MachineKeys } from './key-store.ts';
import type { MachineAccess } from './machine-access.ts';
import type { JobDoor } from './ports.ts';
import { momentText } from './register.ts';
import type { RegistrationRecord } from './registration-record.ts';
import { listenOnRelay, type RelayWay } from './relay-listener.ts';
import { RelayRequests } from './relay-requests.ts';
import { ServiceCommands } from './service-commands.ts';
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
  readonly #keyring: Keyring;
  #door: JobDoor | undefined;
  #hello: HelloLoop | undefined;

  constructor(of: ServiceParts) {
    this.#of = of;
    this.#keyring = new Keyring({ ...of, onIdentity: identity => of.access.useIdentity(identity) });
    this.#status = new ServiceStatus(of.clock);
  }

  /** For the `CredentialOpener`. */
  held(): HeldKeys {
    return this.#keyring.held();
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
    const { instance, version, keyStore } = this.#of;
    const { machineId, name, environment, server, encryptionKid } = this.#keyring.record;
    const { group } = this.held();
    return {
      v: 1,
      pid: process.pid,
      instance,
      version,
      machineId,
      name,
      environment,
      server,
      fingerprint: fingerprintOf(encryptionKid),
      keyProtection: keyStore.protection,
      group: group && { id: group.id, hasKey: group.keys.length > 0 },
      ...this.#status.parts(),
      runs: this.#door?.runs() ?? [],
    };
  }

  async #serve(door: JobDoor): Promise<void> {
    const { access, clock, log, way, random } = this.#of;
    const { server: origin, relayPath } = this.#keyring.record;
    const status = this.#status;
    const hello = new HelloLoop({
      access,
      door,
      status,
      clock,
      log,
      random,
      hello: () => this.#helloOf(door),
      onTaken: async published => {
        if (published !== undefined) await this.#keyring.pin(published);
        await this.#lookAtKey();
      },
    });
    this.#hello = hello;
    const commands = new ServiceCommands({
      keyring: this.#keyring,
      status,
      clock,
      log,
      report: () => this.report(),
      onKeys: () => this.askStandings(),
    });
    const serverNowMs = (): number => access.serverNowMs();
    const requests = new RelayRequests({
      relayPath,
      check: new SignatureCheck({
        pinned: () => this.#keyring.record.dispatchKeys,
        audience: relayPath,
        serverNowMs,
      }),
      log,
      takers: {
        offer: offer => door.offer(offer),
        cancel: cancel => door.cancel(cancel),
        command: command => commands.carryOut(command),
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
    const { machineId } = this.#keyring.record;
    const { instance, version, labels, clock, installId } = this.#of;
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
      keys: [...this.#keyring.kids()],
      clock: momentText(clock.wallMs()),
      ...(transport === undefined ? {} : { transport }),
      journal: door.journal(),
    };
  }

  /** Reads again what a command may have changed: the group and keys. */
  async #reload(): Promise<void> {
    if (await this.#keyring.reload()) return;
    this.#of.log.warn({}, 'unregistered, or registered anew: ending');
    this.drain(0).catch(() => undefined);
  }

  /** Whether the control plane has taken the new encryption key for the present one. */
  async #lookAtKey(): Promise<void> {
    const { machineId, nextEncryptionKid } = this.#keyring.record;
    if (nextEncryptionKid === undefined) return;
    try {
      const path = `/machines/${machineId}`;
      const { body } = await this.#of.access.call({ method: 'GET', path });
      const parsed = v.safeParse(machineSchema, body);
      if (parsed.success) this.#keyring.promoted(parsed.output.encryptionKey.kid);
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      // With the next hello again.
      this.#of.log.debug({ why: error.message }, 'the key that counts could not be looked at');
    }
  }
}

const machineSchema = v.object({ encryptionKey: v.object({ kid: v.string() }) });
