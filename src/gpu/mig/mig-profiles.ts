/** A kind of MIG instance that a GPU can be cut into. */
export interface MigProfile {
  /** As `nvidia-smi` writes it after `MIG `: `3g.40gb`. */
  readonly name: string;
  /** NVIDIA's number, the same on every model. */
  readonly id: number;
  /** Compute slices. */
  readonly compute: number;
  /** Memory slices that it takes. */
  readonly memory: number;
  /** First memory slices where it may start. */
  readonly starts: readonly number[];
  readonly maxInstances: number;
  /** MiB that a workload gets; null: not published, the node's `nvidia-smi mig -lgip` tells. */
  readonly memoryMb: number | null;
  /** Streaming multiprocessors; null as above. */
  readonly sms: number | null;
}

/** A GPU model that can be partitioned. */
export interface MigModel {
  readonly name: string;
  readonly memorySlices: number;
  readonly computeSlices: number;
  /** Ascending by size. */
  readonly profiles: readonly MigProfile[];
}

/** Where an instance is. */
export interface MigPlacement {
  readonly profile: MigProfile;
  readonly start: number;
}

/** Which profiles a GPU may be cut into: `base` (1g to 7g), `double` (and 1g with double memory), `media` (and 1g with the media engines). */
export type MigProfileSet = 'base' | 'double' | 'media';

interface Shape {
  readonly kind: string;
  readonly id: number;
  readonly compute: number;
  readonly memory: number;
  readonly starts: readonly number[];
  readonly maxInstances: number;
  readonly set: MigProfileSet;
}

const eightSlices: readonly Shape[] = [
  { kind: '1g', id: 19, compute: 1, memory: 1, starts: [0, 1, 2, 3, 4, 5, 6], maxInstances: 7, set: 'base' },
  { kind: '1g+me', id: 20, compute: 1, memory: 1, starts: [0, 1, 2, 3, 4, 5, 6], maxInstances: 1, set: 'media' },
  { kind: '1g double', id: 15, compute: 1, memory: 2, starts: [0, 2, 4, 6], maxInstances: 4, set: 'double' },
  { kind: '2g', id: 14, compute: 2, memory: 2, starts: [0, 2, 4], maxInstances: 3, set: 'base' },
  { kind: '3g', id: 9, compute: 3, memory: 4, starts: [0, 4], maxInstances: 2, set: 'base' },
  { kind: '4g', id: 5, compute: 4, memory: 4, starts: [0], maxInstances: 1, set: 'base' },
  { kind: '7g', id: 0, compute: 7, memory: 8, starts: [0], maxInstances: 1, set: 'base' },
];

const fourSlices: readonly Shape[] = [
  { kind: '1g', id: 14, compute: 1, memory: 1, starts: [0, 1, 2, 3], maxInstances: 4, set: 'base' },
  { kind: '2g', id: 5, compute: 2, memory: 2, starts: [0, 2], maxInstances: 2, set: 'base' },
  { kind: '4g', id: 0, compute: 4, memory: 4, starts: [0], maxInstances: 1, set: 'base' },
];

/** Gigabytes in the name, MiB and multiprocessors where they are published or were captured. */
type Sizes = Readonly<Record<string, readonly [gb: string, memoryMb: number | null, sms: number | null]>>;

interface Row {
  readonly name: string;
  /** Of the product names that the driver tells. */
  readonly matches: RegExp;
  readonly shapes: readonly Shape[];
  readonly sizes: Sizes;
}

