import type { Fact } from '../types.js';
import { absent, known } from '../types.js';
import { isObject, type JsonObject, jsonAt, jsonBlocks, jsonText } from './json-blocks.js';
import type { Bounds, GpuReading, Quantity, ToolReading } from './reading.js';
import { absenceOf, bounds, firstFact, numberFact, Problems, withinTotal, wordFact } from './reading.js';

/**
 * Reads `rocm-smi … --json`: `{"card0": {…}, "system": {…}}`, every value a string with its unit in the key; keys have changed with releases (the newest first here)
 * and in the case of their letters.
 */
export function parseRocmSmi(text: string): ToolReading {
  const { blocks, problems: odd } = jsonBlocks(text);
  const problems = new Problems();
  for (const what of odd) problems.add(what);
  const cards = new Map<string, JsonObject>();
  for (const block of blocks)
    if (isObject(block))
      for (const [key, value] of Object.entries(block))
        if (isObject(value)) cards.set(key, { ...value, ...cards.get(key) });
  const driver = driverOf(cards.get('system'));
  const gpus = [...cards].flatMap(([key, card]) => {
    const number = /^card(\d+)$/.exec(key)?.[1];
    return number === undefined ? [] : [cardOf(Number(number), card, driver)];
  });
  return { gpus, problems: problems.list };
}

function driverOf(system: JsonObject | undefined): Fact<string> {
  const text = jsonText(jsonAt(system, 'Driver version'));
  return text === undefined ? absent('not-reported') : wordFact(text);
}

function cardOf(number: number, card: JsonObject, driver: Fact<string>): GpuReading {
  const byKey = new Map(Object.entries(card).map(([key, value]) => [key.toLowerCase(), jsonText(value)]));
  const texts = (keys: readonly string[]): string[] => keys.flatMap((key) => byKey.get(key.toLowerCase()) ?? []);
  const word = (...keys: readonly string[]): Fact<string> => firstFact(texts(keys).map(wordFact));
  const count = (quantity: Quantity, within: Bounds, unit: string, ...keys: readonly string[]): Fact =>
    firstFact(texts(keys).map((text) => numberFact(text, quantity, within, unit)));
  const memoryTotalMb = count('MiB', bounds.memory, 'b', 'VRAM Total Memory (B)');
  return {
    vendor: 'amd',
    uuid: word('Unique ID'),
    // a hexadecimal number is the model's code, not its name
    name: firstFact(
      texts(['Card Series', 'Device Name', 'Card Model']).map((text) =>
        /^0x[0-9a-f]+$/i.test(text.trim()) ? absent('not-reported') : wordFact(text),
      ),
    ),
    facts: withinTotal({
      index: known(number),
      busId: word('PCI Bus'),
      serial: serialOf(texts(['Serial Number'])[0]),
      driver,
      architecture: word('GFX Version'),
      memoryTotalMb,
      memoryUsedMb: count('MiB', bounds.memory, 'b', 'VRAM Total Used Memory (B)'),
      memoryFreeMb: absent('not-reported'),
      utilization: count('%', bounds.percent, '%', 'GPU use (%)'),
      memoryUtilization: count('%', bounds.percent, '%', 'GPU Memory Read/Write Activity (%)', 'GPU memory use (%)'),
      temperature: count(
        'C',
        bounds.temperature,
        'c',
        'Temperature (Sensor edge) (C)',
        'Temperature (Sensor junction) (C)',
      ),
      memoryTemperature: count('C', bounds.temperature, 'c', 'Temperature (Sensor memory) (C)'),
      power: count(
        'W',
        bounds.power,
        'w',
        'Current Socket Graphics Package Power (W)',
        'Average Graphics Package Power (W)',
      ),
      powerLimit: count('W', bounds.power, 'w', 'Max Graphics Package Power (W)'),
      coreClock: count('MHz', bounds.clock, 'mhz', 'sclk clock speed:'),
      memoryClock: count('MHz', bounds.clock, 'mhz', 'mclk clock speed:'),
      fanPercent: count('%', bounds.fan, '%', 'Fan speed (%)'),
      partitionMode: word('Compute Partition'),
    }),
    signals: {},
  };
}

/** A card without one says `0`. */
function serialOf(text: string | undefined): Fact<string> {
  if (text === undefined) return absent('not-reported');
  return absenceOf(text) === undefined && /^0+$/.test(text.trim()) ? absent('not-supported') : wordFact(text);
}
