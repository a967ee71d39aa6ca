// Relays a text each way through a running relay, with nothing of Halfway's own: the `ws` package and a SAS token.
//   node relay-a-message.mjs ws://HOST:PORT PATH KEY_FILE     the key is that of the rule `root`
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';

const [origin, path, keyFile] = process.argv.slice(2);
const headers = { ServiceBusAuthorization: token(readFileSync(keyFile, 'utf8')) };
const patience = setTimeout(() => {
  console.error('nothing came through within 10 s');
  process.exit(1);
}, 10_000);

const control = new WebSocket(`${origin}/$hc/${path}?sb-hc-action=listen`, { headers });
await once(control, 'open');
const offered = once(control, 'message');
const sender = new WebSocket(`${origin}/$hc/${path}?sb-hc-action=connect`, { headers });
const joined = once(sender, 'open');
const { accept } = JSON.parse(String((await offered)[0]));
const listener = new WebSocket(accept.address);
await Promise.all([joined, once(listener, 'open')]);

expect(await crosses(sender, listener, 'to the listener'), 'to the listener');
expect(await crosses(listener, sender, 'to the sender'), 'to the sender');
const closed = Promise.all([once(listener, 'close'), once(sender, 'close')]);
sender.close(1000);
await closed;
control.close();
clearTimeout(patience);

async function crosses(from, to, text) {
  const received = once(to, 'message');
  from.send(text);
  return String((await received)[0]);
}

function expect(got, wanted) {
  if (got === wanted) return;
  console.error(`expected "${wanted}", got "${got}"`);
  process.exit(1);
}

function token(key) {
  const audience = encodeURIComponent(`http://${new URL(origin).hostname}/${path}`);
  const expiresAt = Math.floor(Date.now() / 1000) + 300;
  const signature = createHmac('sha256', key).update(`${audience}\n${expiresAt}`).digest('base64');
  return `SharedAccessSignature sr=${audience}&sig=${encodeURIComponent(signature)}&se=${expiresAt}&skn=root`;
}
