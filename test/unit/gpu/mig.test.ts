import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expectedRequests, MigOutlook } from '../../../src/gpu/mig/mig-outlook.js';
import { planMig, planWhole } from '../../../src/gpu/mig/mig-plan.js';
import { type MigProfileSet, migModelOf, slicesOf } from '../../../src/gpu/mig/mig-profiles.js';
import { migTableOf } from '../../../src/gpu/mig/mig-table.js';

const A100 = 'NVIDIA A100-SXM4-40GB';
const tableOf = (product: string, set?: MigProfileSet) => migTableOf(migModelOf(product, set)!);
const maximal = (product: string, set?: MigProfileSet): number => {
  const table = tableOf(product, set);
  return table.layouts.filter((_, layout) => table.isMaximal(layout)).length;
};

describe('the table of legal layouts', () => {
  test.each([
    [A100, 'base', 298, 19],
    ['NVIDIA H100 80GB HBM3', 'base', 298, 19],
    ['NVIDIA H200', 'base', 298, 19],
    [A100, 'double', 723, 78],
    [A100, 'media', 2_319, 239],
    ['NVIDIA A30', 'base', 26, 5],
  ] as const)('%s with %s profiles has %i layouts, %i of them full', (product, set, layouts, full) => {
    expect(tableOf(product, set).layouts).toHaveLength(layouts);
    expect(maximal(product, set)).toBe(full);
  });

  test('is what trying every set of placements gives', () => {
    const { placements, layouts, model } = tableOf(A100, 'base');
    const legal = new Set<number>();
    for (let bits = 0; bits < 2 ** placements.length; bits++) {
      let slices = 0;
      let compute = 0;
      let fits = true;
      for (let p = 0; p < placements.length && fits; p++) {
        if ((bits & (1 << p)) === 0) continue;
        fits = (slices & slicesOf(placements[p]!)) === 0;
        slices |= slicesOf(placements[p]!);
        compute += placements[p]!.profile.compute;
      }
      if (!fits) continue;
      expect(compute).toBeLessThanOrEqual(model.computeSlices);
      legal.add(bits);
    }
    expect(new Set(layouts)).toEqual(legal);
  });

  test('knows models by what the driver calls them, and no others', () => {
    expect(migModelOf('NVIDIA A100-SXM4-80GB')?.profiles.map(({ name }) => name)).toContain('3g.40gb');
    expect(migModelOf('NVIDIA H200')?.profiles.map(({ name }) => name)).toContain('1g.18gb');
    expect(migModelOf('NVIDIA A100 80GB PCIe')?.name).toBe('A100-80GB');
    expect(migModelOf('NVIDIA L40S')).toBeUndefined();
    expect(migModelOf('NVIDIA A10G')).toBeUndefined();
    expect(migModelOf('NVIDIA H100 NVL')).toBeUndefined();
  });

  test('no sequence of making and destroying yields an illegal layout', () => {
    for (const [product, set] of [[A100, 'media'] as const, ['NVIDIA A30', 'base'] as const]) {
      const table = tableOf(product, set);
      fc.assert(
        fc.property(fc.array(fc.tuple(fc.nat(), fc.boolean()), { maxLength: 60 }), (steps) => {
          let layout = 0;
          for (const [number, destroy] of steps) {
            const there = table.placementsOf(layout);
            if (destroy && there.length > 0) layout = table.without(layout, there[number % there.length]!);
            else {
              const next = table.with(layout, number % table.placements.length);
              if (next >= 0) layout = next;
            }
            const now = table.placementsOf(layout).map((p) => table.placements[p]!);
            const slices = now.reduce((sum, one) => sum + slicesOf(one), 0);
            expect(slices).toBe(table.occupied[layout]);
            expect(now.reduce((sum, { profile }) => sum + profile.memory, 0)).toBeLessThanOrEqual(
              table.model.memorySlices,
            );
            expect(now.reduce((sum, { profile }) => sum + profile.compute, 0)).toBeLessThanOrEqual(
              table.model.computeSlices,
            );
            for (const { profile, start } of now) expect(profile.starts).toContain(start);
            expect(now.filter(({ profile }) => profile.name.endsWith('+me')).length).toBeLessThanOrEqual(1);
          }
        }),
        { numRuns: 200 },
      );
    }
  });
});

