// For a browser, which never leaves the root, this is /node_modules/uplot/…; for editors and checks it is the package itself.
import uPlot from '../../../node_modules/uplot/dist/uPlot.esm.js';
import { number, time } from './format.js';

const HEIGHT = 340;

/**
 * The chart of one series: measured values as a uPlot line; forecast, band, earlier forecasts, the line at now and anomaly marks drawn over it.
 * `show({samples, forecasts, anomalies, spanMs})` redraws; `onHover(text)` gets what lies under the pointer.
 */
export function createChart(box, onHover) {
  let view = { samples: [], forecasts: [], anomalies: [], spanMs: null };
  let colors = readColors();
  let drawn = { xMin: 0, xMax: 1, yMin: 0, yMax: 1 };

  const plot = new uPlot(
    {
      width: box.clientWidth || 600,
      height: HEIGHT,
      ms: 1,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: () => [drawn.xMin, drawn.xMax] },
        y: { range: () => [drawn.yMin, drawn.yMax] },
      },
      axes: [
        {
          stroke: () => colors.axis,
          grid: { stroke: () => colors.grid, width: 1 },
          ticks: { show: false },
          values: axisTimes,
        },
        {
          stroke: () => colors.axis,
          grid: { stroke: () => colors.grid, width: 1 },
          ticks: { show: false },
          size: 60,
          values: (_, splits) => splits.map(number),
        },
      ],
      series: [{}, { stroke: () => colors.measured, width: 1.6, points: { show: false } }],
      hooks: { drawAxes: [drawBehind], draw: [drawOver], setCursor: [hover] },
    },
    [[], []],
    box,
  );

  new ResizeObserver(() => {
    const width = box.clientWidth;
    if (width > 0 && width !== plot.width) requestAnimationFrame(() => plot.setSize({ width, height: HEIGHT }));
  }).observe(box);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    colors = readColors();
    plot.redraw();
  });

  function show(next) {
    view = next;
    drawn = bounds(next);
    box.dataset.empty = String(next.samples.length === 0);
    const samples = next.samples.filter(([t]) => t >= drawn.xMin - 1);
    plot.setData([samples.map(([t]) => t), samples.map(([, v]) => v)]);
  }

  function drawBehind(u) {
    clipped(u, () => {
      const ctx = u.ctx;
      const current = view.forecasts.at(-1);
      if (current) {
        for (const level of levelsOf(current)) {
          const points = current.points
            .map((p) => [p.timestamp, p.intervals.find((i) => i.level === level)])
            .filter(([, i]) => i);
          if (points.length === 0) continue;
          ctx.beginPath();
          const from = startOf(current);
          if (from) ctx.moveTo(x(u, from[0]), y(u, from[1]));
          for (const [t, i] of points) ctx.lineTo(x(u, t), y(u, i.upper));
          for (const [t, i] of points.toReversed()) ctx.lineTo(x(u, t), y(u, i.lower));
          ctx.closePath();
          ctx.fillStyle = colors.band;
          ctx.fill();
        }
      }
      for (const old of view.forecasts.slice(0, -1)) {
        line(u, forecastLine(old), colors.old, 1);
      }
    });
  }

  function drawOver(u) {
    clipped(u, () => {
      const ctx = u.ctx;
      const ratio = devicePixelRatio;
      const now = view.samples.at(-1)?.[0];
      const current = view.forecasts.at(-1);
      if (current) line(u, forecastLine(current), colors.forecast, 2, [5, 4]);
      for (const anomaly of view.anomalies) drawAnomaly(u, anomaly);
      if (now !== undefined) {
        const at = Math.round(x(u, now));
        line(
          u,
          [
            [now, drawn.yMin],
            [now, drawn.yMax],
          ],
          colors.now,
          1,
        );
        ctx.fillStyle = colors.now;
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        const nearRight = at > u.bbox.left + u.bbox.width - 40 * ratio;
        ctx.textAlign = nearRight ? 'right' : 'left';
        ctx.fillText('now', at + (nearRight ? -4 : 4) * ratio, u.bbox.top + 12 * ratio);
      }
    });
  }

  function drawAnomaly(u, anomaly) {
    const ctx = u.ctx;
    const ratio = devicePixelRatio;
    const end = anomaly.resolvedAt ?? view.samples.at(-1)?.[0] ?? anomaly.updatedAt;
    if (end < drawn.xMin || anomaly.openedAt > drawn.xMax) return;
    const left = x(u, anomaly.openedAt);
    const width = Math.max(2 * ratio, x(u, end) - left);
    const color =
      anomaly.severity === 'critical' ? colors.critical : anomaly.severity === 'warning' ? colors.warning : colors.note;
    ctx.globalAlpha = 0.12;
    ctx.fillStyle = color;
    ctx.fillRect(left, u.bbox.top, width, u.bbox.height);
    ctx.globalAlpha = 1;
    ctx.fillRect(left, u.bbox.top + u.bbox.height - 4 * ratio, width, 4 * ratio);
    ctx.beginPath();
    ctx.arc(left, y(u, valueNear(anomaly.openedAt) ?? anomaly.value), 4 * ratio, 0, 2 * Math.PI);
    ctx.fill();
  }

  function hover(u) {
    const at = u.cursor.left;
    if (at === undefined || at === null || at < 0) return onHover('');
    const t = u.posToVal(at, 'x');
    const last = view.samples.at(-1)?.[0] ?? 0;
    const anomaly = view.anomalies.find((a) => t >= a.openedAt && t <= (a.resolvedAt ?? last));
    if (t <= last) {
      const i = u.cursor.idx;
      const [xs, ys] = u.data;
      if (i === null || i === undefined || xs[i] === undefined) return onHover('');
      return onHover(`${time(xs[i])}  ${number(ys[i])}${anomaly ? `  ${anomaly.severity} ${anomaly.type}` : ''}`);
    }
    const points = view.forecasts.at(-1)?.points ?? [];
    const point = points.reduce(
      (best, p) => (!best || Math.abs(p.timestamp - t) < Math.abs(best.timestamp - t) ? p : best),
      undefined,
    );
    if (!point) return onHover('');
    const interval = widest(point);
    const band = interval ? ` (${interval.level} %: ${number(interval.lower)} to ${number(interval.upper)})` : '';
    onHover(
      `${time(point.timestamp)}  forecast ${number(point.value)}${band}, confidence ${point.confidence.toFixed(2)}`,
    );
  }

  /** Measured value at or just before `t`. */
  function valueNear(t) {
    return view.samples.findLast(([at]) => at <= t)?.[1];
  }

  /** Where a forecast's line leaves the measured one. */
  function startOf(forecast) {
    const value = valueNear(forecast.madeAt);
    return value === undefined ? undefined : [forecast.madeAt, value];
  }

  function forecastLine(forecast) {
    const start = startOf(forecast);
    const points = forecast.points.map((p) => [p.timestamp, p.value]);
    return start ? [start, ...points] : points;
  }

  return { show };
}

