import { signal } from '@preact/signals';

// Where in the page one is, kept behind `#`, so that every place has an address and the server needs none.
// `#/<environment>/<page>/<id>?<query>`

export const PAGES = [
  'machines',
  'groups',
  'connections',
  'runs',
  'schedules',
  'triggers',
  'codes',
  'audit',
] as const;
export type PageName = (typeof PAGES)[number];

export interface Route {
  readonly environment: string | undefined;
  readonly page: PageName;
  /** Of one record, or `new`. */
  readonly id: string | undefined;
  readonly query: URLSearchParams;
}

export const route = signal<Route>(parse(location.hash));
addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [environment, page, id] = path.split('/').map(part => decodeURIComponent(part));
  return {
    environment: environment === '' ? undefined : environment,
    page: PAGES.find(name => name === page) ?? 'machines',
    id: id === '' ? undefined : id,
    query: new URLSearchParams(query),
  };
}

export function href(
  environment: string,
  page: PageName,
  id?: string,
  query: Readonly<Record<string, string | undefined>> = {},
): string {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [[name, value]],
  );
  const search = given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
  const path = [environment, page, ...(id === undefined ? [] : [id])].map(encodeURIComponent);
  return `#/${path.join('/')}${search}`;
}

export function go(to: string): void {
  location.hash = to;
}
