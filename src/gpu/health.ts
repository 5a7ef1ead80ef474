import { gpuMonitorLimits } from '../limits.js';
import type { AbsenceReason, Fact, Gpu, GpuHealth, HealthCause, HealthState } from './types.js';
import { meaningOfXid, type XidEvent } from './xid.js';

/** Something that speaks against a GPU at this moment. */
interface Sign extends Omit<HealthCause, 'since'> {
  /** It has to be there for so long before it counts, ms. */
  readonly raiseAfterMs: number;
  /** It has to be gone for so long before it is over, ms. */
  readonly clearAfterMs: number;
}

interface Remembered {
  sign: Sign;
  first: number;
  last: number;
  raised: boolean;
}

export interface HealthOptions {
  /** Signs that come and go have to be there for so long, ms; default 3,000. */
  readonly raiseAfterMs?: number;
  /** And gone for so long, ms; default 30,000. */
  readonly clearAfterMs?: number;
  /** A GPU that was lost has to answer for so long, ms; default 10,000. */
  readonly trustAfterMs?: number;
  /** An Xid of a device fault is over so long after the last one, ms; default 600,000. */
  readonly xidClearAfterMs?: number;
}

const rank: Readonly<Record<HealthState, number>> = { ok: 0, degraded: 1, draining: 2, lost: 3 };

/** The worst of states; none: `ok`. */
export function worstState(states: Iterable<HealthState>): HealthState {
  let worst: HealthState = 'ok';
  for (const state of states) if (rank[state] > rank[worst]) worst = state;
  return worst;
}

/**
 * Grades the health of GPUs from what was told of them, and remembers: a sign counts when it lasts, and is over by itself when it was gone for long enough. A fact that is not
 * known for the moment (the GPU is lost, the driver gave an error) neither raises a sign nor ends one. Nothing here needs a restart or an acknowledgement.
 */
export class HealthGrader {
  private readonly memory = new Map<string, Map<string, Remembered>>();
  private readonly errors = new Map<string, number>();
  private readonly options: Required<HealthOptions>;

  constructor(options: HealthOptions = {}) {
    this.options = {
      raiseAfterMs: options.raiseAfterMs ?? gpuMonitorLimits.raiseAfterMs,
      clearAfterMs: options.clearAfterMs ?? gpuMonitorLimits.clearAfterMs,
      trustAfterMs: options.trustAfterMs ?? gpuMonitorLimits.trustAfterMs,
      xidClearAfterMs: options.xidClearAfterMs ?? gpuMonitorLimits.xidClearAfterMs,
    };
  }

  /**
   * One look at a GPU.
   *
   * @param seen it was in the newest answer; `unanswered`: there is no new answer; `missing`: there is, without it
   */
  grade(gpu: Gpu, seen: 'seen' | 'unanswered' | 'missing', now: number): GpuHealth {
    const { signs, unsure } = this.look(gpu, seen);
    const of = this.memory.get(gpu.id) ?? new Map<string, Remembered>();
    this.memory.set(gpu.id, of);
    for (const sign of signs) {
      const known = of.get(sign.code);
      if (known) {
        known.sign = sign;
        known.last = now;
        known.raised ||= now - known.first >= sign.raiseAfterMs;
      } else of.set(sign.code, { sign, first: now, last: now, raised: sign.raiseAfterMs <= 0 });
    }
    const present = new Set(signs.map(({ code }) => code));
    for (const [code, known] of of) {
      if (present.has(code)) continue;
      if (unsure(code)) {
        if (known.raised) known.last = Math.max(known.last, now);
      } else if (!known.raised || now - known.last >= known.sign.clearAfterMs) of.delete(code);
    }
    const causes = [...of.values()].filter(({ raised }) => raised).map((known) => causeOf(known, present));
    causes.sort((a, b) => rank[b.state] - rank[a.state] || a.since - b.since || (a.code < b.code ? -1 : 1));
    if (of.size === 0) this.memory.delete(gpu.id);
    return { state: worstState(causes.map(({ state }) => state)), causes };
  }

  /** An event of the kernel log, at its own time: one that is long past no longer counts. */
  xid(id: string, event: Pick<XidEvent, 'xid' | 'what'>, at: number, now: number): void {
    const meaning = meaningOfXid(event.xid);
    if (!meaning || now - at >= this.options.xidClearAfterMs) return;
    const of = this.memory.get(id) ?? new Map<string, Remembered>();
    this.memory.set(id, of);
    const known = of.get(meaning.code);
    const what = event.what ? `${meaning.what} (${event.what})` : meaning.what;
    const sign = { ...meaning, what, raiseAfterMs: 0, clearAfterMs: this.options.xidClearAfterMs };
    if (known) Object.assign(known, { sign, last: Math.max(known.last, at), raised: true });
    else of.set(meaning.code, { sign, first: at, last: at, raised: true });
  }