describe('the next place', () => {
  /** E[max(0, D − n)] summed term by term. */
  const refusals = (mean: number, n: number): number => {
    let sum = 0;
    let p = Math.exp(-mean);
    for (let d = 1; d < 400; d++) {
      p *= mean / d;
      if (d > n) sum += (d - n) * p;
    }
    return sum;
  };

  test('costs what the expected refusals of the whole cluster rise by', () => {
    const table = tableOf(A100, 'base');
    const expected = expectedRequests(table, { '1g.5gb': 3, '2g.10gb': 2, '3g.20gb': 2, '7g.40gb': 1 }, 4, 1, 0.5);
    const outlook = new MigOutlook(table, expected);
    const roomOf = (layout: number, profile: string): number => {
      let free = layout;
      let count = 0;
      table.placements.forEach((placement, p) => {
        if (placement.profile.name !== profile || table.with(free, p) < 0) return;
        free = table.with(free, p);
        count++;
      });
      return count;
    };
    const total = (layouts: readonly number[]): number =>
      table.model.profiles.reduce(
        (sum, { name }) =>
          sum +
          refusals(
            expected[name]!,
            layouts.reduce((room, layout) => room + roomOf(layout, name), 0),
          ),
        0,
      );
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 297 }), { minLength: 1, maxLength: 4 }), fc.nat({ max: 13 }), (layouts, p) => {
        outlook.look(layouts);
        const after = table.with(layouts[0]!, p);
        const cost = outlook.costOf(layouts[0]!, p);
        if (after < 0) expect(cost).toBe(Number.POSITIVE_INFINITY);
        else expect(cost).toBeCloseTo(total([after, ...layouts.slice(1)]) - total(layouts), 4);
      }),
      { numRuns: 100 },
    );
  });

  test('a small instance goes where it spoils nothing large', () => {
    const table = tableOf(A100, 'base');
    const outlook = new MigOutlook(table, expectedRequests(table, { '1g.5gb': 1, '3g.20gb': 1, '7g.40gb': 1 }, 2));
    const started = table.layoutOf([table.positionOf('3g.20gb', 0)]);
    const place = outlook.best([0, started], '1g.5gb')!;
    expect(place.gpu).toBe(1);
    outlook.look([0, started]);
    expect(outlook.roomFor('7g.40gb')).toBe(1);
    expect(outlook.roomFor('3g.20gb')).toBe(3);
  });

  test('one move makes room, legally, and is not made when it costs too much', () => {
    const table = tableOf(A100, 'base');
    const expected = expectedRequests(table, { '1g.5gb': 1, '2g.10gb': 1, '3g.20gb': 1, '7g.40gb': 1 }, 3);
    const outlook = new MigOutlook(table, expected);
    const one = table.layoutOf([table.positionOf('1g.5gb', 0)]);
    const half = table.layoutOf([table.positionOf('3g.20gb', 4)]);
    const move = outlook.bestMove([one, half], '7g.40gb')!;
    expect(move).toMatchObject({ gpu: 0, toGpu: 1 });
    expect(outlook.bestMove([one, half], '7g.40gb', () => false)).toBeUndefined();
    expect(outlook.bestMove([one, half], '7g.40gb', undefined, move.cost - 0.001)).toBeUndefined();
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 297 }), { minLength: 1, maxLength: 3 }),
        fc.constantFrom(...table.model.profiles.map(({ name }) => name)),
        (layouts, profile) => {
          const found = outlook.bestMove(layouts, profile, undefined, Number.POSITIVE_INFINITY);
          if (!found) return;
          const after = [...layouts];
          after[found.gpu] = table.with(table.without(after[found.gpu]!, found.instance), found.placement);
          after[found.toGpu] = table.with(after[found.toGpu]!, found.toPlacement);
          expect(Math.min(...after)).toBeGreaterThanOrEqual(0);
          const count = (all: readonly number[], name: string) =>
            all
              .flatMap((layout) => table.placementsOf(layout))
              .filter((p) => table.placements[p]!.profile.name === name).length;
          for (const { name } of table.model.profiles)
            expect(count(after, name)).toBe(count(layouts, name) + (name === profile ? 1 : 0));
        },
      ),
      { numRuns: 100 },
    );
  });

  test('what fits nowhere has none', () => {
    const table = tableOf(A100, 'base');
    const full = table.layoutOf([table.positionOf('7g.40gb', 0)]);
    expect(new MigOutlook(table, {}).best([full, full], '1g.5gb')).toBeUndefined();
  });
});

