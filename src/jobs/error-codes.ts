/** What may be done about a fault; see `JOB_ERRORS`. */
export type ErrorClass =
  /** Before the start of a run: it waits, and is offered again. */
  | 'transient'
  /** The run ends. */
  | 'terminal'
  /** It may be offered once more to another machine. */
  | 'another-machine'
  /** Whether it was delivered is not known: fence and start permission decide. */
  | 'in-doubt'
  /** Whoever called may call again. */
  | 'caller-retries';

interface JobError {
  readonly httpStatus: number;
  readonly class: ErrorClass;
  /** What happened and what to do, without a full stop. */
  readonly text: string;
}

const TABLE = {
  NoCandidateMachine: terminal(
    400,
    'No machine could take the run within its queue time; see what each answered',
  ),
  GroupIsEmpty: terminal(400, 'The group has no machine; let one join it'),
  MachineGroupNotFound: terminal(404, 'There is no such machine group'),
  MachineNotFound: terminal(404, 'There is no such machine; register it again'),
  EndpointDoNotExist: terminal(404, 'The endpoint of the machine is gone; register it again'),
  NoListenerConnected: transient(
    404,
    'The machine is not connected; see that it runs and reaches the relay',
  ),
  ConnectionNotEstablished: transient(404, 'The machine did not take the offer in time'),
  ConnectionTimeout: {
    httpStatus: 404,
    class: 'in-doubt',
    text: 'The machine was asked and did not answer in time',
  },
  DnsError: transient(404, 'The name of the relay could not be resolved'),
  UIFlowAlreadyRunning: transient(429, 'The machine has no free session'),
  LocalPlaybackOrRecordingOngoing: transient(429, 'Somebody runs or records a job at the machine'),
  ExistingRecordingSession: transient(400, 'Somebody records a job at the machine'),
  AttendedUserNotLoggedIn: transient(
    400,
    'The user of an attended run is not signed in at the machine',
  ),
  AttendedUserSessionNotActive: transient(
    400,
    'The session of the user is locked or disconnected; unlock it',
  ),
  SessionExistsForTheUserWhenUnattended: transient(
    400,
    'The user has a session at the machine; sign it out',
  ),
  Win10AlreadyHasActiveSession: transient(
    400,
    'Another user has a session, and this system allows one',
  ),
  TooManyActiveSessions: transient(400, 'The machine has as many sessions as it may have'),
  UnattendedUserSessionLocked: transient(
    400,
    'The user has a locked session at the machine; sign it out',
  ),
  UnattendedUserSessionDisconnected: transient(
    400,
    'The user has a disconnected session at the machine; sign it out',
  ),
  WindowsIdentityIncorrect: terminal(401, 'User name or password is wrong; correct the connection'),
  SessionCreationInvalidCredentials: terminal(
    400,
    'User name or password is wrong; correct the connection',
  ),
  AccountLockedOut: terminal(400, 'The account is locked'),
  LogonTypeNotGranted: terminal(400, 'The account may not sign in at the machine'),
  RdpPermissionNotGranted: terminal(400, 'The account may not sign in to a remote session'),
  RDPIsNotEnabled: terminal(400, 'Remote sessions are switched off at the machine'),
  UIFlowServiceNoRdpPermissions: terminal(400, 'The machine service may not make sessions'),
  SessionCreationError: anotherMachine('The session could not be made'),
  SessionCreationWinLogonFailure: anotherMachine(
    'The session could not be made: signing in failed',
  ),
  SessionNotFound: anotherMachine('The session is not there'),
  SessionNotFoundAfterCreation: anotherMachine('The session was made and is not there'),
  SessionHasLoggedOff: terminal(400, 'The session was signed out during the run'),
  SessionHasLoggedOffWithMaxIdleTime: terminal(400, 'The session was ended for having been idle'),
  MaxRDSessionDurationReached: terminal(
    400,
    'The session reached the longest time that the system allows',
  ),
  UIFlowAgentNotAvailable: transient(400, 'The executor cannot be started now'),
  UIFlowAgentLauncherServiceIsNotRunning: transient(400, 'What starts executors is not running'),
  AgentHasNotStarted: transient(500, 'The executor did not start'),
  AgentNotReachable: terminal(500, 'The executor was lost during the run'),
  UnresponsiveAgent: terminal(500, 'The executor did not answer during the run'),
  WcfServerCrash: terminal(500, 'The executor broke down'),
  DesktopFlowMalformedMachineResponse: terminal(500, 'The answer of the machine cannot be read'),
  TotalChunksMismatch: terminal(400, 'What was uploaded in parts does not fit its digest'),
  DesktopFlowsActionTimeout: terminal(400, 'The run took longer than it may'),
  DesktopFlowsActionThrottled: callerRetries(
    'Too many runs of this connection in a minute; try again later',
  ),
  QueueFull: callerRetries('As many runs wait as may wait; try again later'),
  JobSchemaTooNew: {
    httpStatus: 400,
    class: 'another-machine',
    text: 'The machine service is too old for this job; update it',
  },
  UnattendedUnsupportedWithOldConnection: terminal(
    403,
    'Unattended runs need a connection with credentials',
  ),
  UnableToCallCrlEndpoint: transient(400, 'The revocation list cannot be fetched; open port 80'),
  OnPremiseDataGatewayNotAvailable: transient(502, 'The gateway is not there'),
  AuthTokenNotYetValid: terminal(401, 'The clocks are too far apart; set them by a time service'),
  UnallowedTenantForConnectWithSignIn: terminal(
    403,
    'This tenant is not on the allow list of the machine',
  ),
  CredentialCannotBeOpened: terminal(400, 'The credentials are damaged; enter them again'),
  CredentialContextMismatch: terminal(
    400,
    'The credentials were sealed for something else; enter them again',
  ),
  CredentialVersionStale: terminal(400, 'The credentials are older than ones the machine has seen'),
  KeyIdUnknown: terminal(
    400,
    'The credentials were sealed to a key that the machine does not have; enter them again',
  ),
  MachineIdentityConflict: terminal(
    409,
    'Two computers use one registration; register each of them',
  ),
  LeaseLost: terminal(409, 'The run has been given to somebody else, or has ended'),

  // Ours, of the control plane.
  AccessDenied: terminal(403, 'The role of the caller does not allow this'),
  CallbackUrlRefused: terminal(400, 'The callback address must be https, with a public host name'),
  ConnectionDeleted: terminal(400, 'The connection was deleted'),
  ConnectionNotFound: terminal(404, 'There is no such connection'),
  IdempotencyKeyReused: terminal(422, 'The same Idempotency-Key came with another body'),
  KeyInUse: terminal(
    409,
    'Connections are still sealed to the key; have them sealed anew, or accept that they are suspended',
  ),
  MachineInMaintenance: transient(409, 'The machine is in maintenance'),
  MachineRequiresGroupKey: transient(409, 'The machine has not proved the key of its group'),
  NotFound: terminal(404, 'There is nothing of this name'),
  OfferSignatureInvalid: terminal(
    400,
    'The offer is not signed by the control plane that the machine knows',
  ),
  OutputTooLarge: terminal(400, 'The outputs are larger than they may be'),
  PlaintextCredentialRefused: terminal(
    400,
    'Credentials must be sealed before they are sent; use the portal, the command line or the library',
  ),
  PreconditionFailed: terminal(412, 'The record was changed meanwhile; read it again'),
  PreconditionRequired: terminal(428, 'If-Match is required: send the ETag that was read'),
  QuotaReached: terminal(409, 'There are as many as there may be'),
  RequestMalformed: terminal(400, 'The request is not valid; see errors'),
  RunStateConflict: terminal(409, 'The run is not in a state that allows this'),
  StartInterrupted: transient(400, 'The machine stopped before it started the run'),
  StoreUnavailable: callerRetriesWith(
    503,
    'Records cannot be written now; nothing was changed or it may have been: try again with the same Idempotency-Key',
  ),
  TriggerThrottled: callerRetries('Too many requests of this trigger in a minute; try again later'),
  TokenInvalid: terminal(401, 'The token is missing, wrong or expired'),
  VersionConflict: terminal(409, 'The record was changed at the same time; try again'),
} as const satisfies Record<string, JobError>;

function terminal(httpStatus: number, text: string): JobError {
  return { httpStatus, class: 'terminal', text };
}

function transient(httpStatus: number, text: string): JobError {
  return { httpStatus, class: 'transient', text };
}

function anotherMachine(text: string): JobError {
  return { httpStatus: 400, class: 'another-machine', text };
}

function callerRetries(text: string): JobError {
  return callerRetriesWith(429, text);
}

function callerRetriesWith(httpStatus: number, text: string): JobError {
  return { httpStatus, class: 'caller-retries', text };
}

/** A code of the domain; those that users of the modelled product search for have its spelling. */
export type JobErrorCode = keyof typeof TABLE;

/** Every way that job dispatch says no. Source: job-dispatch.md section 7.8. */
export const JOB_ERRORS: Readonly<Record<JobErrorCode, JobError>> = TABLE;

export function isJobErrorCode(text: string): text is JobErrorCode {
  return Object.hasOwn(JOB_ERRORS, text);
}
