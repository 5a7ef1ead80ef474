import type { Clock } from '../../clock.js';
import { IguanaError } from '../../errors.js';
import { eventLimits } from '../../limits.js';
import { hash64 } from '../../records.js';
import type { EventTrigger } from '../definition.js';
import { matches } from '../event-filter.js';
import type { FunctionService } from '../function-service.js';
import type { CloudEvent } from '../invocation.js';
import { callWithRetries } from '../retries.js';
import type { TriggerHost } from '../trigger-host.js';
import { sizeOf } from '../value-size.js';
import type { DeliverOutcome } from './call-outcome.js';
import { assertDepth } from './cloud-events.js';

/** Whether an event starts a trigger: by type (`*` at the end stands for any rest), source and filter. */
export function startsTrigger(trigger: EventTrigger, event: CloudEvent): boolean {
  const { eventType, source, filter } = trigger;
  const typeFits = eventType.endsWith('*') ? event.type.startsWith(eventType.slice(0, -1)) : event.type === eventType;
  return typeFits && (source === undefined || source === event.source) && (!filter || matches(filter, event));
}

export interface EventOptions {
  readonly service: Pick<FunctionService, 'invoke'>;
  readonly clock: Clock;
  readonly deliver?: DeliverOutcome;
  /** Told of every function that failed on an event after all tries. */
  readonly onError?: (error: unknown) => void;
  /** Tries of each function with an event (default 3). */
  readonly attempts?: number;
  readonly random?: () => number;
}

export interface Dispatched {
  /** Functions that the event started. */
  readonly started: readonly string[];
  /** Of them those that failed on it. */
  readonly failed: readonly string[];
  /** It was handled not long ago: nothing was started. */
  readonly repeated: boolean;
}

export interface EventTriggers extends TriggerHost {
  /**
   * Starts all functions that an event starts, and waits for them. A source's id that was handled not long ago starts nothing, and one that is being
   * handled is waited for. What a function makes of the event is its `output`; one that fails keeps no other from it.
   * @throws IguanaError `IGU_FUNCTION_EVENT_DEPTH`; what keeps an outcome from being delivered: then the event is not handled
   */
  dispatch(event: CloudEvent): Promise<Dispatched>;
  /**
   * The same for who does not wait: at most 64 events at once, the rest wait in memory.
   * @throws IguanaError `IGU_FUNCTION_EVENT_DEPTH`, `IGU_FUNCTION_BUSY`
   */
  publish(event: CloudEvent): void;
}

/** Cost of an event: O(event triggers of all functions). */
export function eventTriggers(options: EventOptions): EventTriggers {
  const { service, clock, deliver, onError, attempts = eventLimits.attempts, random } = options;
  let triggers: readonly { readonly name: string; readonly trigger: EventTrigger }[] = [];
  /** Those handled last by their id and source, in short; with what comes of it while they are handled. */
  const handled = new Map<string, Promise<Dispatched> | undefined>();
  const waiting: { readonly event: CloudEvent; readonly bytes: number }[] = [];
  let waitingBytes = 0;
  const stopping = new AbortController();
  const running = new Set<Promise<unknown>>();

  const handle = async (name: string, alias: string | undefined, event: CloudEvent, identity: string) => {
    const invocationId = `event-${name}-${identity}`;
    const startedAt = clock.now();
    const input = { trigger: 'event', event } as const;
    const { signal } = stopping;
    const how = alias === undefined ? { invocationId, signal } : { invocationId, signal, qualifier: alias };
    const outcome = await callWithRetries((attempt) => service.invoke(name, input, { attempt, ...how }), {
      name,
      clock,
      attempts,
      signal,
      ...(random ? { random } : {}),
    });
    // broken off by the end of the process: it did not fail, and is handled where the event comes again
    if (!outcome.result && signal.aborted) throw outcome.error;
    if (!outcome.result) onError?.(outcome.error);
    await deliver?.({ function: name, invocationId, event: input, startedAt, endedAt: clock.now(), ...outcome });
    return outcome.result !== undefined;
  };

  const handleAll = async (event: CloudEvent, identity: string): Promise<Dispatched> => {
    // once each: of two triggers that match, as the first one says
    const aliases = new Map<string, string | undefined>();
    for (const { name, trigger } of triggers)
      if (!aliases.has(name) && startsTrigger(trigger, event)) aliases.set(name, trigger.alias);
    const started = [...aliases.keys()];
    // all are waited for: where one could not deliver, none may be under way when the event comes again
    const ended = await Promise.allSettled(started.map((name) => handle(name, aliases.get(name), event, identity)));
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
    const failed = started.filter((_, i) => (ended[i] as PromiseFulfilledResult<boolean>).value === false);
    return { started, failed, repeated: false };
  };

  const dispatch = async (event: CloudEvent): Promise<Dispatched> => {
    assertDepth(event);
    const identity = hash64(JSON.stringify([event.source, event.id]));
    if (handled.has(identity)) {
      await handled.get(identity);
      return { started: [], failed: [], repeated: true };
    }
    const handling = handleAll(event, identity);
    handled.set(identity, handling);
    for (const oldest of handled.keys()) {
      if (handled.size <= eventLimits.maxRemembered) break;
      handled.delete(oldest);
    }
    try {
      const dispatched = await handling;
      if (handled.get(identity) === handling) handled.set(identity, undefined);
      return dispatched;
    } catch (error) {
      // its outcome could not be delivered: when it comes again it has to be handled again
      if (handled.get(identity) === handling) handled.delete(identity);
      throw error;
    }
  };

  const next = (): void => {
    while (running.size < eventLimits.maxAtOnce && waiting.length > 0) {
      const { event, bytes } = waiting.shift()!;
      waitingBytes -= bytes;
      const one = dispatch(event)
        .catch((error) => onError?.(error))
        .finally(() => {
          running.delete(one);
          next();
        });
      running.add(one);
    }
  };

  return {
    dispatch,
    publish(event) {
      assertDepth(event);
      const bytes = sizeOf(event);
      if (waiting.length >= eventLimits.maxWaiting || waitingBytes + bytes > eventLimits.maxWaitingBytes) {
        const details = { name: event.type, limit: eventLimits.maxAtOnce, waiting: waiting.length };
        throw new IguanaError('IGU_FUNCTION_BUSY', details);
      }
      waiting.push({ event, bytes });
      waitingBytes += bytes;
      next();
    },
    async apply(functions) {
      triggers = functions.flatMap(({ name, definition }) =>
        definition.triggers.flatMap((trigger) => (trigger.type === 'event' ? [{ name, trigger }] : [])),
      );
    },
    async stop() {
      triggers = [];
      waiting.length = 0;
      stopping.abort();
      await Promise.all(running);
    },
  };
}
