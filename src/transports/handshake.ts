import type { RefusalReason } from '../protocol/refusals.ts';
import type { ControlChannel } from '../relay/control-channel.ts';
import type { Role } from '../relay/events.ts';
import type { DialAction, DialOutcome } from '../relay/given-addresses.ts';
import type { Channel, ControlSocket, HeldSender, Refused, RelayRequest } from '../relay/ports.ts';
import type { Relay } from '../relay/relay.ts';
import type { Rendezvous } from '../relay/rendezvous.ts';
import type { Outbox } from './outbox.ts';

export interface HandshakeOptions {
  readonly relay: Relay;
  readonly outbox: Outbox;
  /** Asks the node that an address is from; undefined: it is ours, or nobody's. Rejects only on a bug. */
  readonly dialElsewhere: (
    request: RelayRequest,
    action: DialAction,
  ) => Promise<DialOutcome> | undefined;
  readonly reportBug: (bug: unknown) => void;
}

export type OnChannel = (channel: Channel) => void;

/** How a client is answered that wants a channel; each transport has its own. One of them is called, once. */
export interface HandshakeAnswer {
  letIn(role: 'sender' | 'rendezvous', protocol: string | undefined, onChannel: OnChannel): void;
  letListenerIn(open: (socket: ControlSocket) => ControlChannel): void;
  refuse(refused: Refused): void;
  /** A listener's own words: its status as it is, its text as far as a status line may hold it. */
  reject(status: number, description: string): void;
  /** A listener has turned its sender away, and this is what it expects for that. */
  gone(): void;
}

/** One client that wants a channel: answered now (listen, accept, request) or later (connect). */
export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #request: RelayRequest;
  readonly #answer: HandshakeAnswer;
  #rendezvous: Rendezvous | undefined;
  #isOver = false;

  constructor(options: HandshakeOptions, request: RelayRequest, answer: HandshakeAnswer) {
    this.#options = options;
    this.#request = request;
    this.#answer = answer;
  }

  /** Decides, unless a `fault` has decided already. */
  begin(fault: RefusalReason | undefined): void {
    const { relay } = this.#options;
    const request = this.#request;
    // Without an action it is a connect: .NET's own tests do that.
    const action = request.query.action?.toLowerCase() ?? 'connect';
    if (fault !== undefined) {
      this.#refuse(relay.refuse(fault, request, roleOf(action)));
      return;
    }
    switch (action) {
      case 'listen':
        this.#listen();
        return;
      case 'connect':
        this.#connect();
        return;
      case 'accept':
      case 'request':
        this.#dialBack(action);
        return;
      default:
        this.#refuse(relay.refuse('action-unknown', request, 'sender', `'${action}'`));
    }
  }

  /** The client went away before it was answered. */
  clientGone(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#rendezvous?.senderGone();
  }

  #listen(): void {
    this.#options.relay.listen(this.#request, outcome => {
      if ('reason' in outcome) {
        if (!this.#isOver) this.#refuse(outcome);
      } else if (this.#isOver) outcome.abandon();
      else {
        this.#isOver = true;
        this.#answer.letListenerIn(socket => outcome.open(socket));
      }
    });
  }

  #connect(): void {
    const sender: HeldSender = {
      complete: (protocol, opened) =>
        // Not now: uWebSockets.js is still reading the listener's handshake, and would mix up the two.
        this.#later(() => this.#letIn('sender', protocol, opened)),
      refuse: refused => this.#later(() => this.#refuse(refused)),
      reject: (status, description) =>
        this.#later(() => {
          this.#isOver = true;
          this.#answer.reject(status, description);
        }),
    };
    this.#rendezvous = this.#options.relay.connect(this.#request, sender);
  }

  /** The address may be one that another node of the cluster gave out. */
  #dialBack(action: DialAction): void {
    const { dialElsewhere, relay, reportBug } = this.#options;
    const elsewhere = dialElsewhere(this.#request, action);
    if (elsewhere === undefined) {
      this.#dial(
        action === 'accept' ? relay.accept(this.#request) : relay.openRequest(this.#request),
      );
      return;
    }
    elsewhere.then(outcome => {
      if (!this.#isOver) this.#dial(outcome);
      else if ('dial' in outcome) outcome.dial.abandon();
    }, reportBug);
  }

  #dial(outcome: DialOutcome): void {
    if ('refused' in outcome) this.#refuse(outcome.refused);
    else if ('rejected' in outcome) {
      this.#isOver = true;
      this.#answer.gone();
    } else {
      const { dial } = outcome;
      this.#letIn('rendezvous', dial.protocol, channel => dial.opened(channel));
    }
  }

  #letIn(role: 'sender' | 'rendezvous', protocol: string | undefined, onChannel: OnChannel): void {
    this.#isOver = true;
    this.#answer.letIn(role, protocol, onChannel);
  }

  #refuse(refused: Refused): void {
    this.#isOver = true;
    this.#answer.refuse(refused);
  }

  #later(task: () => void): void {
    this.#options.outbox.put(() => {
      if (!this.#isOver) task();
    });
  }
}

export function roleOf(action: string): Role {
  if (action === 'listen') return 'listener';
  return action === 'accept' || action === 'request' ? 'rendezvous' : 'sender';
}
