/** A TCP socket of the kernel's table: `/proc/net/tcp` or `/proc/net/tcp6`. Source: proc_net_tcp(5). */
export interface TcpSocket {
  readonly localPort: number;
  readonly remotePort: number;
  readonly isListening: boolean;
  readonly uid: number;
  readonly inode: number;
}

const LISTEN = '0A';

/** The sockets in a table's text. */
export function tcpSockets(table: string): readonly TcpSocket[] {
  return table.split('\n').flatMap(line => {
    const [at = '', local = '', remote = '', state, , , , uid, , inode] = line.trim().split(/\s+/);
    if (!/^\d+:$/.test(at)) return [];
    return [
      {
        localPort: portOf(local),
        remotePort: portOf(remote),
        isListening: state === LISTEN,
        uid: Number(uid),
        inode: Number(inode),
      },
    ];
  });
}

function portOf(place: string): number {
  return Number.parseInt(place.slice(place.indexOf(':') + 1), 16);
}

/** A counter of `/proc/net/snmp`, such as `Tcp` `PassiveOpens`. */
export function kernelCounter(snmp: string, group: string, name: string): number {
  const [names = [], values = []] = snmp
    .split('\n')
    .filter(line => line.startsWith(`${group}: `))
    .map(line => line.split(' '));
  const at = names.indexOf(name);
  if (at === -1) throw new Error(`The kernel counts no ${group} ${name}`);
  return Number(values[at]);
}
