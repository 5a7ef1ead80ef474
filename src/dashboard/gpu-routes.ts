import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { z } from 'zod';
import { IguanaError } from '../errors.js';
import type { GpuDenial, GpuGrant } from '../gpu/allocator.js';
import { gpuName, readGpuRequest, ttlMs, waitMs } from '../gpu/commands.js';
import { isOver } from '../gpu/gpu-over.js';
import type { GpuService } from '../gpu/gpu-service.js';
import { toldGpu } from '../gpu/plain-gpu.js';
import { gpuHttpLimits, gpuSchedulerLimits, httpLimits } from '../limits.js';
import { type ApiAnswer, answerBy, assertMayAsk, checked, readJson } from './api-requests.js';
import type { Connections } from './connections.js';
import { heldByGpu } from './gpu-holders.js';
import { errorAnswer } from './http-errors.js';
import type { BodyReader } from './read-body.js';

/** Routes of GPUs with a sentence each, beside those of the page; also in the answer of `GET /api`. */
export const gpuRoutes = {
  '/api/gpu/nodes': 'nodes with their GPUs and who holds them; ?node= gives one of them',
  '/api/gpu/allocations':
    'allocations and reservations; POST {instance, gpuCount?, memoryMb?, …, waitMs?} allocates, POST {gang, members, waitMs?} for all of a gang or none',
  '/api/gpu/allocations/{idOrInstance}': 'one of them; DELETE gives it back, or ends its wait',
  '/api/gpu/allocations/{idOrInstance}/renew': 'POST is a heartbeat: its lease begins anew',
  '/api/gpu/reservations': "POST {owner, ttlMs, gpuCount?, …} keeps GPUs for an owner's next allocations",
  '/api/gpu/waiting': 'requests that wait for room, and why',
  '/api/gpu/stats': 'GPUs, allocations, waits, refusals, idle reserved hours; who decides',
  '/api/gpu/preallocation': 'what is kept ready from forecasts, and why',
  '/api/gpu/explain': 'POST {gpuCount?, …} tells what speaks against it, GPU by GPU; nothing changes',
  '/api/gpu/plan': 'moves and partitions that would leave less waste; ?maxMoves= (default 10); nothing is done',
} as const;

const gangSchema = z.strictObject({
  gang: gpuName,
  members: z
    .array(z.strictObject({ instance: gpuName, request: z.unknown().optional() }))
    .min(1)
    .max(gpuSchedulerLimits.maxGangMembers),
  waitMs,
});
/** Their other fields are those of the request, which `readGpuRequest` checks. */
const allocateSchema = z.looseObject({ instance: gpuName, waitMs });
const reserveSchema = z.looseObject({
  owner: gpuName,
  ttlMs,
});
const explainSchema = z.looseObject({ instance: gpuName.optional() });

/** For whom it is explained when nobody is named; no instance is likely to be called so. */
const NOBODY = '(explain)';

/** Written out at once, about 2 ms. */
const GPUS_A_TURN = 64;

/** The JSON API of GPUs: who may ask, what they say, what it calls. */
export class GpuRoutes {
  /** By instance or gang: who asked for it last, and waits. */
  private readonly asking = new Map<string, object>();

  constructor(
    private readonly gpus: GpuService,
    private readonly bodies: BodyReader,
    private readonly connections: Connections,
    /** That every request must have; undefined: only requests of this machine are answered, and need none. */
    private readonly token: string | undefined,
    /** Told when the wait of a client that went away cannot be ended. */
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Undefined when nothing of it is at the path. */
  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
  ): Promise<ApiAnswer | undefined> {
    const [, action, argument] = path.match(/^\/api\/gpu\/([a-z]+)(?:\/(.+))?$/s) ?? [];
    if (action === undefined || (argument !== undefined && action !== 'allocations')) return undefined;
    if (!Object.hasOwn(gpuRoutes, `/api/gpu/${action}`)) return undefined;
    assertMayAsk(request, this.token);
    const { gpus } = this;
    const body = async <T>(schema: z.ZodType<T>): Promise<T> =>
      checked(schema, await readJson(this.bodies, request, response, httpLimits.maxApiBytes));
    const route = (methods: Parameters<typeof answerBy>[1]) => answerBy(request, methods);

    if (argument !== undefined) return this.ofOne(request, argument);
    switch (action) {
      case 'nodes':
        return route({ GET: async () => ({ json: await this.nodes(query.get('node')) }) });
      case 'allocations':
        return route({
          GET: () => ({ value: gpus.records() }),
          POST: async () => this.allocate(request, await body(z.looseObject({}))),
        });
      case 'reservations':
        return route({
          POST: async () => {
            const { owner, ttlMs, ...asked } = await body(reserveSchema);
            const reserved = await gpus.reserve(owner, readGpuRequest(owner, asked), ttlMs);
            return 'granted' in reserved ? refused(owner, reserved) : { status: 201, value: reserved };
          },
        });
      case 'waiting':
        return route({ GET: () => ({ value: gpus.waiting() }) });
      case 'stats':
        return route({ GET: () => ({ value: { ...gpus.stats(), role: gpus.role } }) });
      case 'preallocation':
        return route({ GET: () => ({ value: gpus.preallocation() }) });
      case 'explain':
        return route({
          POST: async () => {
            const { instance = NOBODY, ...asked } = await body(explainSchema);
            const wanted = readGpuRequest(instance, asked);
            return { value: { ...gpus.explain(wanted), answer: bounded(gpus.canAllocate(instance, wanted)) } };
          },
        });
      case 'plan':
        return route({ GET: () => ({ value: gpus.plan(movesOf(query)) }) });
      default:
        return undefined;
    }
  }

