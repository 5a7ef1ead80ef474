import { Problems } from './reading.js';

/** A GPU instance that exists. */
export interface MigInstance {
  /** The tool's number of the GPU at this moment. */
  readonly gpu: number;
  readonly profile: string;
  readonly profileId: number;
  readonly instanceId: number;
  readonly start: number;
  readonly size: number;
}

/** Reads the table of `nvidia-smi mig -lgi`: instances and where in memory they lie. */
export function parseMigInstances(text: string): {
  readonly instances: readonly MigInstance[];
  readonly problems: readonly string[];
} {
  const instances: MigInstance[] = [];
  const problems = new Problems();
  for (const line of text.split(/\r?\n/)) {
    const row = /^\|\s*(\d+)\s+MIG\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+):(\d+)\s*\|\s*$/.exec(line);
    if (row) {
      const [gpu, profileId, instanceId, start, size] = [row[1], row[3], row[4], row[5], row[6]].map(Number) as [
        number,
        number,
        number,
        number,
        number,
      ];
      instances.push({ gpu, profile: row[2] ?? '', profileId, instanceId, start, size });
    } else if (isOdd(line)) problems.add(line.trim());
  }
  return { instances, problems: problems.list };
}

/** A profile that a GPU offers. */
export interface MigOffer {
  readonly gpu: number;
  readonly profile: string;
  readonly profileId: number;
  readonly free: number;
  readonly total: number;
  /** GiB. */
  readonly memoryGb: number;
  /** Streaming multiprocessors. */
  readonly multiprocessors: number;
}

/** Reads the table of `nvidia-smi mig -lgip`: profiles, and how many of each fit still. */
export function parseMigOffers(text: string): {
  readonly offers: readonly MigOffer[];
  readonly problems: readonly string[];
} {
  const offers: MigOffer[] = [];
  const problems = new Problems();
  for (const line of text.split(/\r?\n/)) {
    const row =
      /^\|\s*(\d+)\s+MIG\s+(\S+)\s+(\d+)\s+(\d+)\/(\d+)\s+(\d+(?:\.\d+)?)\s+(?:Yes|No|N\/A)\s+(\d+)\s+\d+\s+\d+\s*\|\s*$/.exec(
        line,
      );
    if (row) {
      const [gpu, profileId, free, total, memoryGb, multiprocessors] = [
        row[1],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
      ].map(Number) as [number, number, number, number, number, number];
      offers.push({ gpu, profile: row[2] ?? '', profileId, free, total, memoryGb, multiprocessors });
    } else if (isOdd(line)) problems.add(line.trim());
  }
  return { offers, problems: problems.list };
}

/** Where instances of a profile may begin, and how many memory slices one takes. */
export interface MigPlacements {
  readonly gpu: number;
  readonly profileId: number;
  readonly starts: readonly number[];
  readonly size: number;
}

/** Reads `nvidia-smi mig -lgipp`: `GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1`. */
export function parseMigPlacements(text: string): {
  readonly placements: readonly MigPlacements[];
  readonly problems: readonly string[];
} {
  const placements: MigPlacements[] = [];
  const problems = new Problems();
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const row = /^GPU\s+(\d+)\s+Profile ID\s+(\d+)\s+Placements?\s*:\s*\{([\d,\s]*)\}:(\d+)\s*$/.exec(line);
    if (row)
      placements.push({
        gpu: Number(row[1]),
        profileId: Number(row[2]),
        starts: (row[3] ?? '')
          .split(',')
          .filter((one) => one.trim() !== '')
          .map(Number),
        size: Number(row[4]),
      });
    else problems.add(line.trim());
  }
  return { placements, problems: problems.list };
}

/** Neither frame, heading, blank nor the second line of a profile (numbers only). */
function isOdd(line: string): boolean {
  if (/^[\s|+=\-\d]*$/.test(line)) return false;
  return !/^\|\s*(GPU instance|GPU\s+Name|ID\s|Free\/Total|\s*CE\s)/.test(line);
}
