import { z } from 'zod';
import { IguanaError } from '../errors.js';

export const aText = z.string().min(1);
export const aFunction = z.custom<(...given: never[]) => unknown>(
  (value) => typeof value === 'function',
  'it is no function',
);

/** An object of any kind: what has methods is not looked into. */
export const anObject = <T extends object>(what: string) =>
  z.custom<T>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), what);

/**
 * Options that a program gave, before anything is done with them: what is not known is not ignored.
 * @param of whose they are, for the error
 * @throws IguanaError `IGU_CONFIG` with the first that is wrong
 */
export function assertOptions(schema: z.ZodType, of: string, options: unknown): void {
  const { success, error } = schema.safeParse(options);
  if (success) return;
  const { path, message } = error.issues[0]!;
  throw new IguanaError('IGU_CONFIG', {
    where: path.length > 0 ? `${of}: ${path.join('.')}` : of,
    what: message,
    fix: 'see docs/library.md',
  });
}
