import { quote } from '../base/show.ts';
import { apiError, type ApiAnswer } from './api-answers.ts';

// Refusals that several kinds of resources share.

export function definedInConfigFile(what: string, name: string): ApiAnswer {
  return apiError(
    'DefinedInConfigFile',
    `Cannot change the ${what} ${quote(name)}: the config file of the server defines it. ` +
      'Change it there and start the server again',
  );
}

export function notThere(what: string, name: string): ApiAnswer {
  return apiError('ResourceNotFound', `There is no ${what} ${quote(name)}`);
}

export function contended(): ApiAnswer {
  return apiError('Conflict', 'Cannot change it: others change it at the same time. Try again');
}
