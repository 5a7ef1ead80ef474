import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAmdSmi } from '../../../src/gpu/tools/amd-smi.js';
import { parseNvidiaApps } from '../../../src/gpu/tools/nvidia-apps.js';
import { parseNvidiaList } from '../../../src/gpu/tools/nvidia-list.js';
import { parseMigInstances, parseMigOffers, parseMigPlacements } from '../../../src/gpu/tools/nvidia-mig.js';
import { nvidiaQueryFields, parseNvidiaHelp, parseNvidiaQuery } from '../../../src/gpu/tools/nvidia-query.js';
import { joinMigDevices } from '../../../src/gpu/tools/nvidia-source.js';
import { parseNvidiaXml, parseNvidiaXmlInParts } from '../../../src/gpu/tools/nvidia-xml.js';
import type { GpuReading, ToolReading } from '../../../src/gpu/tools/reading.js';
import { absenceOf } from '../../../src/gpu/tools/reading.js';
import { parseRocmSmi } from '../../../src/gpu/tools/rocm-smi.js';
import { readXml } from '../../../src/gpu/tools/xml.js';
import { parseXpuSmi, xpuDevices } from '../../../src/gpu/tools/xpu-smi.js';
import { parseXids } from '../../../src/gpu/xid.js';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/gpu/${name}`, import.meta.url), 'utf8');

/** Facts as `value` or `!reason`. */
const plain = (facts: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(facts).map(([key, fact]) => [key, fact.value === null ? `!${fact.absent}` : fact.value]),
  );

const at = (reading: ToolReading, index: number): GpuReading => reading.gpus[index] as GpuReading;

const amdAnswers = {
  list: fixture('amd-list.json'),
  static: fixture('amd-static.json'),
  metric: fixture('amd-metric.json'),
  process: fixture('amd-process.json'),
};

describe('nvidia-smi', () => {
  it('keeps real zeros and tells every kind of absence apart', () => {
    const reading = parseNvidiaQuery(fixture('nvidia-query.csv'));
    expect(reading.problems).toEqual([]);
    expect(reading.gpus).toHaveLength(3);
    expect(plain(at(reading, 0).facts)).toMatchObject({
      memoryUsedMb: 0,
      utilization: 0,
      memoryTotalMb: 81559,
      power: 70.5,
      architecture: '9.0',
      fanPercent: '!not-supported',
      partitionMode: 'disabled',
    });
    expect(plain(at(reading, 1).signals)).toEqual({
      eccUncorrectedVolatile: 3,
      eccUncorrectedTotal: 7,
      remapPending: true,
      remapFailed: false,
      retiredPagesPending: '!not-supported',
      throttleReasons: ['sw-power-cap', 'hw-thermal-slowdown'],
      recoveryAction: 'gpu-reset',
    });
    expect(plain(at(reading, 2).facts)).toMatchObject({
      memoryTotalMb: '!no-permission',
      memoryReservedMb: '!deprecated',
      memoryUsedMb: '!driver-error',
      memoryFreeMb: '!not-supported',
      utilization: '!invalid',
      memoryUtilization: '!invalid',
      memoryTemperature: '!not-supported',
      power: '!lost',
      memoryClock: '!invalid',
    });
  });

  it('asks only for fields that the version knows, by the name it knows', () => {
    const fields = nvidiaQueryFields(parseNvidiaHelp(fixture('nvidia-help.txt')));
    expect(fields).toContain('clocks_event_reasons.active');
    expect(fields).not.toContain('clocks_throttle_reasons.active');
    expect(fields).not.toContain('power.draw.average');
    expect(nvidiaQueryFields(parseNvidiaHelp('"uuid" or "gpu_uuid"\n"clocks_throttle_reasons.active"\n'))).toEqual([
      'uuid',
      'clocks_throttle_reasons.active',
    ]);
    expect(nvidiaQueryFields(new Set())).toContain('memory.total');
  });

  it('says which GPU is lost when a line stands for its row', () => {
    const text = `${fixture('nvidia-query.csv')}Unable to determine the device handle for GPU0000:0D:00.0: GPU is lost.  Reboot the system to recover this GPU\n`;
    const reading = parseNvidiaQuery(text);
    expect(reading.gpus).toHaveLength(4);
    expect(at(reading, 3)).toMatchObject({ lost: true, facts: { busId: { value: '0000:0D:00.0' } } });
  });

  it('refuses a shifted row and a cell that was cut', () => {
    const [header, first] = fixture('nvidia-query.csv').split('\n') as [string, string];
    expect(parseNvidiaQuery(`${header}\n${first.replace(', 81559 MiB', '')}\n`).gpus).toEqual([]);
    const cut = parseNvidiaQuery(`${header}\n${first.slice(0, first.indexOf('1559 MiB'))}`);
    expect(plain(at(cut, 0).facts)).toMatchObject({ driver: '570.10', memoryTotalMb: '!not-reported' });
  });

  it('reads processes, commas in names included', () => {
    const { byGpu, problems } = parseNvidiaApps(
      'gpu_uuid, pid, used_gpu_memory [MiB], process_name\nGPU-a, 7, 512 MiB, python a.py --x=1, 2\nGPU-a, 8, [N/A], [Insufficient Permissions]\n',
    );
    expect(problems).toEqual([]);
    expect(byGpu.get('GPU-a')?.map((one) => plain({ name: one.name, memory: one.memoryMb }))).toEqual([
      { name: 'python a.py --x=1, 2', memory: 512 },
      { name: '!no-permission', memory: '!not-supported' },
    ]);
  });

  it('reads MIG from XML, -L and mig -lgi and joins them', () => {
    const xml = parseNvidiaXml(fixture('nvidia-mig.xml'));
    expect(xml.problems).toEqual([]);
    const gpu = at(xml, 0);
    expect(plain(gpu.facts)).toMatchObject({
      utilization: '!not-supported',
      memoryUsedMb: 812,
      index: '!not-reported',
    });
    expect(plain(gpu.signals)).toMatchObject({
      eccUncorrectedVolatile: 3,
      eccUncorrectedTotal: '!not-supported',
      remapPending: '!not-supported',
      throttleReasons: ['sw-thermal-slowdown'],
    });
    expect(gpu.processes?.[0]).toMatchObject({ pid: 4242, name: { value: 'python train.py --name="a & b"' } });
    const listed = parseNvidiaList(fixture('nvidia-list.txt'));
    const { instances, problems } = parseMigInstances(fixture('mig-lgi.txt'));
    expect([...listed.problems, ...problems]).toEqual([]);
    const joined = joinMigDevices(gpu.partitions ?? [], listed.gpus[0], instances);
    expect(joined.map(({ id, profile, placement }) => [id, profile.value, placement.value])).toEqual([
      ['MIG-00000000-aaaa-4000-8000-000000000001', '3g.40gb', { start: 4, size: 4 }],
      ['MIG-00000000-aaaa-4000-8000-000000000002', '1g.10gb', { start: 0, size: 1 }],
    ]);
    const torn = joinMigDevices(gpu.partitions ?? [], { ...listed.gpus[0], migDevices: [] } as never, []);
    expect(torn.map(({ id, profile }) => [id, profile.absent])).toEqual([
      ['GPU-1a2b3c4d-0001-4000-8000-00000000000a/2/0', 'not-reported'],
      ['GPU-1a2b3c4d-0001-4000-8000-00000000000a/9/0', 'not-reported'],
    ]);
  });

  it('reads what MIG profiles a GPU offers and where they may lie', () => {
    expect(parseMigOffers(fixture('mig-lgip.txt'))).toEqual({
      offers: [
        { gpu: 0, profile: '1g.10gb', profileId: 19, free: 3, total: 7, memoryGb: 9.75, multiprocessors: 16 },
        { gpu: 0, profile: '3g.40gb', profileId: 9, free: 0, total: 2, memoryGb: 39.5, multiprocessors: 60 },
      ],
      problems: [],
    });
    expect(
      parseMigPlacements(
        'GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1\nGPU  0 Profile ID  0 Placement : {0}:8\nNo MIG\n',
      ),
    ).toEqual({
      placements: [
        { gpu: 0, profileId: 19, starts: [0, 1, 2, 3, 4, 5, 6], size: 1 },
        { gpu: 0, profileId: 0, starts: [0], size: 8 },
      ],
      problems: ['No MIG'],
    });
  });

  it('reads the XML of many GPUs with pauses, to the same result', async () => {
    const xml = fixture('nvidia-mig.xml');
    const from = xml.indexOf('<gpu ');
    const to = xml.indexOf('</gpu>') + 6;
    const gpus = Array.from({ length: 16 }, (_, i) =>
      xml.slice(from, to).replace('000000000a', String(1000000000 + i)),
    );
    const whole = `${xml.slice(0, from)}${gpus.join('\n')}${xml.slice(to)}`;
    let turns = 0;
    let reading = true;
    const count = (): void => {
      turns++;
      if (reading) setImmediate(count);
    };
    setImmediate(count);
    const parts = await parseNvidiaXmlInParts(whole);
    reading = false;
    expect(parts).toEqual(parseNvidiaXml(whole));
    expect(new Set(parts.gpus.map(({ uuid }) => uuid.value)).size).toBe(16);
    expect(turns).toBeGreaterThanOrEqual(15);
    const cut = whole.slice(0, whole.length / 2);
    expect(await parseNvidiaXmlInParts(cut)).toEqual(parseNvidiaXml(cut));
    expect(await parseNvidiaXmlInParts('')).toEqual({ gpus: [], problems: ['there is no XML'] });
  });

  it('reads XML without DOCTYPE and of older schemas', () => {
    const xml = `<?xml version="1.0" ?><nvidia_smi_log><gpu id="0000:01:00.0"><uuid>GPU-x</uuid><fan_speed>0 %</fan_speed>
      <clocks_throttle_reasons>N/A</clocks_throttle_reasons><power_readings><power_draw>8.93 W</power_draw><power_limit>130.00 W</power_limit></power_readings>
      <ecc_errors><volatile><double_bit><total>4</total></double_bit></volatile></ecc_errors><processes>N/A</processes></gpu></nvidia_smi_log>`;
    const gpu = at(parseNvidiaXml(xml), 0);
    expect(plain(gpu.facts)).toMatchObject({
      power: 8.93,
      powerLimit: 130,
      fanPercent: 0,
      memoryTotalMb: '!not-reported',
    });
    expect(plain(gpu.signals)).toMatchObject({ eccUncorrectedVolatile: 4, throttleReasons: '!not-supported' });
    expect(gpu.processes).toBeUndefined();
  });
});

describe('amd-smi, rocm-smi, xpu-smi', () => {
  it('reads both shapes of amd-smi', () => {
    const reading = parseAmdSmi(amdAnswers);
    expect(reading.problems).toEqual([]);
    expect(reading.gpus.map(({ uuid }) => uuid.value)).toEqual([
      '16ff74a1-0000-1000-8000-000000000001',
      '16ff74a1-0000-1000-8000-000000000002',
    ]);
    expect(plain(at(reading, 0).facts)).toMatchObject({
      utilization: 0,
      memoryTotalMb: 196592,
      temperature: 42,
      memoryClock: 900,
      architecture: 'gfx942',
      partitionMode: 'SPX',
      fanPercent: '!not-supported',
    });
    expect(at(reading, 0).signals.throttleReasons?.value).toEqual(['socket-thermal', 'ppt']);
    expect(at(reading, 0).processes?.map(({ memoryMb }) => memoryMb.value)).toEqual([2, null]);
    expect(at(reading, 1).processes).toEqual([]);
    expect(plain(at(reading, 1).facts)).toMatchObject({
      temperature: 30,
      memoryUsedMb: '!invalid',
      memoryFreeMb: '!invalid',
      power: '!not-supported',
    });
    const bare = JSON.stringify(JSON.parse(amdAnswers.metric).gpu_data);
    expect(parseAmdSmi({ ...amdAnswers, metric: bare })).toEqual(reading);
  });

  it('reads several arrays in one answer, and warnings before them', () => {
    const [first, second] = JSON.parse(amdAnswers.list) as unknown[];
    const list = `WARNING: [amdgpu] GPU[0] is "odd\n${JSON.stringify([first])}\n${JSON.stringify([second])}\n`;
    const reading = parseAmdSmi({ ...amdAnswers, list });
    expect(reading.gpus).toEqual(parseAmdSmi(amdAnswers).gpus);
    expect(reading.problems[0]).toMatch(/^list: beside the JSON: WARNING/);
  });

  it('reads the keys of rocm-smi through its releases', () => {
    const reading = parseRocmSmi(`WARNING: No JSON data to report\n${fixture('rocm.json')}`);
    expect(plain(at(reading, 0).facts)).toEqual({
      index: 0,
      busId: '0000:07:00.0',
      serial: '!not-supported',
      driver: '6.3.6',
      architecture: 'gfx1031',
      memoryTotalMb: 1024,
      memoryUsedMb: 100,
      memoryFreeMb: '!not-reported',
      utilization: 0,
      memoryUtilization: 3,
      temperature: 45,
      memoryTemperature: '!not-supported',
      power: 6,
      powerLimit: 211,
      coreClock: 0,
      memoryClock: 96,
      fanPercent: 0,
      partitionMode: '!not-reported',
    });
    expect(at(reading, 0).name.value).toBe('Radeon Test 1');
    expect(at(reading, 1)).toMatchObject({ name: { value: 'Radeon Test 2' }, uuid: { absent: 'not-supported' } });
    expect(plain(at(reading, 1).facts)).toMatchObject({
      power: '!not-supported',
      memoryUtilization: 4,
      memoryTotalMb: '!invalid',
      memoryUsedMb: '!invalid',
    });
  });

  it('reads xpu-smi 1 without its virtual functions, and 2 like nvidia-smi', () => {
    const discovery = fixture('xpu-discovery.json');
    expect(xpuDevices(discovery)).toEqual([0]);
    const reading = parseXpuSmi({
      discovery,
      details: new Map([[0, '{"device_id": 0, "memory_physical_size_byte": "14193102848", "driver_version": "1.2"}']]),
      stats: new Map([[0, fixture('xpu-stats.json')]]),
      ps: fixture('xpu-ps.json'),
    });
    expect(reading.gpus).toHaveLength(1);
    expect(plain(at(reading, 0).facts)).toMatchObject({
      memoryTotalMb: 14193102848 / 1048576,
      memoryUsedMb: 25.3,
      utilization: 0,
      power: 41.5,
      temperature: 44,
      memoryTemperature: '!not-reported',
    });
    expect(at(reading, 0).processes).toMatchObject([{ pid: 900, memoryMb: { value: 2 } }]);
    expect(parseXpuSmi({ discovery: '{"error": "no driver", "errno": 1}' })).toEqual({
      gpus: [],
      problems: ['discovery: no driver'],
    });
    const second = parseNvidiaQuery('uuid, name, utilization.gpu [%]\nX, Arc Pro B60, 0 %\n', 'intel');
    expect(at(second, 0)).toMatchObject({ vendor: 'intel', facts: { utilization: { value: 0 } } });
  });
});

