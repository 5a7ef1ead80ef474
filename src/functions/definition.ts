import { z } from 'zod';
import { sharedWorkerLimits } from '../limits.js';
import { routeOf, stepsOf } from './triggers/http-path.js';

/** Names stand in URLs, topics and file names. */
const identifier = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'lower-case letters, digits and hyphens, at most 63, not first or last a hyphen',
  );
/** What cannot be taken for a version. */
export const aliasName = z
  .string()
  .regex(
    /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'a lower-case letter first, then letters, digits and hyphens, at most 63, not last a hyphen',
  );
const topic = z.string().regex(/^[a-zA-Z0-9._-]{1,249}$/, 'a topic name: letters, digits, dot, underscore, hyphen');

/** A condition on JSON: every key must match; a list means any of its values; `{ exists, prefix, gt, gte, lt, lte, not }` test one value. */
export type Condition = { readonly [path: string]: ConditionTest };
export type ConditionValue = string | number | boolean | null;
export type ConditionTest =
  | ConditionValue
  | readonly ConditionValue[]
  | {
      readonly exists?: boolean | undefined;
      readonly prefix?: string | undefined;
      readonly gt?: number | undefined;
      readonly gte?: number | undefined;
      readonly lt?: number | undefined;
      readonly lte?: number | undefined;
      readonly not?: ConditionValue | readonly ConditionValue[] | undefined;
    };

const conditionValue = z.union([z.string(), z.number(), z.boolean(), z.null()]);
const condition: z.ZodType<Condition> = z.record(
  z.string().min(1),
  z.union(
    [
      conditionValue,
      z.array(conditionValue).min(1),
      z.strictObject({
        exists: z.boolean().optional(),
        prefix: z.string().optional(),
        gt: z.number().optional(),
        gte: z.number().optional(),
        lt: z.number().optional(),
        lte: z.number().optional(),
        not: z.union([conditionValue, z.array(conditionValue).min(1)]).optional(),
      }),
    ],
    'a value, a list of values, or tests: exists, prefix, gt, gte, lt, lte, not',
  ),
);

