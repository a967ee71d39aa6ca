import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import {
  connectionSchema,
  groupSchema,
  listOf,
  machineSchema,
  type Connection,
  type Group,
  type Machine,
  type Target,
} from './api/records.ts';
import type { Session } from './session.ts';
import { useLive } from './ui/live.ts';

/** What every page below the frame knows: who looks, and at which environment. */
export interface Place extends Session {
  readonly environment: string;
  /** Of the environment in the API. */
  readonly path: string;
  readonly directory: Directory;
}

/** Machines, groups and connections by id: lists name them by what people call them. */
export interface Directory {
  readonly isLoaded: boolean;
  readonly machines: ReadonlyMap<string, Machine>;
  readonly groups: ReadonlyMap<string, Group>;
  readonly connections: ReadonlyMap<string, Connection>;
  readonly reload: () => void;
}

/** As many as one page of the API has; those beyond are shown by their ids. */
const DIRECTORY_MAX = 200;
const DIRECTORY_EVERY_MS = 10_000;

const PlaceContext = createContext<Place | undefined>(undefined);
export const PlaceProvider = PlaceContext.Provider;

export function usePlace(): Place {
  const place = useContext(PlaceContext);
  if (place === undefined) throw new Error('a page was drawn outside of the frame');
  return place;
}

export function useDirectory({ api }: Session, path: string): Directory {
  const query = { limit: DIRECTORY_MAX };
  const { value, reload } = useLive(
    `directory ${path}`,
    signal =>
      Promise.all([
        api.get(listOf(machineSchema), `${path}/machines`, { query, signal }),
        api.get(listOf(groupSchema), `${path}/groups`, { query, signal }),
        api.get(listOf(connectionSchema), `${path}/connections`, { query, signal }),
      ]),
    DIRECTORY_EVERY_MS,
  );
  const [machines, groups, connections] = value ?? [];
  return {
    isLoaded: value !== undefined,
    machines: byId(machines?.items),
    groups: byId(groups?.items),
    connections: byId(connections?.items),
    reload,
  };
}

function byId<Item extends { readonly id: string }>(
  items: readonly Item[] | undefined,
): ReadonlyMap<string, Item> {
  return new Map((items ?? []).map(item => [item.id, item]));
}

/** What people call a target, or the beginning of its id. */
export function targetName({ machines, groups }: Directory, { kind, id }: Target): string {
  return (kind === 'machine' ? machines.get(id) : groups.get(id))?.name ?? shortId(id);
}

/** Envelopes are bound to it. Undefined while the directory is not there. */
export function tenantOf(
  { machines, groups }: Directory,
  { kind, id }: Target,
): string | undefined {
  return (kind === 'machine' ? machines.get(id) : groups.get(id))?.tenant;
}

export function connectionName({ connections }: Directory, id: string): string {
  return connections.get(id)?.name ?? shortId(id);
}

export function machineName({ machines }: Directory, id: string): string {
  return machines.get(id)?.name ?? shortId(id);
}

/** A random UUID. Made here, so that asking twice makes one. Browsers make their own on https pages alone. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('');
  // Version 4 (random), variant 10.
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
}

export function shortId(id: string): string {
  return id.length > 12 ? `${id.slice(0, 8)}…` : id;
}

export function connectionsTo({ connections }: Directory, target: Target): readonly Connection[] {
  return [...connections.values()].filter(
    connection => connection.target.kind === target.kind && connection.target.id === target.id,
  );
}
