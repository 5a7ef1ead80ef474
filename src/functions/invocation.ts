import type { Trigger } from './definition.js';

/** A record as a function sees it. The value is decoded: JSON and Avro become objects, other text a string, the rest bytes. */
export interface EventRecord {
  readonly key: string | null;
  readonly value: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly offset: number;
  /** ms since 1970. */
  readonly timestamp: number;
}

/** CloudEvents 1.0, structured form. */
export interface CloudEvent {
  readonly specversion: '1.0';
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject?: string;
  readonly time?: string;
  readonly datacontenttype?: string;
  readonly data?: unknown;
  readonly [extension: string]: unknown;
}

/** What starts a function, as its first argument. `trigger` says which it is. */
export type FunctionEvent =
  | {
      readonly trigger: 'http';
      readonly method: string;
      readonly path: string;
      readonly params: Readonly<Record<string, string>>;
      /** A name that came more than once has all its values. */
      readonly query: Readonly<Record<string, string | readonly string[]>>;
      readonly headers: Readonly<Record<string, string>>;
      /** JSON is parsed, other text is a string, the rest bytes; null without a body. */
      readonly body: unknown;
    }
  | {
      readonly trigger: 'stream' | 'queue';
      readonly topic: string;
      readonly partition: number;
      readonly records: readonly EventRecord[];
    }
  | { readonly trigger: 'timer' /** ISO 8601, in UTC. */; readonly scheduledTime: string }
  | { readonly trigger: 'event'; readonly event: CloudEvent }
  | { readonly trigger: 'call'; readonly input: unknown };

export type TriggerKind = Trigger['type'] | 'call';

/** What a function may know of its call, as its second argument (beside `signal` and `log`, which are not data). */
export interface InvocationContext {
  readonly function: string;
  readonly version: number;
  readonly invocationId: string;
  /** 1 for the first try. */
  readonly attempt: number;
  /** ms since 1970. */
  readonly deadline: number;
}

/** Why an instance had to be started for a call. */
export type ColdStartCause = 'first-call' | 'scale-up' | 'after-idle' | 'after-failure' | 'new-version';

export interface InvocationResult {
  readonly invocationId: string;
  readonly output: unknown;
  /** Of the handler, ms. */
  readonly durationMs: number;
  /** Of starting the instance when the call had to wait for it, ms; 0 when it was warm. */
  readonly initMs: number;
  readonly cold: ColdStartCause | false;
  /** Of the instance, buffers too, when the call ended or, after a call of less than 1 ms, up to 1 ms before. */
  readonly memoryUsedMb: number;
  /** WebAssembly only. */
  readonly gasUsed?: number;
  readonly logs: readonly string[];
  /** More was logged than is kept. */
  readonly logsTruncated: boolean;
}

/**
 * Where an answer goes that a function gives piece by piece (it returned something that can be iterated with `for await`, or has one as `body` beside
 * `statusCode`). The call lasts until the last piece is out.
 */
export interface AnswerSink {
  /** Once, before the first piece. What it throws ends the call. */
  begin(head: { readonly statusCode?: unknown; readonly headers?: unknown }): void;
  /** Resolves when there is room for more. */
  write(piece: Uint8Array): Promise<void> | undefined;
}

/**
 * One copy of a function's code that is ready to be called. Made by an `InstanceFactory`; the pool never calls it more than `concurrency` times at once.
 */
export interface FunctionInstance {
  /**
   * Rejects with IguanaError: `IGU_FUNCTION_FAILED` (the handler threw), `IGU_FUNCTION_TIMEOUT`, `IGU_FUNCTION_MEMORY`, `IGU_FUNCTION_CRASHED`.
   * Whether the instance lives on is told by `usable`. After the signal it settles when nothing of the call holds the instance any more, at its deadline at
   * the latest, with `IGU_FUNCTION_CANCELLED`; the caller was told at once.
   */
  invoke(
    event: FunctionEvent,
    context: InvocationContext,
    signal?: AbortSignal,
    answer?: AnswerSink,
  ): Promise<InstanceReply>;
  readonly usable: boolean;
  /** Resident memory that is this instance's own, bytes, as well as is known. */
  memoryBytes(): number;
  close(): Promise<void>;
}

export interface InstanceReply {
  readonly output: unknown;
  readonly durationMs: number;
  readonly memoryUsedMb: number;
  readonly gasUsed?: number;
  readonly logs: readonly string[];
  readonly logsTruncated: boolean;
}
