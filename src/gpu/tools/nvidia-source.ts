import type { GpuPartition } from '../types.js';
import { absent, known } from '../types.js';
import { nvidiaAppFields, parseNvidiaApps } from './nvidia-apps.js';
import { type ListedGpu, parseNvidiaList } from './nvidia-list.js';
import { type MigInstance, parseMigInstances } from './nvidia-mig.js';
import { lostGpuIn, nvidiaQueryFields, parseNvidiaHelp, parseNvidiaQuery } from './nvidia-query.js';
import { parseNvidiaXmlInParts } from './nvidia-xml.js';
import { type GpuReading, Problems, type ReadPartition } from './reading.js';
import type { RunTool, ToolResult } from './run-tool.js';
import { failed, failureOf, type GpuSource, type SourceAnswer } from './source.js';

const command = 'nvidia-smi';

/** Exit codes that say for sure that there is nothing to use: no driver, no library, driver and library of different versions. */
function noDriverOf({ code, stdout, stderr }: ToolResult): string | undefined {
  if (code === 9) return 'the driver is not loaded';
  if (code === 12) return "the driver's library (libnvidia-ml) is missing";
  if (/driver\/library version mismatch/i.test(stdout + stderr))
    return 'driver and library are of different versions: reboot, or load the new driver';
  return undefined;
}

/**
 * NVIDIA by nvidia-smi: what the installed version knows is asked once (`--help-query-gpu`), then one query a look. GPUs split by MIG need the XML too: for their instances, and for
 * which of them a process is in. A look costs the tool 20 to 200 ms, this process under 1 ms a GPU.
 */
export class NvidiaSource implements GpuSource {
  readonly vendor = 'nvidia';
  private fields: readonly string[] | undefined;
  private listed: readonly ListedGpu[] = [];
  /** Of the MIG devices when they were listed. */
  private layout = '';
  private instances: readonly MigInstance[] = [];

  async read(run: RunTool, full: boolean): Promise<SourceAnswer> {
    if (full) this.fields = undefined;
    if (!this.fields) {
      const help = await run(command, ['--help-query-gpu']);
      if (help.refused || help.timedOut) return failed(command, help);
      this.fields = nvidiaQueryFields(parseNvidiaHelp(help.stdout));
    }
    const query = await run(command, [`--query-gpu=${this.fields.join(',')}`, '--format=csv']);
    // a field that it knows no more: another version was installed
    if (query.code === 2) this.fields = undefined;
    const { gpus, answered, problems: odd } = parseNvidiaQuery(query.stdout);
    const problems = new Problems();
    const lost = query.stderr.split(/\r?\n/).flatMap((line) => lostGpuIn(line) ?? []);
    const none = /no devices were found/i.test(query.stdout + query.stderr) || query.code === 6;
    if (gpus.length === 0 && lost.length === 0 && !none) {
      const what = noDriverOf(query);
      if (what) return { state: 'no-driver', command, what, gpus: [], problems: [] };
      // what is no answer does not say that there are none
      if (query.code !== 0 || !answered) return failed(command, query);
    }
    // "No devices were found" has no names of columns, and is no problem
    if (!none || answered || gpus.length > 0) for (const what of odd) problems.add(what);
    const all = [
      ...gpus,
      ...lost
        .filter((bus) => !gpus.some(({ facts }) => facts.busId?.value === bus))
        .map(
          (bus): GpuReading => ({
            vendor: 'nvidia',
            uuid: absent('lost'),
            name: absent('lost'),
            facts: { busId: known(bus) },
            signals: {},
            lost: true,
          }),
        ),
    ];
    if (query.cut) problems.add('it said too much');
    const split = gpus.some(({ facts }) => facts.partitionMode?.value === 'enabled');
    const answer = (with_: readonly GpuReading[]): SourceAnswer => ({
      state: 'ok',
      command,
      what: query.code === 0 ? '' : failureOf(query),
      gpus: with_,
      problems: problems.list,
    });
    if (all.length === 0) return answer(all);
    return answer(split ? await this.withInstances(run, all, full, problems) : await withApps(run, all, problems));
  }

