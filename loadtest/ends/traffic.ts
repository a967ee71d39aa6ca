import type { End, EndPair } from './end.ts';

/** `pingpong`: the listener sends each message back, and one is under way. Others: as fast as they go. */
export type EndTraffic = 'pingpong' | 'there' | 'back' | 'both';

export interface EndLoad {
  readonly traffic: EndTraffic;
  /** At least as long as a number: 8. */
  readonly sizeBytes: number;
  /** Messages under way at most, in each direction of each pair. */
  readonly window: number;
  /** Compares every byte. */
  readonly check: boolean;
}

/** Counted since the program began, unless it says otherwise. */
export interface EndCounters {
  /** Messages that arrived. */
  readonly messages: number;
  /** Sent, and not arrived yet. */
  readonly missing: number;
  /** Round trips since the last time this was asked, of `pingpong` only. */
  readonly roundTripsMs: readonly number[];
  readonly atMs: number;
}

/** What servers/ends.ts is told; it answers each with `EndCounters`. `drain`: stop, and wait for what is under way. */
export type EndCommand =
  | { readonly start: EndLoad }
  /** Senders write as long as they may, the listeners read nothing until the next `drain`. */
  | { readonly stall: { readonly sizeBytes: number } }
  | 'mark'
  | 'drain';

const NUMBER_BYTES = 8;

/** Plays traffic between ends that are all in this process, and throws when a message is not as it was sent. */
export class Traffic {
  readonly #pairs: readonly EndPair[];
  readonly #flows: Flow[] = [];
  #isRunning = false;
  #roundTripsMs: number[] = [];
  #goOn: () => void = () => {};

  constructor(pairs: readonly EndPair[]) {
    this.#pairs = pairs;
  }

  /** Begins, once what ran before has been drained. */
  start(load: EndLoad): void {
    this.#isRunning = true;
    for (const { sender, listener } of this.#pairs) {
      const there = this.#flow(sender, listener, load);
      const back = this.#flow(listener, sender, load);
      if (load.traffic === 'pingpong') this.#pingPong(there, back);
      if (load.traffic === 'there' || load.traffic === 'both') this.#stream(there, load.window);
      if (load.traffic === 'back' || load.traffic === 'both') this.#stream(back, load.window);
    }
  }

  /** As of `EndCommand`. */
  stall(sizeBytes: number): void {
    this.#isRunning = true;
    const stalled = new Promise<void>(resolve => {
      this.#goOn = resolve;
    });
    for (const { sender, listener } of this.#pairs) {
      listener.stalled = stalled;
      const flow = this.#flow(sender, listener, { sizeBytes, check: true });
      void this.#write(flow);
    }
  }

  /** Begins nothing new; what is under way arrives. */
  stop(): void {
    this.#isRunning = false;
    this.#goOn();
    for (const { listener } of this.#pairs) listener.stalled = undefined;
  }

  get missing(): number {
    return this.#sum(flow => flow.sent - flow.arrived);
  }

  counters(): EndCounters {
    const roundTripsMs = this.#roundTripsMs;
    this.#roundTripsMs = [];
    return {
      messages: this.#sum(flow => flow.arrived),
      missing: this.missing,
      roundTripsMs,
      atMs: performance.now(),
    };
  }

  async #write(flow: Flow): Promise<void> {
    while (this.#isRunning) await flow.send();
  }

  #pingPong(there: Flow, back: Flow): void {
    let sentAtMs = 0;
    const ping = (): void => {
      sentAtMs = performance.now();
      void there.send();
    };
    there.onArrival = () => void back.send();
    back.onArrival = () => {
      this.#roundTripsMs.push(performance.now() - sentAtMs);
      if (this.#isRunning) ping();
    };
    ping();
  }

  #stream(flow: Flow, window: number): void {
    flow.onArrival = () => {
      if (this.#isRunning) void flow.send();
    };
    for (let index = 0; index < window; index += 1) void flow.send();
  }

  #flow(from: End, to: End, load: FlowLoad): Flow {
    const flow = new Flow(from, to, load);
    this.#flows.push(flow);
    return flow;
  }

  #sum(of: (flow: Flow) => number): number {
    return this.#flows.reduce((sum, flow) => sum + of(flow), 0);
  }
}

type FlowLoad = Pick<EndLoad, 'sizeBytes' | 'check'>;

/** Numbered messages from one end to the other. */
class Flow {
  readonly #from: End;
  readonly #load: FlowLoad;
  readonly #pattern: Buffer;
  sent = 0;
  arrived = 0;
  onArrival: () => void = () => {};

  constructor(from: End, to: End, load: FlowLoad) {
    this.#from = from;
    this.#load = load;
    this.#pattern = Buffer.alloc(load.sizeBytes, 'halfway');
    to.onMessage = message => this.#take(message);
  }

  send(): Promise<void> {
    const message = Buffer.from(this.#pattern);
    message.writeDoubleBE(this.sent);
    this.sent += 1;
    return this.#from.send(message);
  }

  #take(message: Buffer): void {
    const { sizeBytes, check } = this.#load;
    if (message.length !== sizeBytes || message.readDoubleBE() !== this.arrived) {
      throw new Error(
        `Message ${this.arrived} of ${sizeBytes} bytes did not arrive as it was sent`,
      );
    }
    const pattern = this.#pattern;
    if (check && message.compare(pattern, NUMBER_BYTES, sizeBytes, NUMBER_BYTES) !== 0) {
      throw new Error(`Message ${this.arrived} has other bytes than were sent`);
    }
    this.arrived += 1;
    this.onArrival();
  }
}
