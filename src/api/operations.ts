import { ACCOUNT_OPERATIONS } from './account-operations.ts';
import { AGENT_OPERATIONS } from './agent-operations.ts';
import { AUTOMATION_OPERATIONS } from './automation-operations.ts';
import { CONNECTION_OPERATIONS } from './connection-operations.ts';
import { ENVIRONMENT_OPERATIONS } from './environment-operations.ts';
import { GROUP_OPERATIONS } from './group-operations.ts';
import { KEY_OPERATIONS } from './key-operations.ts';
import { MACHINE_OPERATIONS } from './machine-operations.ts';
import type { Operation } from './operation.ts';
import { FEED_OPERATIONS } from './run-feeds.ts';
import { RUN_OPERATIONS } from './run-operations.ts';
import { SERVICE_OPERATIONS } from './service-operations.ts';

/** All that the REST interface can do: add operations here and nowhere else. */
export const OPERATIONS: readonly Operation[] = [
  ...SERVICE_OPERATIONS,
  ...ENVIRONMENT_OPERATIONS,
  ...ACCOUNT_OPERATIONS,
  ...MACHINE_OPERATIONS,
  ...GROUP_OPERATIONS,
  ...KEY_OPERATIONS,
  ...CONNECTION_OPERATIONS,
  ...RUN_OPERATIONS,
  ...FEED_OPERATIONS,
  ...AUTOMATION_OPERATIONS,
  ...AGENT_OPERATIONS,
];