  private async withInstances(
    run: RunTool,
    gpus: readonly GpuReading[],
    full: boolean,
    problems: Problems,
  ): Promise<readonly GpuReading[]> {
    const answer = await run(command, ['-q', '-x']);
    const xml = await parseNvidiaXmlInParts(answer.stdout);
    for (const what of xml.problems) problems.add(`-q -x: ${what}`);
    const layout = layoutOf(xml.gpus);
    if (full || layout !== this.layout) {
      const list = await run(command, ['-L']);
      const { gpus: listed, problems: odd } = parseNvidiaList(list.stdout);
      for (const what of odd) problems.add(`-L: ${what}`);
      // what was listed of the same devices before is still true; of others nothing is known
      if (list.code === 0) this.listed = listed;
      else if (layout !== this.layout) this.listed = [];
      this.layout = list.code === 0 || layout === this.layout ? layout : '';
      this.instances = parseMigInstances((await run(command, ['mig', '-lgi'])).stdout).instances;
    }
    return gpus.map((gpu) => {
      const same = xml.gpus.find(({ uuid }) => uuid.value !== null && uuid.value === gpu.uuid.value);
      if (!same) return gpu;
      const listed = this.listed.find(({ uuid }) => uuid === gpu.uuid.value);
      const own = this.instances.filter((one) => one.gpu === gpu.facts.index?.value);
      const partitions = joinMigDevices(same.partitions ?? [], listed, own);
      const processes = same.processes?.map((one) => {
        const at = (same.partitions ?? []).findIndex(({ id }) => id === one.partition.value);
        const partition = partitions[at];
        return partition ? { ...one, partition: known(partition.id) } : one;
      });
      return { ...gpu, partitions, ...(processes && { processes }) };
    });
  }
}

/** Which MIG devices there are. One that took the place of another has the same number, and seldom all else too. */
function layoutOf(gpus: readonly GpuReading[]): string {
  return JSON.stringify(
    gpus.map(({ uuid, partitions = [] }) => [
      uuid.value,
      ...partitions.map(({ device, gpuInstance, computeInstance, memoryTotalMb }) => [
        device.value,
        gpuInstance.value,
        computeInstance.value,
        memoryTotalMb.value,
      ]),
    ]),
  );
}

async function withApps(run: RunTool, gpus: readonly GpuReading[], problems: Problems): Promise<readonly GpuReading[]> {
  const answer = await run(command, [`--query-compute-apps=${nvidiaAppFields.join(',')}`, '--format=csv']);
  // no answer is not "no processes"
  if (answer.code !== 0 || answer.stdout.trim() === '') {
    problems.add(`processes: ${failureOf(answer)}`);
    return gpus;
  }
  const apps = parseNvidiaApps(answer.stdout);
  for (const what of apps.problems) problems.add(`processes: ${what}`);
  if (!apps.answered) return gpus;
  return gpus.map((gpu) =>
    gpu.uuid.value === null ? gpu : { ...gpu, processes: apps.byGpu.get(gpu.uuid.value) ?? [] },
  );
}

/**
 * Puts together what three listings know of MIG devices: instances and memory (XML), UUID and profile (`-L`, by the device's number within its GPU), placement (`mig -lgi`, by instance). When the
 * first two do not tell of the same devices, the tool was asked while they changed: then UUID and profile stay unknown until the next look.
 */
export function joinMigDevices(
  partitions: readonly ReadPartition[],
  listed: ListedGpu | undefined,
  instances: readonly MigInstance[],
): readonly ReadPartition[] {
  const agree = listed !== undefined && listed.migDevices.length === partitions.length;
  return partitions.map((partition): ReadPartition => {
    const same = agree ? listed.migDevices.find(({ device }) => device === partition.device.value) : undefined;
    const placed = instances.find(({ instanceId }) => instanceId === partition.gpuInstance.value);
    const placement: GpuPartition['placement'] = placed
      ? known({ start: placed.start, size: placed.size })
      : absent('not-reported');
    return {
      ...partition,
      placement,
      profile: same ? known(same.profile) : partition.profile,
      id: same?.uuid ?? partition.id,
    };
  });
}
