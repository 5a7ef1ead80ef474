import { IguanaError } from '../errors.js';
import type { Detector } from './detector.js';
import { Iqr } from './iqr.js';
import { IsolationForest } from './isolation-forest.js';
import { Mad } from './mad.js';
import { MovingAverage } from './moving-average.js';
import { ZScore } from './z-score.js';

const detectors = {
  'z-score': () => new ZScore(),
  iqr: () => new Iqr(),
  mad: () => new Mad(),
  'moving-average': () => new MovingAverage(),
  'isolation-forest': () => new IsolationForest(),
} as const;

export type DetectorName = keyof typeof detectors;
export const detectorNames = Object.keys(detectors) as DetectorName[];

/** A detector by the name users write. Errors: `IGU_NOT_FOUND`. */
export function createDetector(name: string): Detector {
  const make = detectors[name as DetectorName];
  if (!make)
    throw new IguanaError('IGU_NOT_FOUND', { what: 'detector', name, fix: `one of: ${detectorNames.join(', ')}` });
  return make();
}