describe('kernel log and words', () => {
  it('reads Xid lines only', () => {
    expect(
      parseXids(
        '[   12.5] NVRM: loading\n<4>[ 9876.125] NVRM: Xid (PCI:0000:01:00): 79, pid=77, GPU has fallen off the bus.\n[1.0] NVRM: Xid (PCI:0000:02:00): 13, x',
      ),
    ).toEqual([
      { busId: '0000:01:00', xid: 79, what: 'pid=77, GPU has fallen off the bus.', uptime: 9876.125 },
      { busId: '0000:02:00', xid: 13, what: 'x', uptime: 1 },
    ]);
  });

  it('knows the words for absence', () => {
    const words: Record<string, string | undefined> = {
      '[N/A]': 'not-supported',
      'N/A': 'not-supported',
      '-': 'not-supported',
      '[Not Supported]': 'not-supported',
      '[Function Not Found]': 'not-supported',
      '[Requested functionality has been deprecated]': 'deprecated',
      'Requested functionality has been deprecated': 'deprecated',
      '[Insufficient Permissions]': 'no-permission',
      '[Unknown Error]': 'driver-error',
      'ERR!': 'driver-error',
      '[GPU is lost]': 'lost',
      '[GPU requires reset]': 'driver-error',
      '[something new]': 'driver-error',
      '': 'not-reported',
      '0': undefined,
      Disabled: undefined,
    };
    for (const [word, reason] of Object.entries(words)) expect([word, absenceOf(word)]).toEqual([word, reason]);
  });

  it('refuses XML that is none', () => {
    expect(readXml('').root).toBeUndefined();
    expect(readXml('<a><b></a>').problem).toBe('</a> closes <b>');
    expect(readXml(`<a>${'<b>'.repeat(100)}`).problem).toMatch(/deep/);
    expect(readXml('<a x="1&lt;2"/>').root?.attributes.get('x')).toBe('1<2');
  });
});

