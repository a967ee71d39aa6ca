/**
 * `halfway/dispatch`: job dispatch from a program. Credentials and secret inputs are sealed here, to the key of the
 * machine or group that they are for, before anything is sent.
 */
export { DispatchClient } from './dispatch-client.ts';
export type { DispatchOptions } from './dispatch-client.ts';
export { DispatchError } from './dispatch-error.ts';
export type { FieldFault } from './dispatch-error.ts';
export type { ApiCall } from './api-exchange.ts';
export { RecordCollection } from './record-collection.ts';
export type { Creation, Query, RecordPage } from './record-collection.ts';
export { RunCollection } from './run-collection.ts';
export type { LogPiece, Watching } from './run-collection.ts';
export { isOver } from './representations.ts';
export type {
  ActivationCodeView,
  AuditEntryView,
  ConnectionView,
  EnvironmentView,
  GroupView,
  MachineView,
  RunEvent,
  RunOutputs,
  RunProgress,
  RunView,
  ScheduleView,
  TargetRef,
  TokenView,
  TriggerView,
  UserView,
} from './representations.ts';
export { accountOf, sealCredentials, sealInput } from './sealing.ts';
export type { TargetKey } from './sealing.ts';
export type { Credential, Envelope } from '../crypto/envelope.ts';
