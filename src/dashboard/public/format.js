/** A number with three significant digits, thousands shortened: 1.23k, 45.6M. */
export function number(value) {
  if (value === null || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  for (const [limit, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ]) {
    if (size >= limit) return `${Number((value / (unit === 'k' ? 1e3 : limit)).toPrecision(3))}${unit}`;
  }
  return String(size >= 1000 ? Math.round(value) : Number(value.toPrecision(3)));
}

export function duration(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return `${Number((minutes / 60).toPrecision(3))} h`;
}

/** Of a call: microseconds matter below a millisecond. */
export function milliseconds(ms) {
  if (ms === null) return '–';
  return ms < 1 ? `${number(ms * 1000)} µs` : ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`;
}

/** Memory of a device, from MiB. */
export function memory(mb) {
  if (mb === null) return '–';
  return mb >= 1024 ? `${number(mb / 1024)} GiB` : `${number(mb)} MiB`;
}

/** A part of a whole, per cent. */
export function share(part) {
  if (part === null) return '–';
  return part > 0 && part < 0.001 ? '< 0.1 %' : `${number(part * 100)} %`;
}

/** A price: hundredths, or its first two digits when it is less. */
export function dollars(usd) {
  if (usd === null) return '–';
  if (usd === 0 || usd >= 0.01) return `$${usd.toFixed(2)}`;
  return `$${usd.toFixed(Math.min(9, 1 - Math.floor(Math.log10(usd))))}`;
}

/** Day and time, as the table and the readout show it. */
export function time(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The labels worth showing beside entity and name. */
export function labelText(labels, entity) {
  return Object.entries(labels)
    .filter(([key, value]) => value !== entity && key !== 'generated' && key !== 'host')
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
}

/** An element with properties and children; text goes in as text, never as markup. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith('aria-') || key.startsWith('data-') || key === 'role') node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

/** A small line of values as SVG. */
export function sparkline(values, width = 72, height = 20) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('class', 'spark');
  svg.setAttribute('aria-hidden', 'true');
  if (values.length < 2) return svg;
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
  const point = (v, i) =>
    `${((i / (values.length - 1)) * width).toFixed(1)},${(height - 2 - ((v - low) / span) * (height - 4)).toFixed(1)}`;
  line.setAttribute('points', values.map(point).join(' '));
  svg.append(line);
  return svg;
}