const httpTrigger = z.strictObject({
  type: z.literal('http'),
  /** One of them, or all. */
  method: z.enum(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', '*']).default('*'),
  /** `/orders/:id` binds a segment, `/files/*` the rest. Served under `/functions` of the HTTP port. */
  path: z.string().regex(/^\/[^?#\s]*$/, 'a path that begins with /'),
  /** Largest request body, bytes. */
  maxBodyBytes: z.number().int().min(0).max(104_857_600).default(6_291_456),
  /** Alias whose versions it calls, by their shares. Default: the newest version. */
  alias: aliasName.optional(),
});

const timerTrigger = z.strictObject({
  type: z.literal('timer'),
  /** Cron with five fields, or six with seconds first. */
  cron: z.string().min(1),
  /** IANA name. A time that a change to summer time leaves out runs right after it; one that comes twice runs once. */
  timezone: z.string().default('UTC'),
  /** Runs missed while no process was up: none, only the newest, or all (at most 100). */
  missed: z.enum(['skip', 'latest', 'all']).default('latest'),
  /** When a run is due while the one before still runs. */
  overlap: z.enum(['skip', 'queue', 'allow']).default('skip'),
  /** Alias whose versions it calls, by their shares. Default: the newest version. */
  alias: aliasName.optional(),
});

/** What happens to records that a function fails on; shared by streams and queues. */
const failure = {
  /** Tries of a record, the first included. */
  attempts: z.number().int().min(1).max(10_000).default(3),
  /** Older records are not tried again, seconds. */
  maxAgeSeconds: z.number().min(1).max(604_800).default(604_800),
  /** First wait before another try; doubles up to `maxBackoffMs`, with full jitter. */
  backoffMs: z.number().int().min(0).max(60_000).default(100),
  /** Longest wait before another try. */
  maxBackoffMs: z.number().int().min(0).max(3_600_000).default(30_000),
  /** Where records go that were given up, with the reason in headers; `false` drops them, counted. */
  deadLetters: z
    .union([topic, z.literal(false)], 'a topic name (letters, digits, dot, underscore, hyphen), or false')
    .default('dead-letters'),
};

const streamTrigger = z.strictObject({
  type: z.literal('stream'),
  /** Any topic, `forecasts` and `anomalies` too. */
  topic,
  /** Where to begin when the group has no offset: a time is milliseconds since 1970. */
  from: z
    .union([z.enum(['latest', 'earliest']), z.number().int().min(0)], 'latest, earliest, or a time in ms since 1970')
    .default('latest'),
  /** How many records one call is given. */
  batch: z
    .strictObject({
      /** Records in a batch at most. */
      size: z.number().int().min(1).max(10_000).default(100),
      /** Bytes in a batch at most. */
      bytes: z.number().int().min(1).max(104_857_600).default(6_291_456),
      /** Longest wait for a batch to fill, ms; 0 takes what is there. */
      windowMs: z.number().int().min(0).max(300_000).default(0),
    })
    .prefault({}),
  /** Records that do not match are passed over before anything is started. Paths are `key`, `value`, `value.NAME` or `headers.NAME`; any other is refused. */
  filter: condition.optional(),
  /** `partition`: one batch of a partition at a time. `key`: several, records of one key in order. */
  order: z.enum(['partition', 'key']).default('partition'),
  /** Batches of one partition at once, with `order: key`. */
  parallel: z.number().int().min(1).max(100).default(10),
  /** On an error halve the batch until the record that causes it is alone. */
  bisect: z.boolean().default(true),
  ...failure,
  /** Results and offsets in one transaction; needs `output`. */
  exactlyOnce: z.boolean().default(false),
  /** Alias whose versions it calls, by their shares. Default: the newest version. */
  alias: aliasName.optional(),
});

const queueTrigger = z.strictObject({
  type: z.literal('queue'),
  /** Used as a queue: its records are handled one by one, in the order of their keys. */
  topic,
  /** Time a record is with the function before it is given to another, ms. */
  visibilityMs: z.number().int().min(100).max(43_200_000).default(30_000),
  /** Wait before a record may be handled, ms from its timestamp. */
  delayMs: z.number().int().min(0).max(900_000).default(0),
  /** Records handled at once. */
  parallel: z.number().int().min(1).max(1_000).default(10),
  ...failure,
  /** Alias whose versions it calls, by their shares. Default: the newest version. */
  alias: aliasName.optional(),
});

const eventTrigger = z.strictObject({
  type: z.literal('event'),
  /** CloudEvents type; `*` at the end matches the rest. */
  eventType: z.string().min(1),
  /** Source of the event; default: any. */
  source: z.string().min(1).optional(),
  /** Condition on the event: paths are attributes, `data`, or begin with `data.`; any other is refused. */
  filter: condition.optional(),
  /** Alias whose versions it calls, by their shares. Default: the newest version. */
  alias: aliasName.optional(),
});

export const triggerSchema = z.discriminatedUnion('type', [
  httpTrigger,
  timerTrigger,
  streamTrigger,
  queueTrigger,
  eventTrigger,
]);

/** A function as it is kept: what was accepted once, whatever is asked of it today. */
export const keptFunctionSchema = z.strictObject({
  /** Stands in URLs: lower-case letters, digits and hyphens, at most 63. */
  name: identifier,
  /** A JavaScript or TypeScript module, or a WebAssembly module. */
  runtime: z.enum(['javascript', 'wasm']),
  /** JavaScript: the exported function. WebAssembly: an exported function of the bytes convention; `_start` runs a WASI command. */
  handler: z.string().min(1).default('handle'),
  /** A file (relative to the definition), or the code itself: text, or base64 for WebAssembly. */
  code: z.union([z.strictObject({ file: z.string().min(1) }), z.strictObject({ inline: z.string().min(1) })]),
  /** Megabytes of 2^20 bytes. Bounds WebAssembly memory and a JavaScript instance's heap, and is what is billed. */
  memoryMb: z.number().int().min(16).max(10_240).default(256),
  /** Longest time of a call; it is stopped then. */
  timeoutMs: z.number().int().min(1).max(900_000).default(30_000),
  /** Calls at once in one instance. */
  concurrency: z.number().int().min(1).max(1_000).default(1),
  /** Calls at once in all instances of one process; more wait, then are refused. */
  maxConcurrency: z.number().int().min(1).max(10_000).default(1_000),
  /** Environment variables. */
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}),
  /** Environment variable → name of a secret; its value is read where the function runs and is never written down. */
  secrets: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().min(1)).default({}),
  /** What starts it beside calls. */
  triggers: z.array(triggerSchema).max(20).default([]),
  /** Topic for what stream, queue, timer and event calls return. */
  output: topic.optional(),
  /** Topic told of each call that nobody waits for, when it has succeeded. */
  onSuccess: topic.optional(),
  /** The same when it was given up. */
  onFailure: topic.optional(),
  /** How many instances there are. */
  scaling: z
    .strictObject({
      /** Always ready. */
      minInstances: z.number().int().min(0).max(1_000).default(0),
      /** Of one process. */
      maxInstances: z.number().int().min(1).max(1_000).default(100),
      /** Calls at once that one instance should have, of its `concurrency`. */
      targetConcurrency: z.number().min(0.01).max(1_000).default(0.7),
      /** Unused instances are stopped after this, seconds. */
      idleSeconds: z.number().min(0).max(86_400).default(300),
      /** Forecasts of its calls, and timers, make instances ready before them. */
      enablePredictiveScaling: z.boolean().default(true),
    })
    .prefault({}),
  /** Where JavaScript runs. `process` adds Node's permission model, `shared` puts many small functions into one thread. No fence against hostile code: that is WebAssembly. */
  isolation: z.enum(['thread', 'process', 'shared']).default('thread'),
  /** Begin from a snapshot that was taken after initialisation (WebAssembly). */
  snapshot: z.boolean().default(true),
});