/** What a reading says, by GPU and field. */
function saying(
  reading: ToolReading,
  nameOf: (gpu: GpuReading) => string | null | undefined = (gpu) => gpu.uuid.value ?? gpu.facts.busId?.value,
): Map<string, string> {
  const said = new Map<string, string>();
  for (const gpu of reading.gpus) {
    const key = nameOf(gpu);
    if (key === null || key === undefined) continue;
    for (const [field, fact] of Object.entries({ ...gpu.facts, ...gpu.signals, name: gpu.name }))
      if (fact.value !== null) said.set(`${key} ${field}`, JSON.stringify(fact.value));
    for (const one of gpu.processes ?? [])
      said.set(`${key} ${one.pid}`, JSON.stringify([one.name.value, one.memoryMb.value]));
  }
  return said;
}

/** Nothing is said of a mutated answer that the whole one does not say too. */
function expectNothingInvented(mutated: ToolReading, whole: ToolReading): void {
  // one whose UUID was cut off is named by its address
  const truth = new Map([...saying(whole), ...saying(whole, (gpu) => gpu.facts.busId?.value)]);
  // of a process whose name or memory was dropped the rest is still true
  for (const [key, value] of saying(mutated))
    if (!value.includes('null')) expect([key, value]).toEqual([key, truth.get(key)]);
}

