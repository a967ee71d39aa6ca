import { createRequire } from 'node:module';

// The values of uWebSockets.js come from here, its types from the package itself: the limit below works only when it
// is set before the addon loads.

type Uws = typeof import('uWebSockets.js');

declare module 'uWebSockets.js' {
  interface TemplatedApp {
    /** Host together with options: the addon takes it, its own types leave it out. */
    listen(
      host: RecognizedString,
      port: number,
      options: number,
      onListen: (socket: us_listen_socket | false) => void,
    ): TemplatedApp;
  }
  /** Untyped switches of the addon; `silent` leaves out the header that names the server. */
  // oxlint-disable-next-line no-underscore-dangle -- the addon's name for it
  export function _cfg(key: 'silent'): void;
}

/**
 * Largest request line and headers together; beyond it the addon answers 431. Its own 4,096 bytes are too few for
 * tokens in URLs, and headers of 32 kB must pass.
 */
const HTTP_HEAD_BYTES_MAX = 65_536;

/** Option for `listen`: a port that is taken is an error. Without it two servers share the port, unnoticed. */
export const LISTEN_EXCLUSIVE = 1;
/** Option for `listen`: other processes of this user that ask for the same may listen there, too. */
export const LISTEN_SHARED = 0;

const require = createRequire(import.meta.url);

/** uWebSockets.js itself. */
export const uWS: Uws = load();

/**
 * File of the running addon, spelled as it was loaded. The dynamic linker finds a loaded object by this very string
 * only, so whoever looks symbols up in uWebSockets.js must be given it unchanged.
 */
export const uwsAddonPath: string = findAddonPath();

function load(): Uws {
  process.env['UWS_HTTP_MAX_HEADERS_SIZE'] ??= String(HTTP_HEAD_BYTES_MAX);
  const uws: Uws = require('uWebSockets.js');
  // oxlint-disable-next-line no-underscore-dangle -- the addon's name for it
  uws._cfg('silent');
  return uws;
}

function findAddonPath(): string {
  const addon = Object.values(require.cache).find(
    loaded => loaded?.filename.endsWith('.node') === true && loaded.exports === uWS,
  );
  if (addon === undefined) {
    throw new Error('Cannot find the file of uWebSockets.js: it is not among the loaded modules');
  }
  return addon.filename;
}
