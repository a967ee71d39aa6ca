import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { JOB_ERRORS } from '../../jobs/error-codes.ts';
import type { Clock } from '../../base/clock.ts';
import { pause } from '../retry.ts';
import { killTree, signalTree, type TreeMarks } from '../process-tree.ts';
import { fetchAsset } from './fetch-asset.ts';
import type { Secrets } from './frames.ts';
import { readOutputs, watchProgress } from './job-files.ts';
import { failed, INPUT_SECRET, markOf, type Outcome } from './messages.ts';
import type { JobSurroundings, RunJob } from './running-job.ts';

/** Ends the job when the executor ends, however that comes about; part of util-linux. */
const SETPRIV = '/usr/bin/setpriv';
/** How long output may come after the job itself has ended, from what it left behind. */
const LAST_OUTPUT_MS = 500;

/**
 * Runs a program. It gets its inputs as JSON on standard input, those that were sealed among them; the
 * others also in the file that HALFWAY_INPUTS names. What it writes is its log. It may leave outputs (a JSON
 * object) in the file HALFWAY_OUTPUTS and append lines `{"step", "done"?, "total"?, "text"?}` to the
 * file HALFWAY_PROGRESS, and should end by itself when the file HALFWAY_SAFE_STOP appears. To stop it,
 * SIGTERM goes to all of its processes. When it has ended, whatever it left behind is ended too.
 */
export const runCommand: RunJob = async surroundings => {
  const { go, folder, ending, clock } = surroundings;
  const [program, ...args] = go.job.command ?? [];
  if (program === undefined || program === '') {
    return failed('RequestMalformed', 'The job names no program: command is empty');
  }
  const files = {
    inputs: join(folder, 'inputs.json'),
    outputs: join(folder, 'outputs.json'),
    progress: join(folder, 'progress.jsonl'),
    safeStop: join(folder, 'safe-stop'),
  };
  writeFileSync(files.inputs, JSON.stringify(go.inputs), { mode: 0o600 });
  const asset = await assetOf(surroundings);
  if (asset !== undefined && 'outcome' in asset) return asset.outcome;
  const hasSetpriv = existsSync(SETPRIV);
  const line = hasSetpriv ? ['--pdeathsig', 'KILL', '--', program, ...args] : args;
  const child = spawn(hasSetpriv ? SETPRIV : program, line, {
    cwd: folder,
    // A group and session of its own: its processes are told from the executor's.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...outsideEnvironment(),
      HALFWAY_RUN_ID: go.runId,
      HALFWAY_ATTEMPT: String(go.attempt),
      HALFWAY_INPUTS: files.inputs,
      HALFWAY_OUTPUTS: files.outputs,
      HALFWAY_PROGRESS: files.progress,
      HALFWAY_SAFE_STOP: files.safeStop,
      ...(asset === undefined ? {} : { HALFWAY_ASSET: asset.path }),
      ...(go.traceparent === undefined ? {} : { TRACEPARENT: go.traceparent }),
      ...Object.fromEntries([markOf(go).split('=')]),
    },
  });
  const ended = endOf(child);
  const flushed = logOf(child, surroundings, clock);
  feed(child, go.inputs, surroundings.secrets);
  const marks = { pids: child.pid === undefined ? [] : [child.pid], variable: markOf(go) };
  const stopWatching = watchProgress(files.progress, clock, surroundings.onProgress);
  obey(surroundings, files.safeStop, marks);
  const end = await ended;
  await killTree(marks, clock);
  await flushed(LAST_OUTPUT_MS);
  stopWatching();
  if (typeof end === 'string') {
    return ending.outcome(failed('AgentHasNotStarted', `Cannot start "${program}": ${end}`));
  }
  return ending.outcome(outcomeOf(end, readOutputs(files.outputs, go.limits.outputBytes)));
};

/** Where the service's own secrets are, and who starts it. */
const SERVICE_VARIABLES: ReadonlySet<string> = new Set(['CREDENTIALS_DIRECTORY', 'NOTIFY_SOCKET']);

