import { expect, test } from 'vitest';
import { dialListener, dialSender } from '../support/azure-clients.ts';
import { startRelay } from '../support/relay.ts';

/** Stands for whatever a peer would rather not see in a log. */
const MARK = 'hush-5f3a';

test('no refusal repeats the token it refuses', async () => {
  await using relay = await startRelay();
  for (const token of [relay.token('a'), `SharedAccessSignature ${MARK}`, MARK]) {
    const query = `sb-hc-token=${encodeURIComponent(token)}`;
    for (const answer of [
      await dialListener(relay, 'hyco', { token }).answer,
      await dialListener(relay, 'hyco', { token: '', query }).answer,
      await dialSender(relay, 'hyco', { token }).answer,
    ]) {
      expect(answer.status).toBe(401);
      expect(answer.reason + answer.body).not.toMatch(MARK);
      expect(answer.reason + answer.body).not.toMatch(/sig=|sig%3d/i);
    }
  }
});
