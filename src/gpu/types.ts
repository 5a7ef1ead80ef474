/** Words that discovery, placement, the ledger and the streams share. */

export const gpuVendors = ['nvidia', 'amd', 'intel'] as const;
export type GpuVendor = (typeof gpuVendors)[number];

/**
 * Why a value is not known. `not-supported`: this device or mode has none; `no-permission`; `lost`: the device did not answer; `deprecated`: the tool does not tell any
 * more; `not-reported`: the tool said nothing about it; `invalid`: what it said cannot be; `driver-error`: the tool answered with an error instead.
 */
export type AbsenceReason =
  | 'not-supported'
  | 'no-permission'
  | 'lost'
  | 'deprecated'
  | 'not-reported'
  | 'invalid'
  | 'driver-error';

/** A fact of a device: its value, or why there is none. Unknown is never zero. */
export type Fact<T = number> =
  | { readonly value: T; readonly absent?: undefined }
  | { readonly value: null; readonly absent: AbsenceReason };

/** `ok`; `degraded`: works, but slower or with a warning; `draining`: takes nothing new until something is done; `lost`: is not there. */
export type HealthState = 'ok' | 'degraded' | 'draining' | 'lost';

export interface HealthCause {
  /** `xid-79`, `ecc-uncorrected`, `remap-pending`, `thermal-slowdown`, …: stable, for rules and metrics. */
  readonly code: string;
  readonly state: Exclude<HealthState, 'ok'>;
  readonly what: string;
  /** What to do about it. */
  readonly action: string;
  /** ms since 1970. */
  readonly since: number;
}

export interface GpuHealth {
  /** The worst of the causes. */
  readonly state: HealthState;
  readonly causes: readonly HealthCause[];
}

export interface GpuProcess {
  readonly pid: number;
  readonly name: Fact<string>;
  /** MiB. */
  readonly memoryMb: Fact;
  /** UUID or `gpuInstance/computeInstance` of the partition it runs in, where the tool tells. */
  readonly partition: Fact<string>;
}

/** A hardware partition: a MIG instance or an AMD compute partition. */
export interface GpuPartition {
  /** UUID where the tool tells, else `<gpu id>/<gpu instance>/<compute instance>`. */
  readonly id: string;
  /** `3g.40gb`, `1c.3g.40gb`, `CPX`, … */
  readonly profile: Fact<string>;
  readonly gpuInstance: Fact;
  readonly computeInstance: Fact;
  /** First memory slice and how many. */
  readonly placement: Fact<{ readonly start: number; readonly size: number }>;
  /** MiB. */
  readonly memoryTotalMb: Fact;
  readonly memoryUsedMb: Fact;
}

/** What is known of one GPU at one time. */
export interface Gpu {
  /** The device's UUID, or the bus address where the tool tells none. Never an index: those change at a restart. */
  readonly id: string;
  readonly vendor: GpuVendor;
  readonly name: string;
  /** The tool's own number for it now; for people only. */
  readonly index: Fact;
  readonly busId: Fact<string>;
  readonly serial: Fact<string>;
  readonly driver: Fact<string>;
  /** NVIDIA: `9.0`; AMD: `gfx942`; Intel: as the tool says. */
  readonly architecture: Fact<string>;
  /** MiB. Total = used + free + reserved. */
  readonly memoryTotalMb: Fact;
  readonly memoryUsedMb: Fact;
  readonly memoryFreeMb: Fact;
  readonly memoryReservedMb: Fact;
  /** Per cent of the time with work on it. */
  readonly utilization: Fact;
  readonly memoryUtilization: Fact;
  /** °C. */
  readonly temperature: Fact;
  readonly memoryTemperature: Fact;
  /** W. */
  readonly power: Fact;
  readonly powerLimit: Fact;
  /** MHz. */
  readonly coreClock: Fact;
  readonly memoryClock: Fact;
  readonly fanPercent: Fact;
  /** NVIDIA: `Default`, `Exclusive_Process`, `Prohibited`. */
  readonly computeMode: Fact<string>;
  /** MIG: `enabled`, `disabled`; AMD: `SPX`, `DPX`, `CPX`, … */
  readonly partitionMode: Fact<string>;
  readonly partitions: readonly GpuPartition[];
  /** null: the tool did not tell (which is not the same as none). */
  readonly processes: readonly GpuProcess[] | null;
  /** Facts that health is graded by. */
  readonly signals: HealthSignals;
  readonly health: GpuHealth;
  /** ms since 1970 when a tool last told of it. */
  readonly seenAt: number;
  /** The newest answer is older than it should be, or missing. */
  readonly stale: boolean;
}

export interface HealthSignals {
  /** Since the driver was loaded, and over its life. */
  readonly eccUncorrectedVolatile: Fact;
  readonly eccUncorrectedTotal: Fact;
  readonly remapPending: Fact<boolean>;
  readonly remapFailed: Fact<boolean>;
  readonly retiredPagesPending: Fact<boolean>;
  /** Active reasons by the vendor's names, in kebab-case; without idle and what the user set. */
  readonly throttleReasons: Fact<readonly string[]>;
  /** What the driver asks for: `none`, `gpu-reset`, `node-reboot`, `drain-p2p`, `drain-and-reset`. */
  readonly recoveryAction: Fact<string>;
}

/** @throws RangeError when the value is not finite */
export function known<T>(value: T): Fact<T> {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError(`${value} is no fact`);
  return { value };
}

const absences = new Map<AbsenceReason, Fact<never>>();

export function absent(reason: AbsenceReason): Fact<never> {
  let fact = absences.get(reason);
  if (!fact) {
    fact = Object.freeze({ value: null, absent: reason });
    absences.set(reason, fact);
  }
  return fact;
}

export const healthSignalNames = [
  'eccUncorrectedVolatile',
  'eccUncorrectedTotal',
  'remapPending',
  'remapFailed',
  'retiredPagesPending',
  'throttleReasons',
  'recoveryAction',
] as const satisfies readonly (keyof HealthSignals)[];