/** A function as its owner writes it: in `functions/*.yaml`, over HTTP, from the command line or the library. */
export const functionSchema = keptFunctionSchema.superRefine((definition, context) => {
  const { scaling, triggers } = definition;
  if (scaling.minInstances > scaling.maxInstances) {
    context.addIssue({
      code: 'custom',
      path: ['scaling', 'minInstances'],
      message: `is ${scaling.minInstances}, above maxInstances (${scaling.maxInstances})`,
    });
  }
  if (definition.isolation === 'shared' && definition.memoryMb > sharedWorkerLimits.maxMemoryMb) {
    context.addIssue({
      code: 'custom',
      path: ['memoryMb'],
      message: `is ${definition.memoryMb}: isolation shared is for functions of at most ${sharedWorkerLimits.maxMemoryMb}`,
    });
  }
  const routes = new Map<string, number>();
  for (const [i, trigger] of triggers.entries()) {
    const refuse = (at: readonly PropertyKey[], message: string) =>
      context.addIssue({ code: 'custom', path: ['triggers', i, ...at], message });
    if (trigger.type === 'stream' || trigger.type === 'event') {
      const problemOf = trigger.type === 'stream' ? recordPathProblem : eventPathProblem;
      for (const path of Object.keys(trigger.filter ?? {})) {
        const problem = problemOf(path);
        if (problem !== undefined) refuse(['filter', path], problem);
      }
    }
    if (trigger.type === 'http') {
      const steps = stepsOf(trigger.path);
      const route = routeOf(trigger);
      if (typeof steps === 'string') refuse(['path'], `can never be served: ${steps}`);
      else if (routes.has(route!)) refuse(['path'], `has the route of triggers.${routes.get(route!)}`);
      else routes.set(route!, i);
    }
    if (trigger.type === 'stream' && trigger.exactlyOnce && definition.output === undefined) {
      context.addIssue({ code: 'custom', path: ['triggers', i, 'exactlyOnce'], message: 'needs output' });
    }
    const topics = trigger.type === 'stream' || trigger.type === 'queue' ? [trigger.topic] : [];
    if (definition.output !== undefined && topics.includes(definition.output)) {
      context.addIssue({
        code: 'custom',
        path: ['output'],
        message: `is the topic that starts it: it would start itself`,
      });
    }
  }
});

/** Why a path can never lead to anything in a record; undefined when it can. */
function recordPathProblem(path: string): string | undefined {
  const [first, ...rest] = path.split('.');
  if (first === 'value') return undefined;
  if (first === 'key') return rest.length === 0 ? undefined : 'there is nothing in a key: it is text, write key';
  if (first !== 'headers') return 'a path in a record is key, value, value.NAME or headers.NAME';
  return rest.length < 2 ? undefined : 'there is nothing in a header: it is text, write headers.NAME (without a dot)';
}

/** Why a path can never lead to anything in a CloudEvent; undefined when it can. */
function eventPathProblem(path: string): string | undefined {
  if (path === 'data' || path.startsWith('data.') || /^[a-z0-9]+$/.test(path)) return undefined;
  return 'a path in an event is data.NAME, data, or an attribute, which is lower-case letters and digits';
}

export type FunctionDefinition = z.infer<typeof functionSchema>;
/** A definition as its owner may write it: what has a default may be missing. */
export type GivenDefinition = z.input<typeof functionSchema>;
/** A trigger as its owner may write it. */
export type GivenTrigger = z.input<typeof triggerSchema>;
export type Trigger = z.infer<typeof triggerSchema>;
export type StreamTrigger = Extract<Trigger, { type: 'stream' }>;
export type QueueTrigger = Extract<Trigger, { type: 'queue' }>;
export type TimerTrigger = Extract<Trigger, { type: 'timer' }>;
export type HttpTrigger = Extract<Trigger, { type: 'http' }>;
export type EventTrigger = Extract<Trigger, { type: 'event' }>;
