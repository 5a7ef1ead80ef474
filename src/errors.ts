/**
 * Coded errors. Users see `CODE what happened; what to do`; the cause is always carried; a stack trace is for bugs only.
 * Add a row to the table for every new error: the message says what happened (with `{name}` holes), the fix what to do.
 */
const table = {
  IGU_USAGE: { message: '{what}', fix: 'see --help of the command, or docs/library.md', retriable: false },
  IGU_CONFIG: { message: '{where}: {what}', fix: '{fix}', retriable: false },
  IGU_FILE_MISSING: { message: 'cannot read {path}', fix: 'check the path and its permissions', retriable: false },
  IGU_FILE_WRITE: {
    message: 'cannot write {path}: {what}',
    fix: 'check the path, its permissions and free space',
    retriable: false,
  },
  IGU_CSV_ROW: { message: '{path}:{line}: {what}', fix: '{fix}', retriable: false },
  IGU_PORT_TAKEN: {
    message: 'port {port} on {host} is taken',
    fix: 'stop what uses it, or give another port (0 takes any free one)',
    retriable: false,
  },
  IGU_LISTEN: {
    message: 'cannot listen on {host}:{port}: {what}',
    fix: 'give an address of this machine and a port that may be used',
    retriable: false,
  },
  IGU_BROKER_UNREACHABLE: {
    message: 'no Kafka broker answers at {brokers}',
    fix: 'check the address and that the broker is running; `iguana broker` starts one here',
    retriable: true,
  },
  IGU_DATA_DIR: {
    message: 'cannot use data directory {path}: {what}',
    fix: 'give a writable directory with --data, or run with --memory',
    retriable: false,
  },
  IGU_RECORD_MALFORMED: {
    message: 'record cannot be read: {what}',
    fix: 'see the dead letter and docs/topics.md',
    retriable: false,
  },
  IGU_SCHEMA_UNKNOWN: {
    message: 'unknown schema {id}',
    fix: 'produce with a schema from schemas/, or JSON',
    retriable: false,
  },
  IGU_VALUE_NOT_FINITE: {
    message: 'value of {series} is {value}',
    fix: 'send a finite number, or leave the sample out',
    retriable: false,
  },
  IGU_TIME_OUT_OF_RANGE: {
    message: 'timestamp {timestamp} of {series} is outside the accepted range',
    fix: 'send milliseconds since 1970 and check the clock of the sender',
    retriable: false,
  },
  IGU_HISTORY_SHORT: {
    message: '{what} has {have} samples, {need} are needed',
    fix: 'give more history or a shorter season',
    retriable: true,
  },
  IGU_STATE_INCOMPATIBLE: {
    message: 'saved state of {what} cannot be restored: {why}',
    fix: 'it is learnt anew from the input',
    retriable: false,
  },
  IGU_LIMIT: {
    message: '{limit} reached ({value})',
    fix: 'raise it in the configuration or send less',
    retriable: true,
  },
  IGU_NOT_FOUND: { message: 'no {what} named {name}', fix: '{fix}', retriable: false },
  IGU_ACTUATOR: {
    message: 'actuator {name} failed: {what}',
    fix: 'see the cause; the decision is tried again at the next evaluation',
    retriable: true,
  },
  IGU_HTTP_PATH: { message: 'nothing is served at {path}', fix: 'GET /api lists all routes', retriable: false },
  IGU_HTTP_METHOD: {
    message: 'method {method} is not accepted',
    fix: 'use {allow}',
    retriable: false,
  },
  IGU_HTTP_BODY: {
    message: 'the body of the request cannot be read: {what}',
    fix: 'mend what is named here; the body is what its content-type header says, in UTF-8',
    retriable: false,
  },
  IGU_HTTP_TOO_LARGE: {
    message: 'the body of the request has more than {limit} bytes',
    fix: 'send less; of an HTTP trigger of a function maxBodyBytes may be raised',
    retriable: false,
  },
  IGU_HTTP_REQUEST: {
    message: 'the request is not accepted: {what}',
    fix: 'send one request as RFC 9112 has it',
    retriable: false,
  },
  IGU_HTTP_ORIGIN: {
    message: 'requests that change something are not taken from {origin}',
    fix: 'use the page itself, the command line, or a client that sends no Origin header',
    retriable: false,
  },
  IGU_HTTP_TOKEN: {
    message: 'requests of {from} need the token',
    fix: '{fix}',
    retriable: false,
  },
  IGU_HTTP_HOST: {
    message: 'host {host} is not served',
    fix: 'open the page by the address in the start banner, or start with --host 0.0.0.0',
    retriable: false,
  },
  IGU_BACKEND: {
    message: 'TensorFlow.js backend {name} cannot be used: {what}',
    fix: 'another backend is used; see `iguana doctor`',
    retriable: false,
  },
  IGU_WASM_MALFORMED: {
    message: 'not a WebAssembly module that can be read: {what} (byte {offset})',
    fix: 'give a core module in binary format, as compilers write it',
    retriable: false,
  },
  IGU_WASM_UNSUPPORTED: {
    message: '{what} is not supported{where}',
    fix: '{fix}',
    retriable: false,
  },
  IGU_WASM_INVALID: {
    message: 'engine {engine} refuses the module: {what}',
    fix: 'compile it for a feature set the engine has; `iguana wasm inspect` names what it needs',
    retriable: false,
  },
  IGU_WASM_LINK: {
    message: 'import {module}.{name} {what}',
    fix: 'give the import, or compile the module without it; `iguana wasm inspect` lists imports',
    retriable: false,
  },
  IGU_WASM_ENGINE_MISSING: {
    message: 'engine {engine} is not there: {what}',
    fix: '{fix}',
    retriable: false,
  },
  IGU_WASM_NOT_FOUND: {
    message: 'no {kind} {name}{of}',
    fix: 'check the name; a destroyed instance or an unloaded module has no handle any more',
    retriable: false,
  },
  IGU_WASM_SIGNATURE: {
    message: '{name} takes ({expected}), was given ({given})',
    fix: 'give values of the types of the signature; `iguana wasm inspect` shows it',
    retriable: false,
  },
  IGU_WASM_LIMIT: {
    message: '{what} is {value}, the limit is {limit}',
    fix: '{fix}',
    retriable: false,
  },
  IGU_WASM_TRAP: {
    message: 'trap: {trap} in {where}',
    fix: 'the guest has a fault; the instance can still be inspected',
    retriable: false,
  },
  IGU_WASM_OUT_OF_GAS: {
    message: 'out of gas in {where}',
    fix: 'raise the gas limit, or find out where it goes with `iguana wasm gas`',
    retriable: false,
  },
  IGU_WASM_TIMEOUT: {
    message: 'stopped after its time in {where}',
    fix: 'raise the timeout, or make the call do less',
    retriable: false,
  },
  IGU_WASM_CACHE: {
    message: 'code cache {path} cannot be used: {what}',
    fix: 'give a directory with room that belongs to this user and that others cannot write; its `key` file mode 0600',
    retriable: false,
  },
  IGU_WASM_LOST: {
    message: 'instance {instance} is gone: {why}',
    fix: 'make a new instance, or restore a snapshot into one',
    retriable: true,
  },
  IGU_WASM_SNAPSHOT: {
    message: 'snapshot cannot be {what}: {why}',
    fix: '{fix}',
    retriable: false,
  },
  IGU_GPU_PLACEMENT: {
    message: 'node {node} {what}',
    fix: 'a placement must be given back as it was taken, once; rebuild the state from the ledger',
    retriable: false,
  },
  IGU_GPU_LEDGER: {
    message: 'the GPU ledger cannot be restored: {what}',
    fix: 'rebuild it from the events of the topic gpu-allocations',
    retriable: false,
  },
  IGU_GPU_REQUEST: {
    message: 'the GPU request of {instance} cannot be: {what}',
    fix: 'gpuCount is a whole number from 1, memoryMb above 0, computeShare above 0 to 1; see docs/gpu-placement.md',
    retriable: false,
  },
  IGU_GPU_REFUSED: {
    message: 'no GPU for {instance}: {what}',
    fix: 'ask for less, wait for room, or see GPU by GPU why not with `iguana gpu explain`',
    retriable: true,
  },
  IGU_GPU_SCHEDULER: {
    message: 'no GPU scheduler answered: {what}',
    fix: 'see that an Iguana of the same group runs and reaches the broker; asking again is safe',
    retriable: true,
  },
  IGU_GPU_TOOL: {
    message: 'GPUs may be missing here: {what}',
    fix: 'run {command} by hand and mend what it says; see docs/gpu.md',
    retriable: true,
  },
  IGU_GPU_TOPIC: {
    message: 'the topic {topic} has {partitions} partitions',
    fix: 'GPU topics have one each, since the order of requests decides: make it anew with one',
    retriable: false,
  },
  IGU_GPU_ALLOCATION: {
    message: 'no GPU allocation or reservation {id}',
    fix: 'list them with `iguana gpu allocations`; its lease may be over: allocate again',
    retriable: false,
  },
  IGU_SERVER_UNREACHABLE: {
    message: 'no Iguana answers at {url}{why}',
    fix: 'start one with `iguana start`, or give its address with --url',
    retriable: true,
  },
  IGU_FUNCTION_NOT_FOUND: {
    message: 'no function {name}',
    fix: 'list them with `iguana function list`, or deploy it',
    retriable: false,
  },
  IGU_FUNCTION_CODE: {
    message: 'the code of {name} cannot be loaded: {what}',
    fix: 'mend the code and deploy it again',
    retriable: false,
  },
  IGU_FUNCTION_FAILED: {
    message: '{name} failed: {what}',
    fix: 'see its logs with `iguana function logs`',
    retriable: true,
  },
  IGU_FUNCTION_TIMEOUT: {
    message: '{name} was stopped after {ms} ms',
    fix: 'raise its timeout, or make it do less in one call',
    retriable: true,
  },
  IGU_FUNCTION_MEMORY: {
    message: '{name} used more than its {mb} MB',
    fix: 'raise its memory, or keep less',
    retriable: true,
  },
  IGU_FUNCTION_CRASHED: {
    message: 'the instance of {name} ended in the middle of a call: {what}',
    fix: 'the call may be made again; see its logs',
    retriable: true,
  },
  IGU_FUNCTION_INTERRUPTED: {
    message: 'a call of {name} ended with its instance: {what}',
    fix: 'it is not at fault; make it again',
    retriable: true,
  },
  IGU_FUNCTION_BUSY: {
    message: '{name} has {limit} calls at once and {waiting} waiting',
    fix: 'call again later, or raise maxConcurrency',
    retriable: true,
  },
  IGU_FUNCTION_NOT_READY: {
    message: 'no instance of {name} is ready: {what}',
    fix: '{fix}',
    retriable: true,
  },
  IGU_FUNCTION_ROUTE: {
    message: 'HTTP trigger {method} {path} of {name} cannot be served: {what}',
    fix: 'give it another path or method',
    retriable: false,
  },
  IGU_FUNCTION_ANSWER: {
    message: '{name} returned what cannot be answered over HTTP: {what}',
    fix: 'return a value, bytes, or {statusCode, headers, body}',
    retriable: false,
  },
  IGU_FUNCTION_CANCELLED: {
    message: 'the call of {name} was cancelled',
    fix: 'call it again when it is wanted',
    retriable: false,
  },
  IGU_FUNCTION_CALL_ENDED: {
    message: 'call {id} of {name} {state}',
    fix: 'nothing is left to cancel; what came of it is told for an hour',
    retriable: false,
  },
  IGU_FUNCTION_EXPIRED: {
    message: 'the call of {name} did not end within {ms} ms',
    fix: 'give it more time, or raise maxConcurrency',
    retriable: false,
  },
  IGU_FUNCTION_EVENT_DEPTH: {
    message: 'event {id} of type {type} was handed on {depth} times',
    fix: 'a function emits what starts it; change the type it emits or the filter of its trigger',
    retriable: false,
  },
} as const satisfies Record<string, { message: string; fix: string; retriable: boolean }>;

export type ErrorCode = keyof typeof table;

/** An error the world can cause. `message` is the whole user-facing line, `fix` its second half. */
export class IguanaError extends Error {
  override readonly name = 'IguanaError';
  readonly fix: string;
  readonly retriable: boolean;

  constructor(
    readonly code: ErrorCode,
    readonly details: Record<string, string | number> = {},
    options?: { cause?: unknown },
  ) {
    const row = table[code];
    const what = fill(row.message, details);
    // what a place knows better than the table
    const fix = details.fix === undefined ? fill(row.fix, details) : String(details.fix);
    super(`${code} ${what}; ${fix}`, options);
    this.fix = fix;
    this.retriable = row.retriable;
  }
}

/** The rows of the table, for the generated reference. */
export const errorTable: Readonly<Record<ErrorCode, { message: string; fix: string; retriable: boolean }>> = table;

/** What an unknown thrown value says of itself, on one line. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function fill(template: string, details: Record<string, string | number>): string {
  return template.replace(/\{(\w+)\}/g, (_, key: string) => String(details[key] ?? `<${key}>`));
}
