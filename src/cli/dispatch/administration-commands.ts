import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import type { CodeCreateOptions, EnvOptions } from './administration.ts';
import { append, nounCommand, verb } from './command-parts.ts';

/** `halfway env …`, `user`, `api-token`, `code` and `audit`. */
export function addAdministrationCommands(program: Command, context: CommandContext): void {
  addEnvironments(program, context);
  addUsers(program, context);
  addTokens(program, context);
  addCodes(program, context);
  const audit = nounCommand(program, 'audit', 'what was done, and by whom', AUDIT_EXAMPLES);
  verb(audit, 'list', 'list entries of the environment, oldest first')
    .option('--after <NUMBER>', 'those behind this one')
    .option('--limit <N>', 'how many, at most 200')
    .action(async (values: ApiOptions & { readonly after?: string; readonly limit?: string }) => {
      await (await import('./administration.ts')).runAudit(values, context);
    });
}

function addEnvironments(program: Command, context: CommandContext): void {
  const env = nounCommand(program, 'env', 'environments, and roles in them', ENV_EXAMPLES);
  verb(env, 'list', 'list those in which you have a role').action(async (values: ApiOptions) => {
    await (await import('./administration.ts')).runEnvList(values, context);
  });
  verb(env, 'show', 'show one, with who has which role')
    .argument('[NAME]', 'the one of --environment unless it is given')
    .action(async (name: string | undefined, values: ApiOptions) => {
      await (await import('./administration.ts')).runEnvShow(name, values, context);
    });
  verb(env, 'create', 'create one; for administrators')
    .argument('<NAME>', 'lower-case letters, digits and hyphens')
    .option('--display-name <TEXT>', 'for people')
    .action(async (name: string, values: EnvOptions) => {
      await (await import('./administration.ts')).runEnvCreate(name, values, context);
    });
  verb(env, 'set', 'change one')
    .argument('[NAME]', 'the one of --environment unless it is given')
    .option('--display-name <TEXT>', 'for people')
    .option('--min-agent-version <VERSION>', 'older machine services get no runs; none: any')
    .action(async (name: string | undefined, values: EnvOptions) => {
      await (await import('./administration.ts')).runEnvSet(name, values, context);
    });
  verb(env, 'grant', 'give somebody a role in the environment of --environment')
    .argument('<PRINCIPAL>', 'user:ID or token:ID')
    .argument('<ROLE>', 'owner, maker, user or reader')
    .action(async (principal: string, role: string, values: ApiOptions) => {
      await (await import('./administration.ts')).runEnvRole(principal, role, values, context);
    });
  verb(env, 'revoke', 'take it away')
    .argument('<PRINCIPAL>', 'user:ID or token:ID')
    .action(async (principal: string, values: ApiOptions) => {
      const { runEnvRole } = await import('./administration.ts');
      await runEnvRole(principal, undefined, values, context);
    });
}

function addUsers(program: Command, context: CommandContext): void {
  const user = nounCommand(program, 'user', 'users, for administrators', USER_EXAMPLES);
  verb(user, 'me', 'whom the server takes you for').action(async (values: ApiOptions) => {
    await (await import('./administration.ts')).runUserMe(values, context);
  });
  verb(user, 'list', 'list them').action(async (values: ApiOptions) => {
    await (await import('./administration.ts')).runUserList(values, context);
  });
  verb(user, 'create', 'create one')
    .argument('<ID>', 'letters, digits, . _ ~ -')
    .option('--display-name <TEXT>', 'for people')
    .option('--admin', 'owner of every environment')
    .action(
      async (
        id: string,
        values: ApiOptions & { readonly displayName?: string; readonly admin?: boolean },
      ) => {
        await (await import('./administration.ts')).runUserCreate(id, values, context);
      },
    );
  for (const [name, isDisabled, summary] of [
    ['disable', true, 'take all rights away from one; what is theirs stays'],
    ['enable', false, 'give them back'],
  ] as const) {
    verb(user, name, summary)
      .argument('<ID>', 'the user')
      .action(async (id: string, values: ApiOptions) => {
        const { runUserSwitch } = await import('./administration.ts');
        await runUserSwitch(id, isDisabled, values, context);
      });
  }
}

function addTokens(program: Command, context: CommandContext): void {
  const token = nounCommand(program, 'api-token', 'tokens of people and programs', TOKEN_EXAMPLES);
  verb(token, 'list', 'list them; all for administrators, else your own').action(
    async (values: ApiOptions) => {
      await (await import('./administration.ts')).runTokenList(values, context);
    },
  );
  verb(token, 'create', 'make one and print it, this once')
    .argument('<NAME>', 'what it is for')
    .option('--user <ID>', 'it acts as this user; else as itself, and is given roles of its own')
    .option('--admin', 'of one that acts as itself: owner of every environment')
    .option('--expires-in <TIME>', 'how long it is good: 12h, 90d; without an end unless given')
    .action(
      async (
        name: string,
        values: ApiOptions & {
          readonly user?: string;
          readonly admin?: boolean;
          readonly expiresIn?: string;
        },
      ) => {
        await (await import('./administration.ts')).runTokenCreate(name, values, context);
      },
    );
  verb(token, 'delete', 'make one worthless')
    .argument('<NAME>', 'its name or id')
    .action(async (text: string, values: ApiOptions) => {
      await (await import('./administration.ts')).runTokenDelete(text, values, context);
    });
}

function addCodes(program: Command, context: CommandContext): void {
  const code = nounCommand(
    program,
    'code',
    'activation codes, by which machines register without a user',
    CODE_EXAMPLES,
  );
  verb(code, 'list', 'list them').action(async (values: ApiOptions) => {
    await (await import('./administration.ts')).runCodeList(values, context);
  });
  verb(code, 'create', 'make one and print it, this once')
    .option('--name <TEXT>', 'what it is for')
    .option('--expires-in <TIME>', 'how long it is good; 24h unless given, at most 30d')
    .option('--uses <N>', 'for how many machines; 1 unless given')
    .option('--group <NAME>', 'the group that these machines may join')
    .option('--label <NAME=VALUE>', 'a label that they get; may be repeated', append)
    .action(async (values: CodeCreateOptions) => {
      await (await import('./administration.ts')).runCodeCreate(values, context);
    });
  verb(code, 'delete', 'make one worthless')
    .argument('<ID>', 'its id')
    .action(async (id: string, values: ApiOptions) => {
      await (await import('./administration.ts')).runCodeDelete(id, values, context);
    });
}

const ENV_EXAMPLES = `
Roles: owner (all), maker (machines, groups, connections, activation codes), user (runs what is shared with it),
reader (looks).

Examples:
  halfway env create finance
  halfway env grant user:ann maker --environment finance
  halfway env show finance`;

const USER_EXAMPLES = `
Examples:
  halfway user create ann --display-name 'Ann Example'
  halfway api-token create laptop --user ann > ann.token
  halfway user disable ann`;

const TOKEN_EXAMPLES = `
Examples:
  halfway api-token create ci --expires-in 90d > ci.token
  halfway api-token list
  halfway api-token delete ci`;

const CODE_EXAMPLES = `
Examples:
  halfway code create --uses 20 --expires-in 7d --group night-shift > activation.code
  halfway code list`;

const AUDIT_EXAMPLES = `
Examples:
  halfway audit list --after 1000
  halfway audit list --json`;
