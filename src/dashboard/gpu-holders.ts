import type { GpuHolding, LedgerRecord, SharingMode } from '../gpu/ledger.js';

/** What one allocation or reservation has of one GPU. */
export interface HeldGpu {
  /** Of the allocation or reservation. */
  readonly allocation: string;
  /** null: a reservation, which is for no instance yet. */
  readonly instance: string | null;
  readonly owner: string;
  readonly kind: LedgerRecord['kind'];
  readonly mode: SharingMode;
  /** MiB. */
  readonly memoryMb: number | null;
  /** Thousandths of its compute. */
  readonly shareMilli: number;
  readonly partition: NonNullable<GpuHolding['partition']> | null;
}

const nobody: readonly HeldGpu[] = [];

/**
 * Who holds what, by node and GPU: a GPU that is known by its bus address only may have a namesake on another node.
 * Cost: O(holdings) once, O(1) a GPU.
 */
export function heldByGpu(records: Iterable<LedgerRecord>): (node: string, gpuId: string) => readonly HeldGpu[] {
  const held = new Map<string, HeldGpu[]>();
  const keyOf = (node: string, gpuId: string): string => `${node}\n${gpuId}`;
  for (const record of records) {
    for (const { node, gpuId, mode, memoryMb, shareMilli, partition = null } of record.holdings) {
      const instance = record.kind === 'allocation' ? record.instance : null;
      const { id: allocation, owner, kind } = record;
      const one = { allocation, instance, owner, kind, mode, memoryMb, shareMilli, partition };
      const key = keyOf(node, gpuId);
      const others = held.get(key);
      if (others) others.push(one);
      else held.set(key, [one]);
    }
  }
  return (node, gpuId) => held.get(keyOf(node, gpuId)) ?? nobody;
}
