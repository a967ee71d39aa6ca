import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import type { Offer } from '../../src/jobs/messages.ts';
import { OpeningError, type CredentialOpener } from '../../src/machine/ports.ts';
import { SimulatedHost } from '../../src/machine/session-hosts/simulated-host.ts';
import { controlBench, noOpener, startMachine } from '../support/machine-runs.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

const PASSWORD = 'Canary-p4ssw0rd/ä';
const STARS = '*'.repeat(Buffer.byteLength(PASSWORD));
const INPUT = 'canary-input "5ecret"';
const ENVELOPE = {
  v: 1,
  suite: 'p256',
  kid: 'k'.repeat(43),
  enc: 'e'.repeat(87),
  ct: 'c'.repeat(64),
} as const;

const sealed = (version = 1): Partial<Offer> => ({
  connection: { id: 'c1', version, targetKind: 'machine', targetId: 'm1' },
  credential: ENVELOPE,
});

function opener(user: string): CredentialOpener & { readonly handed: Buffer[] } {
  const handed: Buffer[] = [];
  const hand = (text: string): Buffer => {
    const secret = Buffer.from(text);
    handed.push(secret);
    return secret;
  };
  return {
    handed,
    open: () => Promise.resolve({ user, password: hand(PASSWORD) }),
    openInputs: () => Promise.resolve({ apiKey: hand(INPUT) }),
  };
}

test('secrets come to the job by its standard input alone, and to nobody by its log', async () => {
  const control = await controlBench();
  const secrets = opener(userInfo().username);
  await using machine = await startMachine(control, { opener: secrets });
  const offer = await control.submitted(
    {
      command: [
        '/bin/sh',
        '-c',
        'read -r line; echo "got $line"; printf "Canary-p4ss"; sleep 0.3; echo "w0rd/ä"; sleep 1; exit 0',
      ],
    },
    { ...sealed(), inputs: { plain: 'x' }, sealedInputs: { apiKey: ENVELOPE } },
  );
  await machine.door.offer(offer);
  await until('the log', async () => (await control.logOf(offer.runId)).includes('got'), 20_000);
  const everywhere = [...processTexts(), ...fileTexts(machine.folder)];
  // The search finds what it should find.
  expect(everywhere.some(text => text.includes('HALFWAY_RUN_ID='))).toBe(true);
  expect(everywhere.some(text => text.includes(offer.runId))).toBe(true);
  for (const secret of [PASSWORD, INPUT, JSON.stringify(INPUT).slice(1, -1)]) {
    expect(everywhere.filter(text => text.includes(secret))).toEqual([]);
  }
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(control.logOf(offer.runId)).resolves.toBe(
    `got {"plain":"x","apiKey":"***"}\n${STARS}\n`,
  );
  expect(secrets.handed.length).toBeGreaterThan(1);
  for (const secret of secrets.handed) expect(secret.every(byte => byte === 0)).toBe(true);
});

/** Says its password in two halves, the second when the file `go` is there. */
function tellTale(folder: string): readonly string[] {
  const script = 'printf "a Canary-p4ss"; until [ -e "$0" ]; do sleep 0.05; done; echo "w0rd/ä b"';
  return ['/bin/sh', '-c', script, join(folder, 'go')];
}

test('a password is masked in the log of a run that is taken up again, though it was cut', async () => {
  using folder = someFolder();
  const control = await controlBench();
  const secrets = opener(userInfo().username);
  await using machine = await startMachine(control, { opener: secrets });
  const offer = await control.submitted({ command: [...tellTale(folder.path)] }, sealed());
  await machine.door.offer(offer);
  const log = () => control.logOf(offer.runId);
  await until('the first half', async () => (await log()) === 'a ', 20_000);
  await machine.restart();
  writeFileSync(join(folder.path, 'go'), '');
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(log()).resolves.toBe(`a ${STARS} b\n`);
  await until('the end of the run', () => machine.door.runs().length === 0);
  for (const secret of secrets.handed) expect(secret.every(byte => byte === 0)).toBe(true);
});

test('a log whose password cannot be opened any more after a restart is withheld from there on', async () => {
  using folder = someFolder();
  const control = await controlBench();
  const secrets = opener(userInfo().username);
  let isOpen = true;
  await using machine = await startMachine(control, {
    opener: {
      ...noOpener,
      open: offer =>
        isOpen ? secrets.open(offer) : Promise.reject(new OpeningError('CredentialCannotBeOpened')),
    },
  });
  const offer = await control.submitted({ command: [...tellTale(folder.path)] }, sealed());
  await machine.door.offer(offer);
  const log = () => control.logOf(offer.runId);
  await until('the first half', async () => (await log()) === 'a ', 20_000);
  isOpen = false;
  await machine.restart();
  writeFileSync(join(folder.path, 'go'), '');
  await expect(control.ended(offer.runId)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(log()).resolves.toMatch(/^a \n\[halfway\] the rest of the log is withheld: .+\n$/);
});

test.each(['CredentialCannotBeOpened', 'CredentialContextMismatch', 'KeyIdUnknown'] as const)(
  'credentials that stay shut (%s) fail the run, and no sign-in is tried',
  async code => {
    const control = await controlBench();
    const host = watchedHost();
    await using machine = await startMachine(control, {
      host,
      opener: { ...noOpener, open: () => Promise.reject(new OpeningError(code)) },
    });
    const offer = await control.submitted({ kind: 'probe' }, sealed());
    await expect(machine.door.offer(offer)).resolves.toMatchObject({ type: 'accept' });
    await expect(control.ended(offer.runId)).resolves.toMatchObject({
      state: 'Failed',
      fault: { code },
    });
    expect(host.launches).toBe(0);
  },
);

test('credentials older than ones that were opened before are refused, also after a restart', async () => {
  const control = await controlBench();
  const host = watchedHost();
  await using machine = await startMachine(control, { host, opener: opener('ann') });
  const run = async (version: number) => {
    const offer = await control.submitted({ kind: 'probe' }, sealed(version));
    await machine.door.offer(offer);
    const { state, fault } = await control.ended(offer.runId);
    return fault?.code ?? state;
  };
  await expect(run(4)).resolves.toBe('Succeeded');
  await machine.restart();
  await expect(run(3)).resolves.toBe('CredentialVersionStale');
  await expect(run(4)).resolves.toBe('Succeeded');
  expect(host.launches).toBe(2);
});

test('a process host takes no credentials of another account', async () => {
  const control = await controlBench();
  await using machine = await startMachine(control, { opener: opener('somebody-else') });
  const offer = await control.submitted({ kind: 'probe' }, sealed());
  await machine.door.offer(offer);
  const { fault } = await control.ended(offer.runId);
  expect(fault?.code).toBe('WindowsIdentityIncorrect');
});

function watchedHost(): SimulatedHost & { launches: number } {
  const host = new SimulatedHost(() => ({}));
  const launch = host.launch.bind(host);
  const watched = Object.assign(host, { launches: 0 });
  watched.launch = request => {
    watched.launches += 1;
    return launch(request);
  };
  return watched;
}

/** Arguments and environment of every process that is not this one. */
function processTexts(): readonly string[] {
  return (
    readdirSync('/proc')
      .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
      .flatMap(name => ['cmdline', 'environ'].map(file => textOf(`/proc/${name}/${file}`)))
      // The script that the test gave it.
      .map(text => text.replaceAll(/printf "Canary-p4ss".*/g, ''))
  );
}

function fileTexts(folder: string): readonly string[] {
  return (
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      // What the job itself writes down.
      .filter(name => basename(name) !== 'log')
      .map(name => textOf(join(folder, name)))
  );
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