describe('a plan', () => {
  const table = tableOf(A100, 'base');
  const gpu = { id: 'GPU-1', enabled: true, idle: false, instances: [] };

  test('an order that first-come placement refuses is made with starts', () => {
    const plan = planMig(table, gpu, [
      { profile: '1g.5gb' },
      { profile: '1g.5gb' },
      { profile: '2g.10gb' },
      { profile: '3g.20gb' },
    ]);
    expect(plan.steps?.map((step) => (step.kind === 'create' ? step.argument.split(':')[0] : step.kind))).toEqual([
      '9',
      '14',
      '19',
      '19',
    ]);
    const placed = plan.steps!.map((step) =>
      step.kind === 'create' ? table.positionOf(step.profile, step.start) : -1,
    );
    expect(table.layoutOf(placed)).toBeGreaterThan(0);
  });

  test('what is in use stays, what is idle and in the way goes', () => {
    const instances = [
      { id: 'MIG-a', profile: '1g.5gb', start: 4, busy: true },
      { id: 'MIG-b', profile: '2g.10gb', start: 0, busy: false },
    ];
    expect(planMig(table, { ...gpu, instances }, [{ profile: '4g.20gb' }]).steps).toEqual([
      { kind: 'destroy', gpu: 'GPU-1', instance: 'MIG-b' },
      { kind: 'create', gpu: 'GPU-1', profile: '4g.20gb', start: 0, argument: '5:0' },
    ]);
    expect(planMig(table, { ...gpu, instances }, [{ profile: '2g.10gb' }]).steps).toEqual([]);
    expect(planMig(table, { ...gpu, instances }, [{ profile: '7g.40gb' }]).refused).toContain('no room for 7g.40gb');
  });

  test('only an idle GPU is switched', () => {
    const off = { ...gpu, enabled: false };
    expect(planMig(table, off, [{ profile: '1g.5gb' }]).refused).toContain('idle');
    expect(planMig(table, { ...off, idle: true }, [{ profile: '7g.40gb' }]).steps?.map(({ kind }) => kind)).toEqual([
      'enable',
      'create',
    ]);
    const planned = [{ id: 'GPU-1/4g.20gb:0', profile: '4g.20gb', start: 0, busy: true }];
    const beside = { ...off, idle: true, instances: planned };
    expect(planMig(table, beside, [{ profile: '3g.20gb' }]).steps).toMatchObject([
      { kind: 'enable' },
      { kind: 'create', profile: '3g.20gb', start: 4 },
    ]);
    expect(planMig(table, beside, [{ profile: '4g.20gb' }]).refused).toContain('no room for 4g.20gb');
    const instances = [{ id: 'MIG-a', profile: '1g.5gb', start: 4, busy: false }];
    expect(planWhole({ ...gpu, idle: true, instances }).steps?.map(({ kind }) => kind)).toEqual(['destroy', 'disable']);
    expect(planWhole({ ...gpu, instances: [{ ...instances[0]!, busy: true }] }).refused).toContain('MIG-a');
    expect(planWhole({ ...gpu, instances }).refused).toContain('idle');
  });

  test('whatever is planned is legal and holds what was wanted', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 297 }),
        fc.nat(),
        fc.array(fc.constantFrom(...table.model.profiles.map(({ name }) => name)), { maxLength: 4 }),
        (layout, busyBits, wanted) => {
          const instances = table.placementsOf(layout).map((p, i) => ({
            id: `MIG-${p}`,
            profile: table.placements[p]!.profile.name,
            start: table.placements[p]!.start,
            busy: (busyBits & (1 << i)) !== 0,
          }));
          const plan = planMig(
            table,
            { ...gpu, instances },
            wanted.map((profile) => ({ profile })),
          );
          const busy = instances.filter((one) => one.busy);
          if (!plan.steps) {
            // Refused: no legal layout holds the busy ones and what is wanted.
            const counts = (names: readonly string[]) => names.toSorted().join();
            const possible = table.layouts.some((bits, at) => {
              const there = table.placementsOf(at);
              if (!busy.every((one) => (bits & (1 << table.positionOf(one.profile, one.start))) !== 0)) return false;
              return (
                counts(there.map((p) => table.placements[p]!.profile.name)) ===
                counts([...busy.map(({ profile }) => profile), ...wanted])
              );
            });
            expect(possible).toBe(false);
            return;
          }
          const left = new Map(instances.map((one) => [one.id, table.positionOf(one.profile, one.start)]));
          for (const step of plan.steps) {
            if (step.kind === 'destroy') {
              expect(busy.map(({ id }) => id)).not.toContain(step.instance);
              left.delete(step.instance);
            }
            if (step.kind === 'create')
              left.set(`${step.profile}:${step.start}`, table.positionOf(step.profile, step.start));
            expect(table.layoutOf([...left.values()])).toBeGreaterThanOrEqual(0);
          }
          for (const profile of new Set(wanted)) {
            const there = [...left.values()].filter((p) => table.placements[p]!.profile.name === profile).length;
            const inUse = busy.filter((one) => one.profile === profile).length;
            expect(there).toBeGreaterThanOrEqual(inUse + wanted.filter((one) => one === profile).length);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