/** The account's environment without what is meant for Halfway itself. */
export function outsideEnvironment(env = process.env): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(
    ([name]) => !name.startsWith('HALFWAY_') && !SERVICE_VARIABLES.has(name),
  );
  return Object.fromEntries(kept);
}

async function assetOf({ go, folder, ending }: JobSurroundings) {
  if (go.job.asset === undefined) return undefined;
  const abort = new AbortController();
  ending.onAsked(() => abort.abort());
  const asset = await fetchAsset(go.job.asset, folder, abort.signal);
  if (!abort.signal.aborted) return asset;
  // Asked to stop at its checkpoints before it began: it does not begin.
  const cancelled: Outcome = { status: 'Cancelled' };
  return { outcome: ending.mode === 'safe-stop' ? cancelled : ending.outcome(cancelled) };
}

type End = { readonly code: number | undefined; readonly signal: string | undefined };

/** A text: why it could not be started. */
function endOf(child: ChildProcess): Promise<End | string> {
  return new Promise(resolve => {
    child.once('error', error => {
      if (child.pid === undefined) resolve(error.message);
    });
    child.once('exit', (code, signal) =>
      resolve({ code: code ?? undefined, signal: signal ?? undefined }),
    );
  });
}

/** Returns what waits for the last of the output, up to so long. */
function logOf(
  child: ChildProcess,
  { log, secrets }: JobSurroundings,
  clock: Clock,
): (patienceMs: number) => Promise<void> {
  const ends = [child.stdout, child.stderr].map(async pipe => {
    if (pipe === null) return;
    const stream = log.stream(Object.values(secrets));
    pipe.on('data', (chunk: Buffer) => stream.write(chunk));
    await new Promise<void>(resolve => {
      pipe.once('close', resolve);
      pipe.once('error', () => resolve());
    });
    stream.end();
  });
  const all = Promise.all(ends);
  return async patienceMs => {
    const late = new AbortController();
    await Promise.race([all, pause(clock, patienceMs, late.signal)]);
    late.abort();
    // Somebody who could not be found still holds a pipe.
    child.stdout?.destroy();
    child.stderr?.destroy();
    await all;
    log.end();
  };
}

function feed(child: ChildProcess, inputs: object, secrets: Secrets): void {
  const { stdin } = child;
  if (stdin === null) return;
  // Who does not read its inputs has its reasons.
  stdin.on('error', () => undefined);
  const sealed = Object.entries(secrets)
    .filter(([name]) => name.startsWith(INPUT_SECRET))
    .map(([name, secret]) => [name.slice(INPUT_SECRET.length), secret.toString('utf8')]);
  stdin.end(JSON.stringify({ ...inputs, ...Object.fromEntries(sealed) }));
}

function obey({ ending, clock }: JobSurroundings, safeStopFile: string, marks: TreeMarks): void {
  ending.onAsked(mode => {
    if (mode === 'safe-stop') {
      try {
        writeFileSync(safeStopFile, '');
      } catch {
        // A job that removed its folder cannot be asked; the run can still be cancelled.
      }
    } else if (mode === 'stop') {
      signalTree(marks, 'SIGTERM');
    } else {
      void killTree(marks, clock);
    }
  });
}

function outcomeOf({ code, signal }: End, read: ReturnType<typeof readOutputs>): Outcome {
  const exit = code === undefined ? {} : { exitCode: code };
  if (read.type === 'too-large') {
    return failed('OutputTooLarge', JOB_ERRORS.OutputTooLarge.text, code);
  }
  const outputs =
    read.type === 'outputs' && read.outputs !== undefined ? { outputs: read.outputs } : {};
  if (signal !== undefined) {
    return { ...failed('WcfServerCrash', `The job was ended by ${signal}`), ...outputs };
  }
  if (code !== 0) return { status: 'Failed', ...exit, ...outputs };
  if (read.type === 'malformed') {
    const message = `The outputs of the job cannot be read: ${read.why}`;
    return failed('DesktopFlowMalformedMachineResponse', message, code);
  }
  return { status: 'Succeeded', ...exit, ...outputs };
}