function bounds({ samples, forecasts, spanMs }) {
  const last = samples.at(-1)?.[0] ?? Date.now();
  const first = samples[0]?.[0] ?? last - 60_000;
  const current = forecasts.at(-1);
  const horizon = current?.points.at(-1)?.horizonMs ?? 0;
  const step = samples.length > 1 ? (last - first) / (samples.length - 1) : 1000;
  const span = spanMs === null ? Math.max(6 * horizon, 240 * step) : spanMs;
  const xMin = Math.max(first, last - span);
  const ahead = Math.max(current?.points.at(-1)?.timestamp ?? last, last);
  const xMax = ahead + (ahead - xMin || 1000) * 0.01;
  const seen = samples.filter(([t]) => t >= xMin).map(([, v]) => v);
  const measured = [...seen];
  for (const p of current?.points ?? []) {
    measured.push(p.value);
    const interval = widest(p);
    if (interval) measured.push(interval.lower, interval.upper);
  }
  let yMin = measured.length ? Math.min(...measured) : 0;
  let yMax = measured.length ? Math.max(...measured) : 1;
  const notNegative = yMin >= 0 || (seen.length > 0 && Math.min(...seen) >= 0);
  const pad = (yMax - yMin || Math.abs(yMax) || 1) * 0.08;
  yMax += pad;
  yMin -= pad;
  // A level that never was below zero gets no empty space there, and a line at zero when the values come near it.
  if (notNegative && yMin < (yMax - yMin) * 0.2) yMin = 0;
  return { xMin, xMax, yMin, yMax };
}

function widest(point) {
  return point.intervals.reduce((best, i) => (!best || i.level > best.level ? i : best), undefined);
}

/** Levels of a forecast, widest first, so that narrower bands lie on top. */
export function levelsOf(forecast) {
  return [...new Set(forecast.points.flatMap((p) => p.intervals.map((i) => i.level)))].sort((a, b) => b - a);
}

function line(u, points, color, width, dash = []) {
  const ctx = u.ctx;
  ctx.beginPath();
  points.forEach(([t, v], i) => {
    if (i === 0) ctx.moveTo(x(u, t), y(u, v));
    else ctx.lineTo(x(u, t), y(u, v));
  });
  ctx.strokeStyle = color;
  ctx.lineWidth = width * devicePixelRatio;
  ctx.setLineDash(dash.map((d) => d * devicePixelRatio));
  ctx.stroke();
  ctx.setLineDash([]);
}

function clipped(u, draw) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  draw();
  u.ctx.restore();
}

const x = (u, t) => u.valToPos(t, 'x', true);
const y = (u, v) => u.valToPos(v, 'y', true);

/** Axis labels in 24-hour time; the day stands where it changes. */
function axisTimes(_, splits) {
  let day = '';
  return splits.map((t) => {
    const text = time(t);
    const [date, clock] = text.split(' ');
    const close = splits.length > 1 && splits[1] - splits[0] < 60_000;
    const label = `${close ? clock : clock.slice(0, 5)}${date === day ? '' : `\n${date}`}`;
    day = date;
    return label;
  });
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ['axis', 'grid', 'measured', 'forecast', 'band', 'old', 'now', 'critical', 'warning', 'note'];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
