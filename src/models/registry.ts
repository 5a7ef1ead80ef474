import { IguanaError } from '../errors.js';
import { Arima } from './arima.js';
import { Ensemble } from './ensemble.js';
import { ExponentialSmoothing } from './exponential-smoothing.js';
import type { Forecaster, ForecasterOptions } from './forecaster.js';
import { LinearRegression } from './linear-regression.js';
import { Neural } from './neural/neural.js';
import { SeasonalDecomposition } from './seasonal-decomposition.js';
import { SeasonalNaive } from './seasonal-naive.js';

const members = {
  'seasonal-naive': SeasonalNaive,
  'linear-regression': LinearRegression,
  'exponential-smoothing': ExponentialSmoothing,
  arima: Arima,
  'seasonal-decomposition': SeasonalDecomposition,
  neural: Neural,
} as const;

export type ModelName = keyof typeof members | 'ensemble';
export const modelNames = [...(Object.keys(members) as (keyof typeof members)[]), 'ensemble'] as const;

/** A forecaster by the name users write. Errors: `IGU_NOT_FOUND`. */
export function createForecaster(name: string, options: ForecasterOptions): Forecaster {
  if (name === 'ensemble') return new Ensemble(ensembleMembers(options));
  const Member = members[name as keyof typeof members];
  if (!Member) throw new IguanaError('IGU_NOT_FOUND', { what: 'model', name, fix: `one of: ${modelNames.join(', ')}` });
  return new Member(options);
}

/** The seasonal members once for each season, the others once; a second, slower smoothing for far horizons. */
function ensembleMembers(options: ForecasterOptions): Forecaster[] {
  const seasons = options.seasons.length > 0 ? options.seasons.map((season) => [season]) : [[]];
  return [
    ...seasons.flatMap((one) => [
      new SeasonalNaive({ seasons: one }),
      new SeasonalDecomposition({ seasons: one }),
      new ExponentialSmoothing({ seasons: one }),
      new ExponentialSmoothing({ seasons: one, alpha: 0.05, beta: 0.005 }),
    ]),
    new LinearRegression(),
    new Arima(options),
    ...(options.shared ? [new Neural(options)] : []),
  ];
}