describe('mutated answers', () => {
  const csv = fixture('nvidia-query.csv');
  const xml = fixture('nvidia-mig.xml');
  const runs = { numRuns: 60 };

  it('cut anywhere', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), (share) => {
        const cut = (text: string): string => text.slice(0, Math.floor(text.length * share));
        expectNothingInvented(parseNvidiaQuery(cut(csv)), parseNvidiaQuery(csv));
        expectNothingInvented(parseNvidiaXml(cut(xml)), parseNvidiaXml(xml));
        expectNothingInvented(parseAmdSmi({ ...amdAnswers, metric: cut(amdAnswers.metric) }), parseAmdSmi(amdAnswers));
        expectNothingInvented(parseRocmSmi(cut(fixture('rocm.json'))), parseRocmSmi(fixture('rocm.json')));
        const discovery = fixture('xpu-discovery.json');
        const stats = fixture('xpu-stats.json');
        expectNothingInvented(
          parseXpuSmi({ discovery, stats: new Map([[0, cut(stats)]]) }),
          parseXpuSmi({ discovery, stats: new Map([[0, stats]]) }),
        );
      }),
      { ...runs, examples: [[0.05938169574533211]] },
    );
  });

  it('columns, elements and keys dropped or in another order, lines put before and between', () => {
    const rows = csv
      .trim()
      .split('\n')
      .map((line) => line.split(', '));
    fc.assert(
      fc.property(fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })), (stream) => {
        const random = (): number => stream.next().value as number;
        const order = (rows[0] as string[])
          .map((_, i) => i)
          .filter((i) => rows[0]?.[i] !== 'power.draw.instant [W]' && (i < 2 || random() < 0.8))
          .map((i) => ({ i, by: random() }))
          .sort((a, b) => a.by - b.by);
        const table = rows.map((row) => order.map(({ i }) => row[i]).join(', '));
        const noisy = [
          'WARNING: infoROM is corrupted, ask',
          ...table.flatMap((line) => (random() < 0.3 ? [line, 'odd'] : [line])),
        ];
        expectNothingInvented(parseNvidiaQuery(`${noisy.join('\n')}\n`), parseNvidiaQuery(csv));

        const lines = xml
          .split('\n')
          .filter((line) => !/^\s*<[^/][^>]*>[^<]*<\/[^>]*>\s*$/.test(line) || /uuid/.test(line) || random() < 0.8);
        expectNothingInvented(parseNvidiaXml(lines.join('\n')), parseNvidiaXml(xml));

        const thin = (value: unknown): unknown =>
          Array.isArray(value)
            ? value.map(thin)
            : typeof value === 'object' && value !== null
              ? Object.fromEntries(
                  Object.entries(value)
                    .filter(
                      ([key]) => /^(gpu|card\d|uuid|pid|value|unit|Unique ID|PCI Bus)$/.test(key) || random() < 0.85,
                    )
                    .map(([key, inner]) => ({ key, inner, by: random() }))
                    .sort((a, b) => a.by - b.by)
                    .map(({ key, inner }) => [key, thin(inner)]),
                )
              : value;
        const thinned = (text: string): string => `WARNING: {[ "odd\n${JSON.stringify(thin(JSON.parse(text)))}`;
        const metric = JSON.parse(amdAnswers.metric);
        // reasons are a list: one that is dropped is not told, which the list cannot show
        for (const one of metric.gpu_data) one.throttle = undefined;
        // and without the total no one can see that more is used than there is
        metric.gpu_data[1].mem_usage = undefined;
        const whole = { list: amdAnswers.list, metric: JSON.stringify(metric) };
        const reading = parseAmdSmi({ ...whole, metric: thinned(whole.metric) });
        const truth = saying(parseAmdSmi(whole));
        // the sensor at the edge may be dropped, and then the other one is the temperature
        for (const [key, value] of saying(reading))
          if (!key.endsWith(' temperature')) expect([key, value]).toEqual([key, truth.get(key)]);
      }),
      runs,
    );
  });

  it('anything at all', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300, unit: 'binary' }), fc.nat(), (text, where) => {
        const into = (whole: string): string =>
          whole.slice(0, where % whole.length) + text + whole.slice(where % whole.length);
        for (const one of [text, into(csv)]) parseNvidiaQuery(one);
        for (const one of [text, into(xml)]) parseNvidiaXml(one);
        for (const one of [text, into(amdAnswers.metric)]) parseAmdSmi({ ...amdAnswers, metric: one });
        for (const one of [text, into(fixture('rocm.json'))]) parseRocmSmi(one);
        parseNvidiaList(text);
        parseNvidiaApps(text);
        parseMigInstances(text);
        parseMigOffers(text);
        parseMigPlacements(text);
        parseXids(text);
        parseXpuSmi({ discovery: text });
      }),
      runs,
    );
  });
});
