import { Problems } from './reading.js';

export interface ListedMigDevice {
  readonly profile: string;
  /** The tool's number of it within its GPU: the XML has the same. */
  readonly device: number;
  readonly uuid: string;
}

export interface ListedGpu {
  readonly index: number;
  readonly name: string;
  readonly uuid: string;
  readonly migDevices: readonly ListedMigDevice[];
}

/** Reads `nvidia-smi -L`: a line a GPU, and indented under it one a MIG device. */
export function parseNvidiaList(text: string): {
  readonly gpus: readonly ListedGpu[];
  readonly problems: readonly string[];
} {
  const gpus: (ListedGpu & { migDevices: ListedMigDevice[] })[] = [];
  const problems = new Problems();
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const gpu = /^GPU\s+(\d+):\s+(.+?)\s+\(UUID:\s*(\S+?)\)\s*$/.exec(line);
    if (gpu) {
      gpus.push({ index: Number(gpu[1]), name: gpu[2] ?? '', uuid: gpu[3] ?? '', migDevices: [] });
      continue;
    }
    const mig = /^\s+MIG\s+(\S+)\s+Device\s+(\d+):\s+\(UUID:\s*(\S+?)\)\s*$/.exec(line);
    const parent = gpus.at(-1);
    if (mig && parent) parent.migDevices.push({ profile: mig[1] ?? '', device: Number(mig[2]), uuid: mig[3] ?? '' });
    else problems.add(line.trim());
  }
  return { gpus, problems: problems.list };
}
