import { IguanaError } from '../errors.js';
import type { InvokeOptions } from './function-service.js';

/**
 * The function of `NAME`, or of `NAME:QUALIFIER` as errors write it, and how it is called.
 * @throws IguanaError `IGU_USAGE` when the options have another qualifier
 */
export function qualified<T extends Pick<InvokeOptions, 'qualifier'>>(
  given: string,
  options: T,
): { readonly name: string; readonly options: T } {
  const at = given.indexOf(':');
  if (at < 0) return { name: given, options };
  const qualifier = given.slice(at + 1);
  const other = options.qualifier;
  if (other !== undefined && String(other) !== qualifier)
    throw new IguanaError('IGU_USAGE', { what: `${given} is called with another qualifier, ${other}` });
  return { name: given.slice(0, at), options: { ...options, qualifier } };
}
