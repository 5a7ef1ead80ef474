import { type MonoTypeOperatorFunction, tap } from 'rxjs';
import type { Work } from './work.js';

/** The end of a chain: all of the batch is written, its offsets may be committed. */
export function acknowledge(): MonoTypeOperatorFunction<Work> {
  return tap((work) => work.input.ack());
}
