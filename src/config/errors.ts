/** The configuration cannot be used. Ends the program with exit code 78; nothing was started. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Every fault found, one sentence each, with its place. */
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`Cannot load config:\n${faults.map(fault => `  ${fault}`).join('\n')}`);
    this.faults = faults;
  }
}

/**
 * The configuration is well formed, but this machine does not let us start: a port is in use, a certificate
 * cannot be read. The message says what to do. Ends the program with exit code 1.
 */
export class StartError extends Error {
  override readonly name = 'StartError';
}
