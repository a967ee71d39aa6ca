/** What is looked at, in this order; a check that needs another is not tried when that has failed. */
export const CHECKS = {
  name: { title: 'name', needs: [] },
  tcp: { title: 'TCP', needs: ['name'] },
  proxy: { title: 'proxy', needs: ['tcp'] },
  tls: { title: 'TLS', needs: ['proxy'] },
  clock: { title: 'clock', needs: ['tls'] },
  health: { title: 'health', needs: ['tls'] },
  websocket: { title: 'WebSocket', needs: ['tls'] },
  poll: { title: 'long-polling', needs: ['tls'] },
  token: { title: 'token', needs: ['tls'] },
  rights: { title: 'rights', needs: ['token'] },
  listener: { title: 'listener', needs: ['token'] },
} as const satisfies Record<string, { readonly title: string; readonly needs: readonly string[] }>;

export type CheckName = keyof typeof CHECKS;

/** `not offered`: the other end has no such thing, which is no fault; `not tried`: it could not be. */
export type Outcome = 'OK' | 'warning' | 'failed' | 'not offered' | 'not tried';

export interface Finding {
  readonly outcome: Outcome;
  /** What is so, in plain words. */
  readonly text: string;
  /** What to do about it. */
  readonly advice?: string;
}

export function ok(text: string): Finding {
  return { outcome: 'OK', text };
}

export function warning(text: string, advice?: string): Finding {
  return { outcome: 'warning', text, ...(advice === undefined ? {} : { advice }) };
}

export function failed(text: string, advice?: string): Finding {
  return { outcome: 'failed', text, ...(advice === undefined ? {} : { advice }) };
}

export function notOffered(text: string): Finding {
  return { outcome: 'not offered', text };
}

export function notTried(text: string): Finding {
  return { outcome: 'not tried', text };
}
