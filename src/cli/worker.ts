import { EXIT, usageError, type ExitCode } from './command-error.ts';
import { wantsColour, type CommandContext } from './context.ts';

/** A worker of `halfway serve --workers`: started by its parent, which tells it everything over their line. */
export async function runWorker(context: CommandContext): Promise<ExitCode> {
  if (process.send === undefined) {
    throw usageError('Cannot run a worker by itself: `halfway serve --workers N` starts them');
  }
  // A terminal signals the whole group of processes; what a worker does, its parent says.
  context.onSignal(['SIGTERM', 'SIGINT', 'SIGHUP'], () => {});
  const [{ processLine }, { runAsWorker }] = await Promise.all([
    import('../workers/line.ts'),
    import('../server-worker.ts'),
  ]);
  const hasDrained = await runAsWorker(processLine(process), {
    clock: context.clock,
    openLog: async config => {
      const log = await context.openLog(config, wantsColour(context, context.stdout));
      context.onBug(bug => log.fatal({ err: bug }, 'uncaught error'));
      return log;
    },
  });
  return hasDrained ? EXIT.ok : EXIT.failed;
}
