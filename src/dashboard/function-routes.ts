import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { defined } from '../defined.js';
import { IguanaError } from '../errors.js';
import { functionSchema } from '../functions/definition.js';
import type { DeployedFunction, Deployment } from '../functions/function-service.js';
import { assertPeriod } from '../functions/given-numbers.js';
import { qualified } from '../functions/qualified-name.js';
import { assertDepth, readCloudEvents } from '../functions/triggers/cloud-events.js';
import { httpLimits } from '../limits.js';
import { type ApiAnswer, answerBy, assertMayAsk, checked, readJson } from './api-requests.js';
import type { Connections } from './connections.js';
import type { AsyncCallStatus, FunctionApi } from './function-api.js';
import type { FunctionRequests } from './function-requests.js';
import type { BodyReader } from './read-body.js';

/** Routes of functions with a sentence each, beside those of the page; also in the answer of `GET /api`. */
export const functionRoutes = {
  '/api/events': 'POST a CloudEvent, structured, binary or a batch: it starts the functions that wait for such',
  '/api/functions': 'functions with their triggers; POST {definition, code: base64} deploys one',
  '/api/functions/{name}': 'one of them; DELETE deletes it',
  '/api/functions/{name}/invoke':
    'POST {input, timeoutMs?, async?, qualifier?} calls it; {name}:{alias or version} too',
  '/api/functions/{name}/calls/{id}': 'an asynchronous call; DELETE cancels it',
  '/api/functions/{name}/metrics': 'calls, durations, cold starts, instances',
  '/api/functions/{name}/logs': 'newest lines of its log',
  '/api/functions/{name}/billing': 'usage and cost; ?start= and ?end= in ms since 1970 or ISO 8601',
  '/api/functions/{name}/stats': 'paused or not, keep-alive, triggers with lag, oldest age and what was counted',
  '/api/functions/{name}/prewarm': 'POST {instances} has so many ready',
  '/api/functions/{name}/pause': 'POST stops what its triggers do',
  '/api/functions/{name}/resume': 'POST starts it again',
  '/api/functions/{name}/aliases/{alias}':
    'PUT {weights: {version: share}} says which versions the alias calls; DELETE removes it',
} as const;

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/, 'base64');
const deploySchema = z.strictObject({ definition: z.record(z.string(), z.unknown()), code: base64.optional() });
const invokeSchema = z.strictObject({
  input: z.unknown(),
  timeoutMs: z.number().int().min(1).max(900_000).optional(),
  async: z.boolean().default(false),
  qualifier: z.union([z.string().min(1).max(128), z.number().int().min(1)]).optional(),
});
const prewarmSchema = z.strictObject({ instances: z.number().int().min(0).max(1_000) });
const aliasSchema = z.strictObject({
  weights: z.record(z.string().regex(/^[1-9]\d{0,8}$/, 'a version'), z.number().gt(0).max(1)),
});
const time = z
  .string()
  .transform((text) => (/^\d+$/.test(text) ? Number(text) : Date.parse(text)))
  .refine(Number.isFinite, 'ms since 1970, or a time in ISO 8601')
  .optional();
const periodSchema = z.object({ start: time, end: time });

/** The JSON API of functions: who may ask, what they say, what it calls. */
export class FunctionRoutes {
  constructor(
    private readonly functions: FunctionApi,
    private readonly requests: FunctionRequests,
    private readonly bodies: BodyReader,
    private readonly connections: Connections,
    /** That every request must have; undefined: only requests of this machine are answered, and need none. */
    private readonly token: string | undefined,
  ) {}

