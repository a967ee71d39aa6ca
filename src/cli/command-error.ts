/** Exit codes; scripts rely on them. 64 and 78 are those of sysexits.h. */
export const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a message for people on standard error: what is wrong, and what to do next. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The command was called in a way that cannot work. */
export function usageError(message: string): CommandError {
  return new CommandError(message, EXIT.usage);
}

/** The text of whatever was thrown; of errors of sockets and files, what their code means to people. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // A dial that tried several addresses fails with all their errors and no text of its own.
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return PLAIN_WORDS[code] ?? error.message;
}

const PLAIN_WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there (connection refused)',
  ENOTFOUND: 'its name cannot be resolved',
  EAI_AGAIN: 'its name cannot be resolved at the moment',
  ECONNRESET: 'the connection was reset',
  ETIMEDOUT: 'it did not answer in time',
  EHOSTUNREACH: 'there is no route to it',
  EPROTO: 'it does not speak TLS there; a relay without TLS is written Endpoint=http://…',
  ERR_SSL_WRONG_VERSION_NUMBER:
    'it does not speak TLS there; a relay without TLS is written Endpoint=http://…',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'its certificate is self-signed; name it in NODE_EXTRA_CA_CERTS to trust it',
  SELF_SIGNED_CERT_IN_CHAIN:
    'its certificate comes from an unknown authority; name that in NODE_EXTRA_CA_CERTS to trust it',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'its certificate comes from an unknown authority; name that in NODE_EXTRA_CA_CERTS to trust it',
};
