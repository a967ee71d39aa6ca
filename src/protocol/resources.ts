// The words of Azure's resource model: what a configuration file describes and what the relay serves.

/** Rights of a SAS rule. `Manage` includes both others. */
export const RIGHTS = ['Listen', 'Send', 'Manage'] as const;
export type Right = (typeof RIGHTS)[number];

/** A named key pair with rights. Keys are used as UTF-8 text, not base64-decoded. */
export interface SasRule {
  readonly name: string;
  readonly rights: readonly Right[];
  readonly primaryKey: string;
  readonly secondaryKey?: string;
}

/** A hybrid connection as configured: the named meeting point of listeners and senders. */
export interface HybridConnectionDescription {
  /** Path below the namespace: 1 to 260 characters, may hold `/`; compared without regard to case. */
  readonly name: string;
  /** Whether senders need a token; listeners always do. */
  readonly requiresClientAuthorization: boolean;
  readonly userMetadata: string;
  readonly authorizationRules: readonly SasRule[];
}

export interface NamespaceDescription {
  readonly name: string;
  /** Host names it answers to, lower case, without port; empty: every Host. */
  readonly hosts: readonly string[];
  readonly authorizationRules: readonly SasRule[];
  readonly hybridConnections: readonly HybridConnectionDescription[];
}
