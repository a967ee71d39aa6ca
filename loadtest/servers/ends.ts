// Both ends of pairs through a relay, by the libraries that people use. Arguments: which (EndKind), where the relay is (a
// connection string, or for socket.io a URL), how many pairs. Commands come on standard input, one line of JSON each, and each is
// answered by the counters: EndCommand says which there are.
import { createInterface } from 'node:readline';
import { openHalfwayPairs } from '../ends/halfway-ends.ts';
import { openSocketIoPairs } from '../ends/socket-io-ends.ts';
import { Traffic, type EndCommand } from '../ends/traffic.ts';
import { sleep } from '../support/process.ts';

const DRAIN_TIMEOUT_MS = 30_000;
const DRAIN_LOOK_MS = 5;

const [kind = '', target = '', count = '1'] = process.argv.slice(2);
const pairs =
  kind === 'socket.io'
    ? await openSocketIoPairs(target, Number(count))
    : await openHalfwayPairs(
        {
          connectionString: target,
          transport: kind === 'poll' ? 'poll' : 'websocket',
          proxy: false,
        },
        Number(count),
      );
const traffic = new Traffic(pairs);
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface(process.stdin)) {
  const command: EndCommand = JSON.parse(line);
  if (command === 'drain') {
    traffic.stop();
    await drained();
  } else if (command !== 'mark') {
    if ('start' in command) traffic.start(command.start);
    else traffic.stall(command.stall.sizeBytes);
  }
  console.log(JSON.stringify(traffic.counters()));
}

process.exit();

async function drained(): Promise<void> {
  const untilMs = performance.now() + DRAIN_TIMEOUT_MS;
  while (traffic.missing > 0 && performance.now() < untilMs) await sleep(DRAIN_LOOK_MS);
}