/** The first that matches counts. Sources: NVIDIA MIG user guide; captures of an H100 in MIG mode; `nvidia-smi mig -lgip` of an H100 and an H200 with driver 580.159.04. */
const rows: readonly Row[] = [
  {
    name: 'A100-40GB',
    matches: /\bA100\b.*\b40GB\b/i,
    shapes: eightSlices,
    sizes: {
      '1g': ['5', 4_864, 14],
      '1g+me': ['5', 4_864, 14],
      '1g double': ['10', 9_856, 14],
      '2g': ['10', 9_856, 28],
      '3g': ['20', 19_968, 42],
      '4g': ['20', 19_968, 56],
      '7g': ['40', 40_192, 98],
    },
  },
  {
    name: 'A100-80GB',
    matches: /\bA100\b.*\b80GB\b/i,
    shapes: eightSlices,
    sizes: {
      '1g': ['10', null, 14],
      '1g+me': ['10', null, 14],
      '1g double': ['20', null, 14],
      '2g': ['20', null, 28],
      '3g': ['40', null, 42],
      '4g': ['40', null, 56],
      '7g': ['80', null, 98],
    },
  },
  {
    name: 'H100-80GB',
    matches: /\bH100\b(?!.*\bNVL\b)(?!.*\b(94|96|64)GB\b)/i,
    shapes: eightSlices,
    sizes: {
      '1g': ['10', 9_984, 16],
      '1g+me': ['10', 9_984, 16],
      '1g double': ['20', 20_096, 26],
      '2g': ['20', 20_096, 32],
      '3g': ['40', 40_448, 60],
      '4g': ['40', 40_448, 64],
      '7g': ['80', 81_152, 132],
    },
  },
  {
    name: 'H200',
    matches: /\bH200\b/i,
    shapes: eightSlices,
    sizes: {
      '1g': ['18', 16_384, 16],
      '1g+me': ['18', 16_384, 16],
      '1g double': ['35', 33_280, 26],
      '2g': ['35', 33_280, 32],
      '3g': ['71', 71_424, 60],
      '4g': ['71', 71_424, 64],
      '7g': ['141', 143_360, 132],
    },
  },
  {
    name: 'B200',
    matches: /\bB200\b/i,
    shapes: eightSlices,
    sizes: unpublished(['23', '23', '45', '45', '90', '90', '180']),
  },
  {
    name: 'A30',
    matches: /\bA30\b/i,
    shapes: fourSlices,
    sizes: { '1g': ['6', null, null], '2g': ['12', null, null], '4g': ['24', null, null] },
  },
];

function unpublished(gigabytes: readonly string[]): Sizes {
  return Object.fromEntries(eightSlices.map(({ kind }, i) => [kind, [gigabytes[i]!, null, null] as const]));
}

const rank: Record<MigProfileSet, number> = { base: 0, double: 1, media: 2 };

/**
 * How a GPU can be partitioned, by the product name that the driver tells; undefined: it cannot, or nothing is published of this model.
 * @param set which profiles to use (default `double`: all that differ in memory or compute)
 */
export function migModelOf(product: string, set: MigProfileSet = 'double'): MigModel | undefined {
  const row = rows.find(({ matches }) => matches.test(product));
  if (!row) return undefined;
  const key = `${row.name}/${set}`;
  let model = models.get(key);
  if (!model) {
    model = modelOf(row, set);
    models.set(key, model);
  }
  return model;
}

/** The same object each time: one for each row and set of profiles. */
const models = new Map<string, MigModel>();

function modelOf({ name, shapes, sizes }: Row, set: MigProfileSet): MigModel {
  const last = shapes.at(-1)!;
  const profiles = shapes
    .filter((shape) => rank[shape.set] <= rank[set])
    .map(({ kind, id, compute, memory, starts, maxInstances }): MigProfile => {
      const [gb, memoryMb, sms] = sizes[kind]!;
      const base = `${compute}g.${gb}gb`;
      return {
        name: kind.endsWith('+me') ? `${base}+me` : base,
        id,
        compute,
        memory,
        starts,
        maxInstances,
        memoryMb,
        sms,
      };
    });
  return { name, memorySlices: last.memory, computeSlices: last.compute, profiles };
}

/** Memory slices that a placement takes, one bit each. */
export function slicesOf({ profile, start }: MigPlacement): number {
  return ((1 << profile.memory) - 1) << start;
}
