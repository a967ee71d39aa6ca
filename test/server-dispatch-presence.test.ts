import { expect, test } from 'vitest';
import { presenceStateOf } from '../src/dispatch/machine-state.ts';
import { MachinePresence } from '../src/dispatch/machine-presence.ts';
import { PRESENCE } from '../src/dispatch/records.ts';
import { HybridConnection } from '../src/relay/hybrid-connection.ts';
import { watchPresence } from '../src/server-dispatch-presence.ts';
import { controlChannel } from './support/control-channels.ts';
import { dispatchBench } from './support/dispatch.ts';
import { settled } from './support/fake-machines.ts';
import { silentLogger } from './support/silent-logger.ts';

function place(name: string, replacesListener = true): HybridConnection {
  return new HybridConnection('tests', {
    name,
    requiresClientAuthorization: true,
    userMetadata: '',
    authorizationRules: [],
    origin: 'api',
    createdAtMs: 0,
    updatedAtMs: 0,
    replacesListener,
  });
}

async function bench() {
  const dispatch = dispatchBench();
  const { clock, repository } = dispatch;
  await dispatch.addMachine('m1');
  await dispatch.setPresence('m1');
  const presence = new MachinePresence(repository, clock);
  const watched: string[] = [];
  const watch = watchPresence({
    plane: {
      in: environment => {
        watched.push(environment);
        return { presence };
      },
    },
    namespace: 'Tests',
    clock,
    log: silentLogger,
  });
  const state = async (): Promise<string> => {
    await settled();
    const known = await repository.get(PRESENCE, 'm1');
    return presenceStateOf(known?.value, clock.wallMs());
  };
  return { clock, watch, watched, state };
}

test('a machine without a listener for ten seconds is not there, until one comes', async () => {
  const { clock, watch, state } = await bench();
  const home = place('dev/m/m1');
  watch.onListener(home, 'gone');
  clock.advance(9_999);
  expect(await state()).toBe('Connected');
  clock.advance(1);
  expect(await state()).toBe('Stale');
  watch.onListener(home, 'came');
  expect(await state()).toBe('Connected');
});

test('a machine whose listener comes back in time, here or on another node, was never away', async () => {
  const { clock, watch, state } = await bench();
  const home = place('dev/m/m1');
  watch.onListener(home, 'gone');
  clock.advance(5_000);
  watch.onListener(home, 'came');
  clock.advance(20_000);
  expect(await state()).toBe('Connected');
  watch.onListener(home, 'gone');
  home.setElsewhere([controlChannel(clock).channel]);
  clock.advance(20_000);
  expect(await state()).toBe('Connected');
});

test('other hybrid connections are no machines, whatever their names', async () => {
  const { clock, watch, watched } = await bench();
  watch.onListener(place('dev/m/m1', false), 'gone');
  watch.onListener(place('orders'), 'gone');
  watch.onListener(place('dev/m/m1/x'), 'gone');
  clock.advance(20_000);
  expect(watched).toEqual([]);
});

test('stop() forgets who may have left', async () => {
  const { clock, watch } = await bench();
  watch.onListener(place('dev/m/m1'), 'gone');
  watch.stop();
  expect(clock.pendingTasks).toBe(0);
});
