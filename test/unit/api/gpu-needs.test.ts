import { expect, it } from 'vitest';
import { type GpuNeeds, requestOf } from '../../../src/api/gpu-needs.js';

it('asks for a GPU when anything of one is said, and for none else', () => {
  const said: GpuNeeds[] = [
    ...[{ gpuMemory: 1_000 }, { gpuShare: 0.5 }, { exclusive: true }, { minComputeCapability: '8.0' }],
    ...[{ model: 'A100' }, { vendor: 'nvidia' as const }, { mode: 'mps' as const }, { profile: '1g.5gb' }],
    ...[{ node: 'here' }, { owner: 'team' }, { priority: 1 }, { preempt: true }, { leaseMs: null }],
  ];
  for (const needs of said) expect(requestOf(needs)).toMatchObject({ gpuCount: 1 });
  expect(requestOf({ vendor: 'amd', gpu: 3, gpuMemory: 2_000, gpuShare: 0.25, leaseMs: null })).toEqual({
    ...{ gpuCount: 3, vendor: 'amd', memoryMb: 2_000, computeShare: 0.25, leaseMs: null },
  });
  expect(requestOf({ gpu: true })).toEqual({ gpuCount: 1 });
  for (const needs of [{}, { waitMs: 5 }, { gpu: false, model: 'A100' }]) expect(requestOf(needs)).toBeUndefined();
});
