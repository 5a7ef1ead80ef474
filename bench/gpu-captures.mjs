// Do the parsers read every real capture, and say nothing that is not in it? Usage: node bench/gpu-captures.mjs [--data ../shared/data/gpu/captures] [--mutants 300]; writes
// bench/results/gpu-captures.md. A value counts as invented when the text of the capture does not hold it at the place where the tool puts it: checked by a second, independent way
// of reading (regular expressions on the raw text), and for mutated captures against the whole one.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseNvidiaApps } from '../dist/src/gpu/tools/nvidia-apps.js';
import { parseNvidiaList } from '../dist/src/gpu/tools/nvidia-list.js';
import { nvidiaQueryFields, parseNvidiaHelp, parseNvidiaQuery } from '../dist/src/gpu/tools/nvidia-query.js';
import { parseNvidiaXml } from '../dist/src/gpu/tools/nvidia-xml.js';
import { parseRocmSmi } from '../dist/src/gpu/tools/rocm-smi.js';
import { seededRandom } from '../dist/src/stats/seeded-random.js';

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const data = option('data', '../shared/data/gpu/captures');
const mutants = Number(option('mutants', 300));
if (!existsSync(data)) {
  console.error(`no captures at ${data}: give their folder with --data`);
  process.exit(2);
}
const read = (...path) => readFileSync(join(data, ...path), 'utf8');
const filesOf = (folder, end) =>
  readdirSync(join(data, folder))
    .filter((name) => name.endsWith(end))
    .sort();

