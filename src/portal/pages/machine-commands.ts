// Commands that people take from this page to a machine. Secrets are typed there: what stands on a command
// line is seen by everybody on that computer.

/** The server's own address, as this browser reaches it. */
function serverUrl(): string {
  return new URL('..', document.baseURI).href.replace(/\/$/, '');
}

export function registerCommand(environment: string): string {
  return `halfway machine register --endpoint ${serverUrl()} --environment ${environment} --activation-code`;
}

export function joinGroupCommand(groupId: string): string {
  return `halfway machine join-group ${groupId}`;
}

/** Where other programs post to start a run. */
export function hookUrl(environment: string, triggerId: string): string {
  return `${serverUrl()}/$api/v1/hooks/${environment}/${triggerId}`;
}
