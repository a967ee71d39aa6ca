// Limits of job dispatch that both ends keep. Source: job-dispatch.md sections 7.7, 9.4 and 15.

export const KIBIBYTE = 1024;
export const INPUT_BYTES_MAX = 2 * 1024 * KIBIBYTE;
export const OUTPUT_BYTES_MAX = 32 * 1024 * KIBIBYTE;
export const ERROR_MESSAGE_CHARS_MAX = 10_000;
export const INNER_ERROR_CHARS_MAX = 100_000;
/** Bytes of plain log text in one chunk. */
export const LOG_CHUNK_BYTES_MAX = 256 * KIBIBYTE;
/** Bytes of a run's log that are kept, unless the server says less. */
export const LOG_BYTES_MAX = 100 * 1024 * KIBIBYTE;

export const MACHINES_PER_GROUP_MAX = 50;
export const UNATTENDED_BOTS_MAX = 10;
export const WAITING_RUNS_MAX = 500;
export const RUNS_PER_CONNECTION_AND_MINUTE_MAX = 70;

export const QUEUE_SECONDS_DEFAULT = 12 * 3600;
export const QUEUE_SECONDS_MIN = 60;
export const RUN_SECONDS_DEFAULT = 2 * 3600;
export const RUN_SECONDS_MAX = 24 * 3600;

/** How long an assignment holds without a start, and a start without a renewal. */
export const ASSIGNED_LEASE_MS = 60_000;
export const STARTED_LEASE_MS = 120_000;
export const RENEW_INTERVAL_MS = 30_000;
/** Renewals are early or late by up to this share. */
export const RENEW_JITTER = 0.2;
/** A run is called lost so long after its lease has ended. */
export const LOST_GRACE_MS = 60_000;
/** A result of a lost run counts for so long. */
export const RECOVERY_MS = 24 * 3600 * 1_000;
export const OFFER_ANSWER_MS = 25_000;
/** Between the request to end and the end of the process tree. */
export const CANCEL_GRACE_SECONDS = 10;

export const STALE_AFTER_MS = 75_000;
export const DISCONNECTED_AFTER_MS = 120_000;
/** Clocks may be apart by so much before tokens and assertions fail. */
export const CLOCK_SKEW_MS_MAX = 300_000;

export const ASSERTION_SECONDS_MAX = 300;
export const MACHINE_TOKEN_SECONDS = 15 * 60;
export const LISTEN_TOKEN_SECONDS = 60 * 60;
/** Tokens are renewed after this share of their life. */
export const RENEW_TOKEN_AFTER = 2 / 3;
/** The journal keeps what is over for at least so long. */
export const JOURNAL_KEEP_MS = 7 * 24 * 3600 * 1_000;
