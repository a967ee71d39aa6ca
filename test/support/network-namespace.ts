import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A computer with a network of its own, of which a firewall lets one port of one address be reached and nothing else. */
export interface FirewalledNetwork extends Disposable {
  /** What is on this side of the wire: its address here, which is all that is to be seen from there. */
  readonly address: string;
  /** To put before a program that is to run there. */
  readonly behind: readonly string[];
  /** Runs a program there; its standard output. */
  run(...argv: readonly string[]): Promise<string>;
  /** Opens everything: what was unreachable for the firewall alone is reachable then. */
  openAll(): void;
}

/**
 * Fails with what to do about it where it cannot be made. The firewall is one of rules for routes, which each kernel
 * has: TCP to `port` of `address` finds its way, all else is prohibited. `name` stands for `address` there.
 */
export function firewalledNetwork(name: string, port: number): FirewalledNetwork {
  if (process.getuid?.() !== 0) {
    throw new Error('This test makes a network namespace with ip: run it as root (sudo npm test)');
  }
  const space = `hw${randomBytes(4).toString('hex')}`;
  // Of the range for benchmarks (RFC 2544), which is nobody's network.
  const [a, b] = randomBytes(2);
  const net = `198.${18 + ((a ?? 0) & 1)}.${b}`;
  const [address, inner] = [`${net}.1`, `${net}.2`];
  const settings = join('/etc/netns', space);
  const there = (line: string): void => ip(`netns exec ${space} ip ${line}`);
  const dispose = (): void => {
    // With it go its end of the wire and the rules.
    ip(`netns del ${space}`);
    rmSync(settings, { recursive: true, force: true });
  };
  ip(`netns add ${space}`);
  try {
    mkdirSync(settings, { recursive: true });
    writeFileSync(join(settings, 'hosts'), `127.0.0.1 localhost\n${address} ${name}\n`);
    ip(`link add ${space}a type veth peer name ${space}b netns ${space}`);
    ip(`addr add ${address}/30 dev ${space}a`);
    ip(`link set ${space}a up`);
    there('link set lo up');
    there(`addr add ${inner}/30 dev ${space}b`);
    there(`link set ${space}b up`);
    there(`rule add pref 10 to ${address} ipproto tcp dport ${port} lookup main`);
    there('rule add pref 20 prohibit');
    there('-6 rule add pref 20 prohibit');
  } catch (error) {
    dispose();
    throw error;
  }
  const behind = ['ip', 'netns', 'exec', space];
  return {
    address,
    behind,
    async run(...argv) {
      const { stdout } = await promisify(execFile)('ip', ['netns', 'exec', space, ...argv]);
      return stdout;
    },
    openAll: () => there('rule del pref 20'),
    [Symbol.dispose]: dispose,
  };
}

function ip(line: string): void {
  try {
    execFileSync('ip', line.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    throw new Error(`ip ${line} failed: is iproute2 installed (apt-get install iproute2)?`, {
      cause: error,
    });
  }
}
