// Loaded before a program (node --import), it makes the program's monotonic clock and its timers so many times faster as
// the variable QUICK_TIME says. The wall clock is the work of wrong-clock.c, so that native code agrees with it.
const times = Number(process.env['QUICK_TIME'] ?? '1');
const now = performance.now.bind(performance);
const { setTimeout: after, setInterval: every } = globalThis;

Object.defineProperty(performance, 'now', { value: () => now() * times, configurable: true });
globalThis.setTimeout = Object.assign(
  (task, delayMs = 0, ...rest) => after(task, delayMs / times, ...rest),
  after,
);
globalThis.setInterval = Object.assign(
  (task, delayMs = 0, ...rest) => every(task, delayMs / times, ...rest),
  every,
);
