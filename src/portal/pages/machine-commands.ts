// Commands that people take from this page to a machine. Secrets are typed there: what stands on a command
// line is seen by everybody on that computer.

/** The server's own address, as this browser reaches it, or at another `host[:port]`. */
function serverUrl(otherHost?: string): string {
  const { protocol, host, pathname } = new URL('..', document.baseURI);
  return `${protocol}//${otherHost ?? host}${pathname}`.replace(/\/$/, '');
}

/** `machineHost`: where machines register, when this page has a host of its own. */
export function registerCommand(environment: string, machineHost: string | undefined): string {
  return `halfway machine register --endpoint ${serverUrl(machineHost)} --environment ${environment} --activation-code`;
}

export function joinGroupCommand(groupId: string): string {
  return `halfway machine join-group ${groupId}`;
}

/** Where other programs post to start a run. */
export function hookUrl(environment: string, triggerId: string): string {
  return `${serverUrl()}/$api/v1/hooks/${environment}/${triggerId}`;
}
