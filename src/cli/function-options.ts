import { InvalidArgumentError } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import { type GivenTrigger, triggerSchema } from '../functions/definition.js';
import { TimerSchedule } from '../functions/triggers/timer-schedule.js';
import { nearest } from './suggest.js';

const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', '*'];

/** Kind → how it is written. */
const forms = {
  http: 'http:POST:/path, or http:/path for all methods',
  timer: 'timer:"0 * * * *"',
  queue: 'queue:TOPIC',
  stream: 'stream:TOPIC',
  event: 'event:TYPE',
} as const;

/**
 * A trigger in one word: `http:POST:/path`, `timer:CRON`, `queue:TOPIC`, `stream:TOPIC`, `event:TYPE`.
 * @throws InvalidArgumentError that says how it would be right
 */
export function parseTrigger(given: string): GivenTrigger {
  const [, kind = given, rest] = /^([^:]*):(.*)$/s.exec(given) ?? [];
  const kinds = Object.keys(forms);
  if (!kinds.includes(kind)) {
    const near = nearest(kind, kinds) as keyof typeof forms | undefined;
    const meant = near && rest ? `Did you mean ${near}:${rest}? ` : '';
    throw new InvalidArgumentError(`${meant}One of: ${Object.values(forms).join('; ')}.`);
  }
  const form = forms[kind as keyof typeof forms];
  if (!rest) throw new InvalidArgumentError(`It is written ${form}.`);
  const trigger = kind === 'http' ? httpTrigger(rest) : otherTrigger(kind, rest);
  const parsed = triggerSchema.safeParse(trigger);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]!.message}. It is written ${form}.`);
  if (parsed.data.type === 'timer') {
    const wrong = cronProblem(parsed.data.cron, parsed.data.timezone);
    if (wrong !== undefined) throw new InvalidArgumentError(`${wrong}. It is written ${form}.`);
  }
  return trigger;
}

function httpTrigger(rest: string): GivenTrigger {
  const [, word, path] = /^(?:([A-Za-z*]+):)?(.*)$/s.exec(rest)!;
  const method = (word ?? '*').toUpperCase();
  if (!methods.includes(method)) {
    const near = nearest(
      method.toLowerCase(),
      methods.map((one) => one.toLowerCase()),
    )?.toUpperCase();
    throw new InvalidArgumentError(
      `${near ? `Did you mean http:${near}:${path}? ` : ''}A method is one of ${methods.join(', ')}.`,
    );
  }
  if (!path!.startsWith('/'))
    throw new InvalidArgumentError(`A path begins with /: http:${method}:/${path}. It is written ${forms.http}.`);
  return { type: 'http', method: method as 'GET', path: path! };
}

function otherTrigger(kind: string, rest: string): GivenTrigger {
  if (kind === 'timer') return { type: 'timer', cron: rest.trim() };
  if (kind === 'event') return { type: 'event', eventType: rest };
  return { type: kind as 'queue' | 'stream', topic: rest };
}

/** What is wrong with a cron expression or time zone; undefined when nothing is. */
export function cronProblem(cron: string, timezone: string): string | undefined {
  try {
    new TimerSchedule(cron, timezone);
    return undefined;
  } catch (error) {
    return error instanceof IguanaError ? String(error.details.what) : messageOf(error);
  }
}

/** Megabytes of `256`, `256MB`, `1GB`. */
export function parseMemory(given: string): number {
  const [, digits, unit] = /^(\d+)\s*(m|mb|mib|g|gb|gib)?$/i.exec(given) ?? [];
  const mb = Number(digits) * (unit?.toLowerCase().startsWith('g') ? 1024 : 1);
  if (!Number.isInteger(mb)) throw new InvalidArgumentError('Megabytes are needed, such as 256, or 1GB.');
  return mb;
}

/** `NAME=SECRET`: the variable and the secret whose value it gets. */
export function parsePair(given: string): readonly [string, string] {
  const at = given.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('NAME=VALUE is needed.');
  return [given.slice(0, at), given.slice(at + 1)];
}

/** `VERSION=SHARE`, or a version alone for all calls. */
export function parseWeight(given: string): readonly [number, number] {
  const [version, share = '1'] = given.split('=');
  const pair = [Number(version), Number(share)] as const;
  if (!Number.isInteger(pair[0]) || pair[0] < 1 || !(pair[1] >= 0 && pair[1] <= 1))
    throw new InvalidArgumentError('VERSION=SHARE is needed, such as 3=0.1; shares are between 0 and 1.');
  return pair;
}
