import { expect, test } from 'vitest';
import {
  RelayMachine,
  RestCaller,
  connectionTo,
  startRun,
  stateOf,
} from '../support/relay-machine.ts';
import { startRelay, type RelayOptions } from '../support/relay.ts';
import { until } from '../support/within.ts';

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';

async function dispatching(options: RelayOptions = {}) {
  const relay = await startRelay({ dispatch: true, apiToken: TOKEN, ...options });
  const admin = new RestCaller(relay.httpUrl, TOKEN);
  await admin.get('POST', '/environments', { id: 'dev' });
  return { relay, admin };
}

async function over(admin: RestCaller, runId: string): Promise<void> {
  await until('the run is over', async () => (await stateOf(admin, runId)) === 'Succeeded');
}

test('a run goes from the REST interface through the relay to its machine, and its result comes back', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const connectionId = await connectionTo(admin, machine.id);
  const runId = await startRun(admin, connectionId);
  await over(admin, runId);
  expect(machine.offers.map(offer => offer.runId)).toEqual([runId]);
  expect(await relay.metric('halfway_dispatch_offers_total{outcome="accepted"}')).toBe(1);
  expect(await relay.metric('halfway_dispatch_latency_seconds_count')).toBe(1);
  expect(await relay.metric('halfway_dispatch_runs_ended_total{state="Succeeded",code=""}')).toBe(
    1,
  );
  expect(await relay.metric('halfway_active_listeners{hybrid_connection="dev/m/*"}')).toBe(1);
  const echo = await admin.call('POST', `/environments/dev/machines/${machine.id}:echo`, {});
  expect(echo.status).toBe(200);
});
