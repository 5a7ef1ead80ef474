import { createChart, levelsOf } from './chart.js';
import { dollars, duration, element, labelText, milliseconds, number, share, sparkline, time } from './format.js';
import { gpuNode, gpuSummary, waitingRow } from './gpus.js';

const byId = (id) => document.getElementById(id);
const MAX_SAMPLES = 4096;
const MAX_ROWS = 200;
const MAX_LISTED = 300;
const SPARK_POINTS = 40;

const state = {
  series: new Map(),
  anomalies: new Map(),
  decisions: new Map(),
  pipelines: [],
  functions: null,
  gpus: null,
  gpusDrawn: null,
  info: {},
  notShown: 0,
  chosen: new URLSearchParams(location.search).get('series'),
  chart: { samples: [], forecasts: [], anomalies: [] },
  spanMs: null,
};

const chart = createChart(byId('chart'), (text) => {
  byId('readout').textContent = text;
});

// --- live connection ---------------------------------------------------------------------------------------------------------------

let source;
let lastHeard = 0;

/** Opens the stream for the chosen series; its first event brings everything, so what was there before is forgotten. */
function connect() {
  source?.close();
  const query = state.chosen ? `?series=${encodeURIComponent(state.chosen)}` : '';
  source = new EventSource(`/events${query}`);
  let first = true;
  source.addEventListener('open', () => {
    first = true;
  });
  source.addEventListener('change', (event) => {
    lastHeard = Date.now();
    take(JSON.parse(event.data), first);
    first = false;
    setConnection('live');
  });
  source.addEventListener('error', () => setConnection('lost'));
}

function setConnection(now) {
  const box = byId('connection');
  if (box.dataset.state !== now) {
    box.dataset.state = now;
    box.textContent = now === 'live' ? 'live' : now === 'lost' ? 'connection lost' : 'connecting';
  }
  const lost = byId('lost');
  lost.hidden = now !== 'lost';
  if (now === 'lost') {
    const since = lastHeard ? `What you see is from ${time(lastHeard)}. ` : '';
    lost.textContent = `No answer from Iguana. ${since}Trying again every second; if it was stopped, start it with: npm start`;
  }
}

// A server that is there but silent is as good as lost.
setInterval(() => {
  if (lastHeard && Date.now() - lastHeard > 10_000) setConnection('lost');
  if (source.readyState === EventSource.CLOSED) connect();
}, 2000);

function take(change, first) {
  if (first) {
    state.series.clear();
    state.anomalies.clear();
    state.decisions.clear();
    state.chart = { samples: [], forecasts: [], anomalies: [] };
  }
  for (const series of change.series) state.series.set(series.id, series);
  for (const [id, timestamp, value, openAnomalies] of change.values) {
    const known = state.series.get(id);
    if (!known) continue;
    const spark = timestamp === known.timestamp ? known.spark : [...known.spark, value].slice(-SPARK_POINTS);
    state.series.set(id, { ...known, timestamp, value, openAnomalies, spark });
  }
  for (const anomaly of change.anomalies) {
    state.anomalies.delete(anomaly.id);
    state.anomalies.set(anomaly.id, anomaly);
  }
  for (const decision of change.decisions) {
    state.decisions.delete(decision.id);
    state.decisions.set(decision.id, decision);
  }
  forgetOldest(state.anomalies, 500);
  forgetOldest(state.decisions, 500);
  state.pipelines = change.pipelines;
  state.functions = change.functions;
  if (change.gpus) state.gpus = change.gpus;
  state.info = change.info;
  state.notShown = change.notShown;
  if (change.chart) {
    state.chosen ??= change.chart.id;
    state.chart.samples = [...state.chart.samples, ...change.chart.samples].slice(-MAX_SAMPLES);
    if (change.chart.forecasts.length) state.chart.forecasts = change.chart.forecasts;
    state.chart.anomalies = change.chart.anomalies;
  }
  // Nothing was there when the page opened: take the series that is best to begin with once some have come.
  // One that was asked for by name comes by itself, should it ever come.
  if (!change.chart && !state.chosen && state.series.size > 0) return connect();
  requestAnimationFrame(render);
}

function forgetOldest(map, max) {
  while (map.size > max) map.delete(map.keys().next().value);
}

