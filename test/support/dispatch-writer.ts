// A process that takes steps one after the other until it is killed, and says of each that it was answered.
import { openSqliteDispatchStore } from '../../src/store/sqlite-dispatch-store.ts';

const store = openSqliteDispatchStore(process.argv[2] ?? '');
for (let number = 1; ; number += 1) {
  await store.step('tests', {
    conditions: [],
    puts: [{ key: { kind: 'run', id: `${number}` }, text: `${number}` }],
    adds: [{ index: 'q', member: `${number}`, score: number }],
    appends: [{ log: 'events', text: `${number}`, keep: 100_000 }],
  });
  process.stdout.write(`${number}\n`);
}
