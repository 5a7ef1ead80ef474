import { expect, it } from 'vitest';
import { Arima } from '../../../src/models/arima.js';
import { StateReader, StateWriter } from '../../../src/state.js';

it('with known coefficients forecasts what statsmodels 0.15 does: ARIMA(2,1,1), φ = 0.5, −0.2, θ = 0.3', () => {
  const values = Array.from({ length: 80 }, (_, i) =>
    Number((20 + 0.1 * i + 3 * Math.sin(i / 3) + (((i * 29) % 13) - 6) * 0.3).toFixed(3)),
  );
  // the innovation as of now, by the model's own definition from the first value on
  const [phi1, phi2, theta] = [0.5, -0.2, 0.3] as const;
  let residual = 0;
  let before: [number, number] = [0, 0];
  for (let t = 1; t < values.length; t++) {
    const change = values[t]! - values[t - 1]!;
    residual = change - (phi1 * before[0] + phi2 * before[1] + theta * residual);
    before = [change, before[0]];
  }
  const state = new StateWriter();
  state.u32(values.length).f64(values.at(-1)!).f64(residual).f64(5);
  state.f64s(before).f64s([phi1, phi2, theta]).f64s([1, 0, 0, 0, 1, 0, 0, 0, 1]);
  const model = new Arima({ seasons: [] });
  model.restore(new StateReader(state.finish()));
  const statsmodels = [32.15309291, 33.02933936, 32.99624401, 32.80444704, 32.71516763, 32.70888731];
  model.forecast(6).forEach((value, h) => {
    expect(value).toBeCloseTo(statsmodels[h]!, 6);
    expect(model.at(h + 1)).toBeCloseTo(statsmodels[h]!, 6);
  });
});