/** Sections of a full capture, by heading. */
function sectionsOf(text) {
  const sections = new Map();
  const parts = text.split(/^#{80}\r?\n# (.+)\r?\n# \$ .*\r?\n#{80}\r?\n/m);
  for (let i = 1; i < parts.length; i += 2) sections.set(parts[i].trim(), `${parts[i + 1].trimEnd()}\n`);
  return sections;
}

const cellNumber = (text) => (/^-?[\d.]+/.test(text ?? '') ? Number.parseFloat(text) : null);

/** Each: what is parsed, how, and where the raw text holds a fact: independent of the parsers. */
const subjects = [];
for (const name of filesOf('nvidia-smi', '.txt')) {
  const sections = sectionsOf(read('nvidia-smi', name));
  for (const load of ['idle', 'load']) {
    const csv = sections.get(`${load} :: query-gpu (csv, what the exporter parses)`);
    if (csv)
      subjects.push({
        capture: `${name.replace('.txt', '')} ${load}`,
        kind: 'csv',
        text: csv,
        parse: parseNvidiaQuery,
        raw: rawCsv(csv),
      });
    const apps = sections.get(`${load} :: query-compute-apps (per-process)`);
    if (apps)
      subjects.push({
        capture: `${name.replace('.txt', '')} ${load}`,
        kind: 'apps',
        text: apps,
        parse: appsAsReading,
        raw: undefined,
      });
  }
  const list = sections.get('capabilities :: list (-L)');
  if (list)
    subjects.push({ capture: name.replace('.txt', ''), kind: '-L', text: list, parse: listAsReading, raw: undefined });
  const help = sections.get('capabilities :: help-query-gpu');
  if (help)
    subjects.push({
      capture: name.replace('.txt', ''),
      kind: 'help',
      text: help,
      parse: helpAsReading,
      raw: undefined,
    });
}
for (const name of filesOf('nvidia-smi-xml', '.xml')) {
  const text = read('nvidia-smi-xml', name);
  subjects.push({ capture: name, kind: 'xml', text, parse: parseNvidiaXml, raw: rawXml(text) });
}
for (const name of filesOf('rocm-smi', '.json')) {
  const text = read('rocm-smi', name);
  subjects.push({ capture: name, kind: 'rocm', text, parse: parseRocmSmi, raw: rawRocm(text) });
}
if (subjects.length === 0) {
  console.error(`nothing to read at ${data}`);
  process.exit(2);
}

function appsAsReading(text) {
  const { byGpu, problems } = parseNvidiaApps(text);
  return {
    problems,
    gpus: [...byGpu].map(([uuid, processes]) => ({
      uuid: { value: uuid },
      name: { value: null },
      facts: {},
      signals: {},
      processes,
    })),
  };
}
function listAsReading(text) {
  const { gpus, problems } = parseNvidiaList(text);
  return {
    problems,
    gpus: gpus.map((gpu) => ({
      uuid: { value: gpu.uuid },
      name: { value: gpu.name },
      facts: {
        index: { value: gpu.index },
        ...Object.fromEntries(gpu.migDevices.map((one) => [`mig${one.device}`, { value: one.profile + one.uuid }])),
      },
      signals: {},
    })),
  };
}
function helpAsReading(text) {
  const fields = nvidiaQueryFields(parseNvidiaHelp(text));
  return { problems: fields.length < 25 ? ['few fields'] : [], gpus: [] };
}

/** Fact → number in the raw text, or null where it holds none. */
function rawCsv(text) {
  const [head, row] = text.split(/\r?\n/).map((line) => line.split(', '));
  const at = (column) => row[head.findIndex((name) => name.replace(/ \[.*/, '') === column)]?.trim();
  return {
    memoryTotalMb: cellNumber(at('memory.total')),
    memoryUsedMb: cellNumber(at('memory.used')),
    memoryFreeMb: cellNumber(at('memory.free')),
    memoryReservedMb: cellNumber(at('memory.reserved')),
    utilization: cellNumber(at('utilization.gpu')),
    memoryUtilization: cellNumber(at('utilization.memory')),
    temperature: cellNumber(at('temperature.gpu')),
    memoryTemperature: cellNumber(at('temperature.memory')),
    power: cellNumber(at('power.draw')),
    powerLimit: cellNumber(at('enforced.power.limit')),
    coreClock: cellNumber(at('clocks.current.sm')),
    memoryClock: cellNumber(at('clocks.current.memory')),
    fanPercent: cellNumber(at('fan.speed')),
    eccUncorrectedVolatile: cellNumber(at('ecc.errors.uncorrected.volatile.total')),
    eccUncorrectedTotal: cellNumber(at('ecc.errors.uncorrected.aggregate.total')),
  };
}
function rawXml(text) {
  // MIG devices have memory of their own: not the GPU's
  const gpu = text
    .replace(/<mig_devices>[\s\S]*?<\/mig_devices>/, '')
    .replace(/<(module|gpu_memory)_power_readings>[\s\S]*?<\/\1_power_readings>/g, '');
  const within = (group) => new RegExp(`<${group}>([\\s\\S]*?)</${group}>`).exec(gpu)?.[1] ?? '';
  const one = (group, ...names) => {
    for (const name of names) {
      const value = cellNumber(new RegExp(`<${name}>\\s*([^<]*?)\\s*</${name}>`).exec(within(group))?.[1]);
      if (value !== null) return value;
    }
    return null;
  };
  const power = within('gpu_power_readings') ? 'gpu_power_readings' : 'power_readings';
  return {
    memoryTotalMb: one('fb_memory_usage', 'total'),
    memoryUsedMb: one('fb_memory_usage', 'used'),
    memoryFreeMb: one('fb_memory_usage', 'free'),
    memoryReservedMb: one('fb_memory_usage', 'reserved'),
    utilization: one('utilization', 'gpu_util'),
    memoryUtilization: one('utilization', 'memory_util'),
    temperature: one('temperature', 'gpu_temp'),
    memoryTemperature: one('temperature', 'memory_temp'),
    power: one(power, 'average_power_draw', 'power_draw'),
    powerLimit: one(power, 'current_power_limit', 'enforced_power_limit', 'power_limit'),
    coreClock: one('clocks', 'sm_clock', 'graphics_clock'),
    memoryClock: one('clocks', 'mem_clock'),
    fanPercent: cellNumber(/<fan_speed>\s*([^<]*)/.exec(gpu)?.[1]),
  };
}
function rawRocm(text) {
  const one = (key) => {
    const value = new RegExp(`"${key.replace(/[()%.]/g, '\\$&')}": "\\(?([^"]*)"`, 'i').exec(text)?.[1];
    return value === undefined ? null : cellNumber(value);
  };
  const mib = (value) => (value === null ? null : value / 1_048_576);
  return {
    memoryTotalMb: mib(one('VRAM Total Memory (B)')),
    memoryUsedMb: mib(one('VRAM Total Used Memory (B)')),
    utilization: one('GPU use (%)'),
    memoryUtilization: one('GPU Memory Read/Write Activity (%)') ?? one('GPU memory use (%)'),
    temperature: one('Temperature (Sensor edge) (C)') ?? one('Temperature (Sensor junction) (C)'),
    memoryTemperature: one('Temperature (Sensor memory) (C)'),
    power: one('Current Socket Graphics Package Power (W)') ?? one('Average Graphics Package Power (W)'),
    powerLimit: one('Max Graphics Package Power (W)'),
    coreClock: one('sclk clock speed:'),
    memoryClock: one('mclk clock speed:'),
    fanPercent: one('Fan speed (%)'),
  };
}

const short = {
  'not-supported': 'n/s',
  'no-permission': 'perm',
  lost: 'lost',
  deprecated: 'depr',
  'not-reported': '–',
  invalid: 'INVALID',
  'driver-error': 'err',
};
const shown = [
  'memoryTotalMb',
  'memoryUsedMb',
  'memoryFreeMb',
  'memoryReservedMb',
  'utilization',
  'memoryUtilization',
  'temperature',
  'memoryTemperature',
  'power',
  'powerLimit',
  'coreClock',
  'memoryClock',
  'fanPercent',
  'architecture',
  'partitionMode',
  'driver',
  'eccUncorrectedVolatile',
  'remapPending',
  'throttleReasons',
  'recoveryAction',
];
const cell = (fact) => {
  if (!fact) return '–';
  if (fact.value === null) return short[fact.absent];
  if (Array.isArray(fact.value)) return fact.value.join(' ') || 'none';
  return typeof fact.value === 'number' ? String(Math.round(fact.value * 100) / 100) : String(fact.value);
};
const allFacts = (gpu) => ({ ...gpu.facts, ...gpu.signals, name: gpu.name });

let crashes = 0;
let invented = 0;
let missed = 0;
let compared = 0;
let problemsTold = 0;
const rows = [];
const readings = new Map();
for (const subject of subjects) {
  let reading;
  try {
    reading = subject.parse(subject.text);
  } catch (error) {
    crashes++;
    console.error(subject.capture, error);
    continue;
  }
  readings.set(subject, reading);
  problemsTold += reading.problems.length;
  for (const problem of reading.problems) console.error(`${subject.capture} ${subject.kind}: ${problem}`);
  const [gpu] = reading.gpus;
  if (!subject.raw || !gpu) continue;
  const facts = allFacts(gpu);
  for (const [field, value] of Object.entries(subject.raw)) {
    compared++;
    const said = facts[field]?.value ?? null;
    if (said !== null && said !== value) {
      invented++;
      console.error(`${subject.capture}: ${field} is ${said}, the text holds ${value}`);
    }
    if (said === null && value !== null) {
      missed++;
      console.error(`${subject.capture}: ${field} is absent (${facts[field]?.absent}), the text holds ${value}`);
    }
  }
  rows.push([
    subject.capture,
    subject.kind,
    gpu.name.value ?? short[gpu.name.absent],
    ...shown.map((field) => cell(facts[field])),
    gpu.partitions?.length ?? '–',
    gpu.processes?.length ?? '–',
  ]);
}

/** What a reading says, by GPU and field; of which GPU is known by UUID, else address. */
function saying(reading, ...keys) {
  const said = new Map();
  for (const gpu of reading.gpus) {
    const key = keys.length > 0 ? keys[0](gpu) : (gpu.uuid.value ?? gpu.facts.busId?.value);
    if (!key) continue;
    for (const [field, fact] of Object.entries(allFacts(gpu)))
      if (fact.value !== null) said.set(`${key} ${field}`, JSON.stringify(fact.value));
    for (const { pid, name, memoryMb } of gpu.processes ?? []) {
      if (name.value !== null) said.set(`${key} ${pid} name`, name.value);
      if (memoryMb.value !== null) said.set(`${key} ${pid} memory`, String(memoryMb.value));
    }
  }
  return said;
}

const random = seededRandom(42);
const pick = (n) => Math.floor(random() * n);
const dropColumns = (text) => {
  const lines = text.split('\n');
  const count = lines[0].split(', ').length;
  // power has two fields of which the second stands in for the first
  const kept = lines[0]
    .split(', ')
    .map((name) => /uuid|^name|pid|power/.test(name) || random() < 0.7)
    .slice(0, count);
  const order = kept.flatMap((yes, i) => (yes ? [{ i, by: random() }] : [])).sort((a, b) => a.by - b.by);
  return lines
    .map((line) => (line.trim() === '' ? line : order.map(({ i }) => line.split(', ')[i]).join(', ')))
    .join('\n');
};
const dropKeys = (text) => {
  const thin = (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            // of two keys for one fact the second would stand in for the first
            .filter(
              ([key]) =>
                /^card\d|Unique ID|PCI Bus|Temperature|Power|activity|memory use|Series|Name/i.test(key) ||
                random() < 0.7,
            )
            .map(([key, inner]) => [random(), key, thin(inner)])
            .sort((a, b) => a[0] - b[0])
            .map(([, key, inner]) => [key, inner]),
        )
      : value;
  return JSON.stringify(thin(JSON.parse(text)));
};
const mutations = {
  truncated: ({ text }) => text.slice(0, pick(text.length)),
  'fields dropped and reordered': ({ kind, text }) => {
    if (kind === 'csv') return dropColumns(text);
    if (kind === 'rocm') return dropKeys(text);
    if (kind === 'xml')
      return text
        .split('\n')
        .filter(
          (line) =>
            /uuid|power|clock>|pending_/.test(line) ||
            !/^\s*<[^/][^>]*>[^<]*<\/[^>]*>\s*$/.test(line) ||
            random() < 0.8,
        )
        .join('\n');
    return text;
  },
  'warnings before and between': ({ kind, text }) => {
    const warning = [
      'WARNING: infoROM is corrupted at gpu 0000:17:00.0, see log',
      'WARNING: {"odd: [0]',
      'GPU[0] : Not supported on the given system',
    ][pick(3)];
    if (kind === 'xml') return `${warning}\n${text}`;
    if (kind === 'rocm') return `${warning}\n${text}\n${warning}`;
    const lines = text.split('\n');
    lines.splice(pick(lines.length), 0, warning);
    return `${warning}\n${lines.join('\n')}`;
  },
  'lines lost in the middle': ({ kind, text }) => {
    const from = pick(text.length);
    const lines = text.split('\n');
    // of JSON only values, and not the first of two sensors, for the second stands in for it
    if (kind === 'rocm')
      return lines
        .filter(
          (one, i) =>
            /[{}]|Temperature|Power|memory use|activity|Series|Name|"0"|ID"|PCI Bus/i.test(one) ||
            /[{}]/.test(lines[i + 1] ?? '') ||
            random() < 0.9,
        )
        .join('\n');
    // of whole lines: inside a line nobody can tell what was lost
    const at = text.slice(0, from).split('\n').length - 1;
    lines.splice(at, 1 + pick(5));
    return lines.join('\n');
  },
};
const table = [];
let mutatedInvented = 0;
for (const [name, mutate] of Object.entries(mutations)) {
  const count = { runs: 0, crashes: 0, values: 0, kept: 0, invented: 0 };
  for (const [subject, whole] of readings) {
    const truth = new Map([...saying(whole, (gpu) => gpu.facts.busId?.value), ...saying(whole)]);
    for (let i = 0; i < Math.ceil(mutants / 10); i++) {
      const text = mutate(subject);
      count.runs++;
      try {
        for (const [key, value] of saying(subject.parse(text))) {
          count.kept++;
          if (truth.get(key) === value) continue;
          count.invented++;
          console.error(`${subject.capture} ${subject.kind} ${name}: ${key} is ${value}, was ${truth.get(key)}`);
        }
        count.values += saying(whole).size;
      } catch (error) {
        count.crashes++;
        console.error(subject.capture, name, error);
      }
    }
  }
  mutatedInvented += count.invented;
  crashes += count.crashes;
  table.push([name, count.runs, count.crashes, count.values, count.kept, count.invented]);
}

const line = (cells) => `| ${cells.join(' | ')} |`;
const report = `# Real captures of GPU tools

\`node bench/gpu-captures.mjs\` · Node ${process.version} · ${subjects.length} answers read, ${compared} values compared with a second, independent reading of the raw text.

**${crashes} crashes · ${invented} invented values · ${missed} values missed · ${problemsTold} problems told · in mutated answers ${mutatedInvented} invented.**

Absences: n/s not supported, depr deprecated, perm no permission, err driver error, – not reported.

${line(['capture', 'form', 'name', ...shown, 'partitions', 'processes'])}
${line(Array(shown.length + 5).fill('---'))}
${rows.map(line).join('\n')}

## Mutated

Each answer mutated ${Math.ceil(mutants / 10)} times a kind (seed 42). Kept: values still told; invented: told, but not what the whole answer says. Where a second field stands in for a first one (power by two names, a second sensor), the first is
not dropped: its stand-in is another true value.

${line(['mutation', 'answers', 'crashes', 'values in the whole', 'kept', 'invented'])}
${line(Array(6).fill('---'))}
${table.map(line).join('\n')}
`;
writeFileSync('bench/results/gpu-captures.md', report);
console.log(report.split('\n').slice(2, 5).join('\n'));
if (crashes + invented + missed + mutatedInvented > 0) process.exitCode = 1;
