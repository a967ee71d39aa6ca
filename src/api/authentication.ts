import type { Principal } from '../dispatch/access.ts';
import type { ControlPlane } from '../dispatch/control-plane.ts';
import { Problem } from '../dispatch/problem.ts';
import type { ApiRequest } from './api-request.ts';
import type { Who } from './operation.ts';

/** Who asks, proved by a token. */
export type Identity =
  | { readonly type: 'nobody' }
  | { readonly type: 'person'; readonly principal: Principal }
  | { readonly type: 'machine'; readonly environment: string; readonly machineId: string };

const NOBODY: Identity = { type: 'nobody' };
const MACHINE_PREFIX = 'hwm_';
const BEARER = /^Bearer +([!-~]{1,4096})$/i;

/**
 * Reads the token, where the operation wants one. Throws `TokenInvalid`, and `AccessDenied` for a person's
 * where only machines are served and the other way round.
 */
export async function identityOf(
  plane: Pick<ControlPlane, 'tokens' | 'machineTokens'>,
  { headers }: ApiRequest,
  who: Who,
): Promise<Identity> {
  const authorization = headers.get('authorization');
  if (who === 'nobody' || (who === 'anyone' && authorization === undefined)) return NOBODY;
  const text = BEARER.exec(authorization ?? '')?.[1];
  if (text === undefined) throw new Problem('TokenInvalid', 'send Authorization: Bearer');
  if (text.startsWith(MACHINE_PREFIX)) {
    const machine = await plane.machineTokens.authenticate(text);
    if (who === 'person' || who === 'anyone') {
      throw new Problem('AccessDenied', 'this is not for machines');
    }
    return { type: 'machine', ...machine };
  }
  const principal = await plane.tokens.authenticate(text);
  if (who === 'machine') throw new Problem('AccessDenied', 'this is for machines');
  return { type: 'person', principal };
}
