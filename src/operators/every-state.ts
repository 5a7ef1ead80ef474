import { catchError, EMPTY, exhaustMap, from, interval, type Observable } from 'rxjs';
import type { OutRecord } from '../kafka/sink.js';
import type { Stateful } from '../state.js';
import type { SeriesPipelineParts } from './series-pipeline.js';

/**
 * Beside a chain: looks at the state of every series that has come since the start, every `everyMs`, and writes what it says to a topic.
 * For what shows in the absence of input. A round that is still under way skips the next. Cost: O(series) a round.
 */
export function everyState<T extends Stateful>(
  everyMs: number,
  topic: string,
  look: (state: T) => OutRecord | null,
  onError?: (error: unknown) => void,
): (parts: SeriesPipelineParts<T>) => Observable<void> {
  return ({ states, sink }) =>
    interval(everyMs).pipe(
      exhaustMap(() => {
        const records: OutRecord[] = [];
        states.each((state) => {
          const record = look(state);
          if (record) records.push(record);
        });
        return from(sink.write(topic, records)).pipe(
          catchError((error: unknown) => {
            onError?.(error);
            return EMPTY;
          }),
        );
      }),
    );
}
