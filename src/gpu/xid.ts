import type { HealthCause } from './types.js';

/** An event of the NVIDIA driver in the kernel's log. */
export interface XidEvent {
  readonly busId: string;
  readonly xid: number;
  readonly what: string;
  /** Seconds since the machine started, where the log tells. */
  readonly uptime: number | undefined;
}

/** Reads lines such as `[ 1234.5] NVRM: Xid (PCI:0000:01:00): 79, pid=77, GPU has fallen off the bus.` from a kernel log; other lines are passed over. */
export function parseXids(log: string): readonly XidEvent[] {
  const found: XidEvent[] = [];
  for (const line of log.split('\n')) {
    if (!line.includes('NVRM: Xid')) continue;
    const match =
      /NVRM: Xid \(PCI:([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?)\): (\d{1,5})\b[,:]?\s*(.*)$/i.exec(line);
    if (!match) continue;
    const uptime = /^(?:<\d+>)?\[\s*(\d+\.\d+)\]/.exec(line)?.[1];
    found.push({
      busId: match[1] as string,
      xid: Number(match[2]),
      what: (match[3] ?? '').trim().slice(0, 200),
      uptime: uptime === undefined ? undefined : Number(uptime),
    });
  }
  return found;
}

/** `00000000:01:00.0`, `0000:01:00` and `0000:01:00.0` are the same place. */
export function busKey(busId: string): string {
  const match = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})(?:\.[0-9a-f])?$/i.exec(busId.trim());
  if (!match) return busId.trim().toLowerCase();
  return `${Number.parseInt(match[1] as string, 16).toString(16)}:${match[2]}:${match[3]}`.toLowerCase();
}

/** A program's own fault: nothing is wrong with the GPU. 63 says that a row was remapped, which the driver tells better itself. */
const harmless = new Set([13, 31, 43, 45, 63, 68, 109, 154]);

const severe: Readonly<Record<number, readonly [HealthCause['state'], string, string]>> = {
  46: ['draining', 'the GPU stopped processing', 'reset the GPU when it is idle'],
  48: ['draining', 'an ECC error that could not be corrected', 'reset the GPU when it is idle'],
  62: ['draining', 'the power controller of the GPU halted', 'reset the GPU when it is idle'],
  64: ['draining', 'a row of memory could not be remapped', 'reset the GPU; replace it when it comes again'],
  74: ['degraded', 'an error on NVLink', 'check the links with nvidia-smi nvlink -e; reset when it comes again'],
  79: ['lost', 'the GPU fell off the bus', 'reboot the machine; check power and seating when it comes again'],
  92: ['degraded', 'many ECC errors that were corrected', 'watch it; run the field diagnostics when it goes on'],
  94: ['degraded', 'an ECC error that was contained', 'restart the program that had it'],
  95: ['draining', 'an ECC error that was not contained', 'stop what runs on the GPU and reset it'],
  119: ['draining', 'the GPU System Processor does not answer', 'reset the GPU when it is idle'],
  120: ['draining', 'the GPU System Processor failed', 'reset the GPU when it is idle'],
  140: ['draining', 'an ECC error that was not recovered', 'reset the GPU when it is idle'],
};

/** What an Xid means for the health of a GPU; undefined: nothing. After NVIDIA's Xid catalogue; one that is not known here is a warning. */
export function meaningOfXid(xid: number): Omit<HealthCause, 'since'> | undefined {
  if (harmless.has(xid)) return undefined;
  const [state, what, action] = severe[xid] ?? [
    'degraded',
    'an error that NVIDIA gives this number',
    "look it up in NVIDIA's Xid catalogue",
  ];
  return { code: `xid-${xid}`, state, what: `Xid ${xid}: ${what}`, action };
}