  forget(id: string): void {
    this.memory.delete(id);
    this.errors.delete(id);
  }

  private look(
    gpu: Gpu,
    seen: 'seen' | 'unanswered' | 'missing',
  ): { signs: Sign[]; unsure: (code: string) => boolean } {
    const { clearAfterMs, raiseAfterMs, trustAfterMs, xidClearAfterMs } = this.options;
    const signs: Sign[] = [];
    const unknown = new Set<string>();
    const add = (
      [code, state, what, action]: readonly [string, Sign['state'], string, string],
      raise: number,
      clear: number,
    ): void => {
      signs.push({ code, state, what, action, raiseAfterMs: raise, clearAfterMs: clear });
    };
    const flag = (fact: Fact<boolean>, row: readonly [string, Sign['state'], string, string]): void => {
      if (fact.value) add(row, 0, 0);
      if (passing(fact.absent)) unknown.add(row[0]);
    };
    if (seen === 'missing') add(['lost', 'lost', 'the tool does not tell of it any more', lostAction], 0, trustAfterMs);
    if (gpu.stale && seen !== 'missing')
      add(
        ['not-answering', 'draining', 'the tool gives no answer', 'look at the kernel log: the driver may hang'],
        0,
        0,
      );
    if (seen !== 'seen') return { signs, unsure: (code) => code !== 'not-answering' };

    const { signals } = gpu;
    const action = signals.recoveryAction;
    if (action.value !== null && action.value !== 'none')
      add(
        [
          `recovery-${action.value}`,
          action.value === 'drain-p2p' ? 'degraded' : 'draining',
          `the driver asks for ${action.value.replaceAll('-', ' ')}`,
          recoveryText[action.value] ?? 'do what the driver asks for',
        ],
        0,
        0,
      );
    const ecc = signals.eccUncorrectedVolatile;
    if (ecc.value !== null) {
      const before = this.errors.get(gpu.id);
      this.errors.set(gpu.id, ecc.value);
      if (ecc.value > 0)
        add(
          [
            'ecc-uncorrected',
            'degraded',
            `${ecc.value} ECC errors that could not be corrected`,
            'reset it when it is idle',
          ],
          0,
          0,
        );
      if (before !== undefined && ecc.value > before)
        add(
          [
            'ecc-rising',
            'draining',
            `ECC errors that could not be corrected rose from ${before} to ${ecc.value}`,
            resetAction,
          ],
          0,
          xidClearAfterMs,
        );
    } else if (passing(ecc.absent)) unknown.add('ecc-uncorrected').add('ecc-rising');
    flag(signals.remapFailed, ['remap-failed', 'draining', 'a row of memory could not be remapped', 'replace the GPU']);
    flag(signals.remapPending, ['remap-pending', 'degraded', 'a row of memory waits to be remapped', resetAction]);
    flag(signals.retiredPagesPending, [
      'retire-pending',
      'degraded',
      'pages of memory wait to be retired',
      resetAction,
    ]);
    const reasons = signals.throttleReasons;
    for (const [code, pattern, what, todo] of throttles)
      if (passing(reasons.absent)) unknown.add(code);
      else if (reasons.value?.some((reason) => pattern.test(reason)))
        add([code, 'degraded', what, todo], raiseAfterMs, clearAfterMs);
    return { signs, unsure: (code) => unknown.has(code) };
  }
}

/** Once it answers again it is watched for a while, and takes nothing new until then. */
function causeOf({ sign, first }: Remembered, present: ReadonlySet<string>): HealthCause {
  const { code, state, what, action } = sign;
  if (state === 'lost' && !present.has(code))
    return { code, state: 'draining', what: `${what}; it answers again and is watched`, action, since: first };
  return { code, state, what, action, since: first };
}

/** Not known just now, as against never. */
function passing(reason: AbsenceReason | undefined): boolean {
  return reason === 'lost' || reason === 'driver-error' || reason === 'invalid';
}

const lostAction = 'look for Xid 79 in the kernel log; reboot the machine; check power and seating when it comes again';
const resetAction = 'reset the GPU when it is idle (nvidia-smi --gpu-reset -i UUID)';

const recoveryText: Readonly<Record<string, string>> = {
  'gpu-reset': resetAction,
  'node-reboot': 'drain the machine and reboot it',
  'drain-p2p': 'stop programs that use several GPUs together, then reset',
  'drain-and-reset': 'let what runs finish, then reset the GPU',
};

/** A cap on power is how a GPU works at full load, and no sign. */
const throttles: readonly (readonly [string, RegExp, string, string])[] = [
  ['thermal-slowdown', /thermal|prochot/, 'it runs slower because it is hot', 'check fans, air and dust'],
  [
    'power-brake',
    /power-brake/,
    'it runs slower because the power supply asks for it',
    'check power supply and cables',
  ],
  ['hw-slowdown', /^hw-slowdown$/, 'the hardware slowed it down', 'check temperature, power supply and cables'],
];