  private ofOne(request: IncomingMessage, argument: string): Promise<ApiAnswer> | ApiAnswer {
    const { gpus } = this;
    const renewed = isRenewal(request.url ?? '') ? argument.match(/^(.+)\/renew$/s)?.[1] : undefined;
    if (renewed !== undefined) return answerBy(request, { POST: async () => ({ value: await gpus.renew(renewed) }) });
    return answerBy(request, {
      GET: () => {
        const record = gpus.find(argument);
        if (!record) throw new IguanaError('IGU_GPU_ALLOCATION', { id: argument });
        return { value: record };
      },
      DELETE: async () => {
        const released = gpus.find(argument)?.id ?? argument;
        await gpus.release(argument);
        return { value: { released } };
      },
    });
  }

  /** Of a large cluster it is megabytes, so others have their turn in between. */
  private async nodes(only: string | null): Promise<string> {
    const { gpus } = this;
    const nodes = gpus.nodes().filter(({ node }) => only === null || node === only);
    if (only !== null && nodes.length === 0) {
      throw new IguanaError('IGU_NOT_FOUND', { what: 'node', name: only, fix: 'GET /api/gpu/nodes lists them' });
    }
    const holders = heldByGpu(gpus.records());
    const written: string[] = [];
    let since = 0;
    for (const { node, at, silent, gpus: all } of nodes) {
      const plain = all.map((gpu) => ({ ...toldGpu(gpu), holders: holders(node, gpu.id) }));
      written.push(JSON.stringify({ node, at, silent, gpus: plain }));
      since += all.length;
      if (since < GPUS_A_TURN) continue;
      since = 0;
      await othersTurn();
    }
    return `[${written.join(',')}]`;
  }

  private async allocate(request: IncomingMessage, given: object): Promise<ApiAnswer> {
    const { gpus } = this;
    if ('gang' in given) {
      const { gang, members, waitMs } = checked(gangSchema, given);
      const wanted = members.map(({ instance, request: asked }) => ({
        instance,
        request: readGpuRequest(instance, asked ?? {}),
      }));
      const answer = await this.waiting(request, gang, waitMs, () => gpus.allocateGang(gang, wanted, { waitMs }));
      return 'granted' in answer ? refused(gang, answer) : { status: 201, value: answer };
    }
    const { instance, waitMs, ...asked } = checked(allocateSchema, given);
    const wanted = readGpuRequest(instance, asked);
    const answer = await this.waiting(request, instance, waitMs, () => gpus.allocate(instance, wanted, { waitMs }));
    return answer.granted ? { status: 201, value: answer } : refused(instance, answer);
  }

  /** Whether an instance, or one of a gang, has something that a release by this name would give back. */
  private holds(who: string): boolean {
    const { gpus } = this;
    if (gpus.find(who) !== undefined) return true;
    return gpus.records().some((record) => record.kind === 'allocation' && record.gang === who);
  }

  /**
   * Whoever goes away does not wait any more. It is given back only what it waited for: what was held before stays, and so does what was asked for again since.
   */
  private async waiting<T>(
    { socket }: IncomingMessage,
    who: string,
    waitMs: number,
    ask: () => Promise<T>,
  ): Promise<T> {
    const { gpus } = this;
    if (waitMs === 0 || this.holds(who)) return ask();
    const signal = this.connections.signalOf(socket);
    const mine = {};
    const gone = (): void => {
      if (this.asking.get(who) !== mine) return;
      gpus.release(who).catch((error: unknown) => {
        if (!isOver(error)) this.onError(error);
      });
    };
    this.asking.set(who, mine);
    signal.addEventListener('abort', gone);
    try {
      return await ask();
    } finally {
      signal.removeEventListener('abort', gone);
      if (this.asking.get(who) === mine) this.asking.delete(who);
    }
  }
}

/** A name may end so too, with its `/` as `%2F`. */
function isRenewal(url: string): boolean {
  return /\/renew$/.test(url.split('?', 1)[0]!);
}

/** The error with all of the denial, for programs that want to know which GPU did not do. */
function refused(instance: string, denial: GpuDenial): ApiAnswer {
  const { status, body } = errorAnswer(new IguanaError('IGU_GPU_REFUSED', { instance, what: denial.what }));
  return { status, value: { ...body, denial: bounded(denial) } };
}

/** Of a large cluster, not the reasons of all GPUs. */
function bounded(answer: GpuGrant | GpuDenial): GpuGrant | (GpuDenial & { readonly gpusLeftOut: number }) {
  if (answer.granted) return answer;
  const gpus = answer.gpus.slice(0, gpuHttpLimits.maxRefusals);
  return { ...answer, gpus, gpusLeftOut: answer.gpus.length - gpus.length };
}

function movesOf(query: URLSearchParams): number | undefined {
  const text = query.get('maxMoves');
  if (text === null) return undefined;
  const moves = Number(text);
  if (/^\d{1,6}$/.test(text) && moves <= gpuHttpLimits.maxMoves) return moves;
  throw new IguanaError('IGU_CONFIG', {
    where: '?maxMoves',
    what: `it must be a whole number from 0 to ${gpuHttpLimits.maxMoves}`,
    fix: 'leave it out for 10',
  });
}
