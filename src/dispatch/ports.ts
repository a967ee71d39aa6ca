// What the control plane asks of the relay that it runs in.

/** Makes tokens for paths of the relay, with a rule that exists for each machine. */
export interface RelayTokens {
  /** `path`: of a hybrid connection, without the namespace. */
  mint(path: string, right: 'Listen' | 'Send', seconds: number): Promise<string>;
}

/** A machine's hybrid connection, which needs client authorisation and takes one listener. */
export interface MachineEndpoints {
  /** Safe to call when it is there. */
  create(path: string): Promise<void>;
  /** Its listener is closed with 1001. Safe to call when it is not there. */
  delete(path: string): Promise<void>;
}
