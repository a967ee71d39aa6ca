import { dialSender } from './azure-clients.ts';
import { send } from './http-sender.ts';
import type { RawWebSocket } from './raw-websocket.ts';
import type { TestRelay } from './relay.ts';
import { until } from './within.ts';

/** Waits until a node knows so many listeners, here and elsewhere. */
export async function untilKnown(
  node: { readonly relay: TestRelay; readonly nodeId: string },
  listeners: number,
  patienceMs?: number,
): Promise<void> {
  let [here, elsewhere] = [0, 0];
  try {
    await until(
      `${node.nodeId} knows ${listeners} listeners`,
      async () => {
        here = await node.relay.metric('halfway_cluster_listeners{where="here"}');
        elsewhere = await node.relay.metric('halfway_cluster_listeners{where="elsewhere"}');
        return here + elsewhere === listeners;
      },
      patienceMs,
    );
  } catch (cause) {
    throw new Error(`${node.nodeId} knows ${here} here, ${elsewhere} elsewhere`, { cause });
  }
}

/** Something that is done over and over until it is stopped; `outcomes` are in order. */
export class Traffic<Outcome> {
  readonly outcomes: Outcome[] = [];
  readonly #running: Promise<void>;
  #isStopped = false;

  constructor(step: () => Promise<Outcome>) {
    this.#running = this.#loop(step);
  }

  async stop(): Promise<readonly Outcome[]> {
    this.#isStopped = true;
    await this.#running;
    return this.outcomes;
  }

  async #loop(step: () => Promise<Outcome>): Promise<void> {
    while (!this.#isStopped) {
      this.outcomes.push(await step());
      // Others use this machine too.
      await new Promise(resolve => void setTimeout(resolve, 5));
    }
  }
}

/** Connects one sender after another; what each was answered. */
export function connecting(to: TestRelay, path = 'hyco'): Traffic<number> {
  return new Traffic(async () => {
    const { status, socket } = await dialSender(to, path).answer;
    await socket?.reset();
    return status;
  });
}

/** Sends one request after another, each a second time when it fails; the statuses that counted. */
export function requesting(to: TestRelay, path = '/hyco'): Traffic<number> {
  const once = async (): Promise<number> => {
    try {
      return (await send(to, path)).status;
    } catch {
      return 0;
    }
  };
  return new Traffic(async () => {
    const first = await once();
    return first === 200 ? first : once();
  });
}

/** Says something and gets it back, over and over; how often it did. */
export function talking(sender: RawWebSocket): Traffic<string> {
  let count = 0;
  return new Traffic(async () => {
    count += 1;
    sender.send(`${count}`);
    const back = await sender.nextText();
    return back === `${count}` ? 'same' : back;
  });
}
