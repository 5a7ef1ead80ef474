import { absent, type Gpu, type HealthState, known } from '../../../src/gpu/types.js';

/** A GPU of which little is known but what a test says. */
export function gpuOf(id: string, parts: Partial<Gpu> = {}): Gpu {
  const none = absent('not-reported');
  return {
    id,
    vendor: 'nvidia',
    name: 'NVIDIA A100-SXM4-40GB',
    index: none,
    busId: none,
    serial: none,
    driver: none,
    architecture: known('8.0'),
    memoryTotalMb: known(40_000),
    memoryUsedMb: none,
    memoryFreeMb: none,
    memoryReservedMb: none,
    utilization: none,
    memoryUtilization: none,
    temperature: none,
    memoryTemperature: none,
    power: none,
    powerLimit: none,
    coreClock: none,
    memoryClock: none,
    fanPercent: none,
    computeMode: none,
    partitionMode: none,
    partitions: [],
    processes: [],
    signals: {
      eccUncorrectedVolatile: none,
      eccUncorrectedTotal: none,
      remapPending: none,
      remapFailed: none,
      retiredPagesPending: none,
      throttleReasons: none,
      recoveryAction: none,
    },
    health: { state: 'ok', causes: [] },
    seenAt: 0,
    stale: false,
    ...parts,
  };
}

export function healthOf(state: HealthState): Gpu['health'] {
  if (state === 'ok') return { state, causes: [] };
  return {
    state,
    causes: [{ code: 'xid-79', state, what: 'fallen off the bus', action: 'reboot the node', since: 0 }],
  };
}