  /** Undefined when nothing of it is at the path. */
  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
  ): Promise<ApiAnswer | undefined> {
    const [, given, action, argument, ...more] = path.match(/^\/api\/functions(?:\/(.*))?$/)
      ? ['', ...pathOf(path)]
      : [];
    const isEvents = path === '/api/events' && this.functions.publish !== undefined;
    if (!(isEvents || path.startsWith('/api/functions')) || more.length > 0) return undefined;
    if (!isEvents && given === undefined && path !== '/api/functions') return undefined;
    assertMayAsk(request, this.token);
    const { functions } = this;
    const body = async <T>(schema: z.ZodType<T>, limit: number): Promise<T> =>
      checked(schema, await readJson(this.bodies, request, response, limit));
    const route = (methods: Parameters<typeof answerBy>[1]) => answerBy(request, methods);

    if (isEvents) return route({ POST: () => this.publish(request, response) });
    if (given === undefined) {
      return route({
        GET: () => ({ value: functions.list().map((one) => this.shown(one, false)) }),
        POST: async () => {
          const deployment = deploymentOf(await body(deploySchema, httpLimits.maxDeployBytes));
          return { status: 201, value: this.shown(await functions.deploy(deployment), false) };
        },
      });
    }
    const name = action === 'invoke' ? qualified(given, {}).name : given;
    const one = functions.list().find((each) => each.name === name);
    if (!one) throw new IguanaError('IGU_FUNCTION_NOT_FOUND', { name });
    if (action === undefined) {
      return route({
        GET: () => ({ value: this.shown(one, true) }),
        DELETE: async () => {
          await functions.delete(name);
          return { value: { deleted: name } };
        },
      });
    }
    if (action === 'aliases' && argument !== undefined) {
      return route({
        PUT: async () => {
          const { weights } = await body(aliasSchema, httpLimits.maxApiBytes);
          await functions.setAlias(name, argument, weights);
          return { value: { function: name, alias: argument, weights } };
        },
        DELETE: async () => {
          await functions.deleteAlias(name, argument);
          return { value: { function: name, deleted: argument } };
        },
      });
    }
    if (action === 'calls' && argument !== undefined) {
      const callOf = () => {
        const call = functions.asyncCall?.(argument);
        if (call?.function !== name) throw noCall(argument, name);
        return call;
      };
      return route({
        GET: () => ({ value: callOf() }),
        DELETE: async () => {
          callOf();
          if (await functions.cancelAsyncCall?.(argument)) return { value: { cancelled: argument } };
          const { state } = callOf();
          throw new IguanaError('IGU_FUNCTION_CALL_ENDED', { id: argument, name, state: endedAs(state) });
        },
      });
    }
    if (argument !== undefined) return undefined;
    switch (action) {
      case 'invoke':
        return route({
          POST: async () => this.invoke(request.socket, given, await body(invokeSchema, httpLimits.maxInvokeBytes)),
        });
      case 'metrics':
        return route({ GET: () => ({ value: functions.metrics(name) }) });
      case 'logs':
        return route({ GET: () => ({ value: functions.logs(name) }) });
      case 'stats':
        return route({ GET: () => ({ value: functions.stats(name) }) });
      case 'billing':
        return route({
          GET: async () => {
            const period = defined(checked(periodSchema, Object.fromEntries(query)));
            assertPeriod(period);
            return { value: await functions.billing(name, period) };
          },
        });
      case 'prewarm':
        return route({
          POST: async () => {
            const { instances } = await body(prewarmSchema, httpLimits.maxApiBytes);
            await functions.prewarm(name, instances);
            return { value: { instances: functions.metrics(name).instances } };
          },
        });
      case 'pause':
      case 'resume':
        return route({
          POST: async () => {
            await functions[action](name);
            return { value: { paused: action === 'pause' } };
          },
        });
      default:
        return undefined;
    }
  }

  private async invoke(socket: Socket, given: string, call: z.infer<typeof invokeSchema>): Promise<ApiAnswer> {
    const { input, timeoutMs, qualifier } = call;
    const { name, options } = qualified(given, defined({ timeoutMs, qualifier }));
    if (call.async) {
      if (!this.functions.invokeAsync) {
        throw new IguanaError('IGU_USAGE', { what: 'asynchronous calls are not taken by this process' });
      }
      return { status: 202, value: await this.functions.invokeAsync(name, input ?? null, options) };
    }
    const event = { trigger: 'call', input: input ?? null } as const;
    const signal = this.connections.signalOf(socket);
    const invocationId = randomUUID();
    try {
      const result = await this.functions.invoke(name, event, { invocationId, signal, ...options });
      return { value: { ...result, output: plain(result.output) } };
    } catch (error) {
      throw error instanceof IguanaError ? ofCall(error, invocationId) : error;
    }
  }

  private async publish(request: IncomingMessage, response: ServerResponse): Promise<ApiAnswer> {
    const body = (await this.bodies.read(request, response, httpLimits.maxInvokeBytes)) ?? null;
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(request.headers)) {
      if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
    }
    const events = readCloudEvents(headers, body);
    // all or none, as far as that can be known before
    for (const event of events) assertDepth(event);
    for (const event of events) await this.functions.publish?.(event);
    return { status: 202, value: { accepted: events.length } };
  }

  /** The code of an inline definition can be large, and is shown only with the function itself. */
  private shown({ name, version, definition, aliases }: DeployedFunction, withCode: boolean): object {
    const { code, ...rest } = definition;
    const notServed = this.requests.problems
      .filter(({ details }) => details.name === name)
      .map(({ code: error, message, fix }) => ({ code: error, message, fix }));
    const { paused } = this.functions.stats(name);
    return { name, version, aliases, paused, definition: withCode ? definition : rest, notServed };
  }
}

function pathOf(path: string): string[] {
  return path.slice('/api/functions'.length).split('/').slice(1);
}

/** The same error with the id that its lines in the log have. */
function ofCall(error: IguanaError, invocationId: string): IguanaError {
  return new IguanaError(error.code, { ...error.details, invocationId }, { cause: error });
}

/** Of a call that cannot be cancelled. */
function endedAs(state: AsyncCallStatus['state']): string {
  if (state === 'succeeded' || state === 'failed') return `has ${state} already`;
  return state === 'cancelled' ? 'was cancelled already' : 'is being cancelled';
}

function noCall(id: string, name: string): IguanaError {
  const fix = 'the id is in the answer of the call; calls that are done are kept for a while only';
  return new IguanaError('IGU_NOT_FOUND', { what: `call of ${name}`, name: id, fix });
}

function deploymentOf({ definition, code }: z.infer<typeof deploySchema>): Deployment {
  if (code === undefined) {
    const parsed = checked(functionSchema, definition);
    if (!('inline' in parsed.code)) {
      throw new IguanaError('IGU_HTTP_BODY', { what: 'code is missing: files of the sender cannot be read here' });
    }
    const { inline } = parsed.code;
    return { definition: parsed, code: Buffer.from(inline, parsed.runtime === 'wasm' ? 'base64' : 'utf8') };
  }
  const bytes = Buffer.from(code, 'base64');
  const inline = definition.runtime === 'wasm' ? code : bytes.toString();
  // the name of its file tells TypeScript
  return { definition: checked(functionSchema, { code: { inline }, ...definition }), code: bytes };
}

/** What JSON has no form for is told as it is in the event's convention: bytes as base64. */
function plain(output: unknown): unknown {
  if (output instanceof Uint8Array) return { base64: Buffer.from(output).toString('base64') };
  return output;
}