// --- drawing -----------------------------------------------------------------------------------------------------------------------

function render() {
  renderInfo();
  renderPipelines();
  renderSeries();
  renderChart();
  renderGpus();
  renderFunctions();
  renderDecisions();
  renderAnomalies();
}

function renderInfo() {
  const shown = [
    ['broker', state.info.broker],
    ['data', state.info.dataDir],
    ['backend', state.info.backend],
    ['version', state.info.version],
  ].filter(([, value]) => value);
  replace(
    byId('info'),
    shown.map(([key, value]) =>
      element('div', {}, element('dt', { textContent: key }), element('dd', { textContent: value, title: value })),
    ),
  );
}

function renderPipelines() {
  replace(
    byId('pipelines'),
    state.pipelines.map((p) =>
      element(
        'article',
        { className: 'card', 'data-verdict': p.verdict },
        element('h2', { textContent: p.name }),
        element('p', { className: 'verdict', textContent: p.verdict }),
        element('p', { className: 'figure' }, element('b', { textContent: number(p.rate) }), ' records/s'),
        element('p', { className: 'figure' }, 'lag ', element('b', { textContent: number(p.lag) })),
      ),
    ),
  );
}

function renderSeries() {
  const wanted = byId('search').value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...state.series.values()].filter((s) => {
    const text =
      `${s.entity} ${s.name} ${labelText(s.labels, s.entity)}${s.generated ? ' generated' : ''}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
  all.sort(
    (a, b) =>
      Number(b.generated) - Number(a.generated) ||
      compare(a.entity, b.entity) ||
      compare(a.name, b.name) ||
      compare(labelText(a.labels), labelText(b.labels)),
  );
  const more = all.length > MAX_LISTED ? `, first ${MAX_LISTED} listed` : '';
  const hidden = state.notShown ? `, ${state.notShown} more are processed but not shown` : '';
  byId('series-count').textContent = `${all.length} of ${state.series.size} series${more}${hidden}`;
  const list = byId('series');
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
  let group;
  const rows = [];
  for (const s of all.slice(0, MAX_LISTED)) {
    if (s.entity !== group) {
      group = s.entity;
      rows.push(
        element(
          'li',
          { className: 'group' },
          s.entity,
          s.generated ? element('span', { className: 'tag', textContent: 'generated' }) : null,
        ),
      );
    }
    rows.push(element('li', {}, seriesButton(s)));
  }
  replace(list, rows);
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function seriesButton(s) {
  const labels = labelText(s.labels, s.entity);
  const button = element(
    'button',
    { type: 'button', 'data-id': s.id, 'aria-pressed': String(s.id === state.chosen), title: `${s.name} ${labels}` },
    element('span', { className: 'name' }, s.name, labels ? element('small', { textContent: labels }) : null),
    sparkline(s.spark),
    element('span', { className: 'value', textContent: number(s.value) }),
    s.openAnomalies
      ? element('span', { className: 'dot', title: 'open anomaly', role: 'img', 'aria-label': 'open anomaly' })
      : null,
  );
  return button;
}

function renderChart() {
  const s = state.series.get(state.chosen);
  if (!s) return;
  const labels = labelText(s.labels, s.entity);
  byId('chart-title').textContent = `${s.entity} · ${s.name}${labels ? ` · ${labels}` : ''}`;
  byId('chart-tag').hidden = !s.generated;
  const current = state.chart.forecasts.at(-1);
  const end = current?.points.at(-1);
  const facts = [`now ${number(s.value)} at ${s.timestamp === null ? '–' : time(s.timestamp)}`];
  if (end) {
    const interval = end.intervals.reduce((best, i) => (!best || i.level > best.level ? i : best), undefined);
    const band = interval ? ` (${interval.level} %: ${number(interval.lower)} to ${number(interval.upper)})` : '';
    facts.push(`in ${duration(end.horizonMs)} ${number(end.value)}${band}`);
    facts.push(end.confidence > 0 ? `confidence ${end.confidence.toFixed(2)}` : 'no better than last season yet');
    facts.push(`model ${current.model}`);
    byId('level').textContent = `${levelsOf(current).map(String).join(' and ')} %`;
  } else facts.push('no forecast yet: it needs some more history');
  byId('chart-facts').textContent = facts.join('  ·  ');
  byId('chart').setAttribute('aria-label', `History and forecast of ${s.name}: ${facts.join(', ')}`);
  chart.show({ ...state.chart, spanMs: state.spanMs });
}

/** Only when something changed: tooltips go away when what they are of is drawn anew. */
function renderGpus() {
  const all = state.gpus;
  if (all === state.gpusDrawn) return;
  state.gpusDrawn = all;
  byId('gpus-panel').hidden = all.totals.gpus === 0 && all.waiting.length === 0;
  byId('gpus-count').textContent = gpuSummary(all);
  replace(byId('gpus'), all.nodes.map(gpuNode));
  byId('gpu-slices-key').hidden = !all.nodes.some(({ gpus }) => gpus.some(({ slices }) => slices?.computeSlots));
  byId('gpus-waiting').hidden = all.waiting.length === 0;
  const more = all.moreWaiting ? `, first ${all.waiting.length} listed` : '';
  byId('gpus-waiting-count').textContent = `${all.waiting.length + all.moreWaiting}${more}`;
  replace(byId('gpus-waiting-rows'), all.waiting.map(waitingRow));
}

function renderFunctions() {
  const all = state.functions;
  byId('functions-panel').hidden = all === null;
  if (all === null) return;
  byId('functions-count').textContent = all.length ? `${all.length} deployed` : '';
  const rows = [...all].sort((a, b) => compare(a.name, b.name));
  replace(
    byId('functions'),
    rows.length
      ? rows.slice(0, MAX_ROWS).map(functionRow)
      : [emptyRow(8, 'None yet. Deploy one with: iguana function create, or a file in functions/.')],
  );
}

function functionRow(f) {
  const busy = f.instances - f.idleInstances;
  const waiting = f.waiting ? `, ${number(f.waiting)} wait` : '';
  return element(
    'tr',
    {},
    element(
      'td',
      {},
      f.name,
      ...(f.paused ? [' ', element('span', { className: 'tag', textContent: 'paused' })] : []),
      element('small', { textContent: `${f.runtime}, version ${f.version}` }),
    ),
    element(
      'td',
      {},
      ...(f.triggers.length ? f.triggers : ['calls only']).map((text) => element('div', { textContent: text })),
      f.lag === null ? null : element('small', { textContent: `lag ${number(f.lag)}` }),
    ),
    element(
      'td',
      { className: 'number' },
      number(f.instances),
      element('small', { textContent: f.instances || f.waiting ? `${busy} busy${waiting}` : 'scaled to zero' }),
    ),
    element('td', { className: 'number', textContent: number(f.rate) }),
    element('td', { className: 'number', textContent: milliseconds(f.p99Ms) }),
    element('td', { className: 'number', textContent: share(f.coldShare) }),
    element('td', { className: 'number', textContent: share(f.failedShare) }),
    element('td', { className: 'number', textContent: dollars(f.costUsd) }),
  );
}

function renderDecisions() {
  const rows = [...state.decisions.values()].reverse();
  byId('decisions-count').textContent = rows.length ? `${rows.length} newest` : '';
  replace(
    byId('decisions'),
    rows.length
      ? rows.slice(0, MAX_ROWS).map(decisionRow)
      : [emptyRow(5, 'None yet. A decision appears when a policy would change the number of instances.')],
  );
}

function decisionRow(d) {
  const direction = d.desired > d.current ? 'up' : d.desired < d.current ? 'down' : 'same';
  const asked = [`reactive ${d.reactive}`];
  if (d.predicted !== null) {
    const horizon = d.horizonMs === null ? '' : ` in ${duration(d.horizonMs)}`;
    const quantile = d.quantile === null ? '' : ` at p${number(d.quantile * 100)}`;
    asked.push(`forecast ${d.predicted}${horizon}${quantile}`);
  }
  return element(
    'tr',
    {},
    element('td', { className: 'when', textContent: time(d.timestamp) }),
    element('td', {}, d.entity, element('small', { textContent: d.policy })),
    element(
      'td',
      { className: 'instances' },
      element('span', {
        className: `change ${direction}`,
        textContent: direction === 'same' ? `stays at ${d.current}` : `${d.current} → ${d.desired}`,
      }),
      d.dryRun ? element('span', { className: 'tag', textContent: 'dry run' }) : null,
    ),
    element('td', {}, ...asked.map((text) => element('div', { textContent: text }))),
    element('td', { className: 'reason', textContent: d.reason }),
  );
}

function renderAnomalies() {
  const all = [...state.anomalies.values()].reverse();
  const active = all.filter((a) => a.state !== 'resolved');
  byId('anomalies-count').textContent = all.length
    ? `${active.length} active, ${all.length - active.length} resolved`
    : '';
  const rows = [...active, ...all.filter((a) => a.state === 'resolved')].slice(0, MAX_ROWS);
  replace(
    byId('anomalies'),
    rows.length ? rows.map(anomalyRow) : [emptyRow(6, 'None. All series are within what is expected of them.')],
  );
}

function anomalyRow(a) {
  const labels = labelText(a.labels, a.entity);
  const known = [...state.series.values()].find(
    (s) =>
      s.id === a.series || (s.name === a.name && s.entity === a.entity && labelText(s.labels, s.entity) === labels),
  );
  const name = `${a.entity} ${a.name}`;
  const resolved = a.state === 'resolved';
  return element(
    'tr',
    { className: resolved ? 'resolved' : '' },
    element(
      'td',
      {},
      element('span', {
        className: `badge ${resolved ? 'resolved' : a.severity}`,
        textContent: resolved ? 'resolved' : a.severity,
      }),
      element('small', { textContent: a.type }),
    ),
    element(
      'td',
      { className: 'when' },
      time(a.openedAt),
      element('small', {
        textContent: resolved ? `for ${duration((a.resolvedAt ?? a.updatedAt) - a.openedAt)}` : 'active',
      }),
    ),
    element(
      'td',
      {},
      known ? element('button', { type: 'button', className: 'link', 'data-id': known.id, textContent: name }) : name,
      labels ? element('small', { textContent: labels }) : null,
    ),
    element('td', { className: 'number', textContent: number(a.value) }),
    element(
      'td',
      { className: 'number' },
      number(a.expected),
      element('small', { textContent: `${number(a.lower)} to ${number(a.upper)}` }),
    ),
    element(
      'td',
      { className: 'reason' },
      a.reason,
      a.recommendation ? element('small', { textContent: a.recommendation }) : null,
    ),
  );
}

function emptyRow(columns, text) {
  return element('tr', {}, element('td', { colSpan: columns, className: 'empty', textContent: text }));
}

function replace(parent, children) {
  parent.replaceChildren(...children);
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

// --- what the user does ------------------------------------------------------------------------------------------------------------

function choose(id) {
  if (id === state.chosen) return;
  state.chosen = id;
  history.replaceState(null, '', `?series=${encodeURIComponent(id)}`);
  connect();
}

document.addEventListener('click', (event) => {
  const id = event.target.closest('button[data-id]')?.dataset.id;
  if (id) choose(id);
});

byId('search').addEventListener('input', renderSeries);

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === '/' && !typing) {
    event.preventDefault();
    byId('search').focus();
  }
  if (event.key === 'Escape' && typing) {
    event.target.value = '';
    renderSeries();
  }
  if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && byId('series').parentElement.contains(event.target)) {
    const buttons = [...byId('series').querySelectorAll('button')];
    const at = buttons.indexOf(document.activeElement) + (event.key === 'ArrowDown' ? 1 : -1);
    event.preventDefault();
    if (at < 0) byId('search').focus();
    else buttons[Math.min(at, buttons.length - 1)]?.focus();
  }
});

const RANGES = [
  ['auto', null],
  ['1 h', 3_600_000],
  ['6 h', 6 * 3_600_000],
  ['1 day', 86_400_000],
  ['all', Number.POSITIVE_INFINITY],
];

for (const [label, spanMs] of RANGES) {
  const button = element('button', {
    type: 'button',
    textContent: label,
    'aria-pressed': String(spanMs === state.spanMs),
  });
  button.addEventListener('click', () => {
    state.spanMs = spanMs;
    for (const other of byId('ranges').children) other.setAttribute('aria-pressed', String(other === button));
    renderChart();
  });
  byId('ranges').append(button);
}

connect();
