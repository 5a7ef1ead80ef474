import { element, memory, number, share, time } from './format.js';

const COLOURS = 6;
const absences = {
  'not-supported': 'this device has none',
  'no-permission': 'no permission to read it',
  lost: 'the device did not answer',
  deprecated: 'its tool does not tell it any more',
  'not-reported': 'its tool did not tell it',
  invalid: 'what its tool told cannot be',
  'driver-error': 'its driver answered with an error',
};

/** One line about all of them. */
export function gpuSummary({ totals, notShown, role }) {
  const { gpus, nodes, held, reserved } = totals;
  const parts = [`${gpus} on ${nodes === 1 ? 'one node' : `${nodes} nodes`}`, `${number(held)} held`];
  if (reserved) parts.push(`${number(reserved)} reserved`);
  if (notShown) parts.push(`${notShown} not shown`);
  if (role === 'standing-by') parts.push('another process decides');
  return parts.join(', ');
}

/** A block a node, with a card a GPU. */
export function gpuNode({ node, at, silent, gpus, more }) {
  return element(
    'section',
    { className: 'gpu-node', 'data-silent': String(silent), 'aria-label': `Node ${node}` },
    element(
      'div',
      { className: 'panel-head' },
      element('h3', { textContent: node }),
      element('span', {
        className: 'quiet',
        textContent: `${gpus.length + more} GPU${gpus.length + more === 1 ? '' : 's'}`,
      }),
      silent ? element('span', { className: 'tag alarm', textContent: `silent, last heard ${time(at)}` }) : null,
    ),
    element('div', { className: 'gpu-cards' }, ...gpus.map((gpu) => gpuCard(gpu, silent))),
    more ? element('p', { className: 'quiet', textContent: `${more} more of this node are not shown` }) : null,
  );
}

function gpuCard(gpu, silent) {
  const { id, name, health, causes, stale, seenAt } = gpu;
  const why = causes.length ? causes.join('\n') : health === 'ok' ? 'nothing speaks against it' : 'no cause told';
  return element(
    'article',
    { className: 'gpu', 'data-health': health, 'data-stale': String(stale || silent) },
    element(
      'div',
      { className: 'gpu-head' },
      element('span', {
        className: 'gpu-health',
        title: `${health}: ${why}`,
        role: 'img',
        'aria-label': `${health}: ${why}`,
      }),
      element('b', { textContent: name, title: name }),
      element('code', { textContent: shortId(id), title: id }),
      health === 'ok' ? null : element('span', { className: 'tag gpu-state', textContent: health, title: why }),
      stale && !silent && health !== 'lost'
        ? element('span', { className: 'tag', textContent: 'stale', title: `what is shown is of ${time(seenAt)}` })
        : null,
    ),
    gpu.slices ? slices(gpu.slices) : tenants(gpu),
    meter(
      'load',
      gpu.utilization === null ? null : gpu.utilization / 100,
      percent(gpu.utilization),
      gpu.absent.utilization,
    ),
    memoryMeter(gpu),
    element(
      'p',
      { className: 'gpu-facts' },
      fact(gpu.temperature === null ? '– °C' : `${number(gpu.temperature)} °C`, 'temperature', gpu.absent.temperature),
      fact(powerText(gpu), 'power', gpu.absent.power),
      gpu.processes === null
        ? null
        : fact(`${gpu.processes} process${gpu.processes === 1 ? '' : 'es'}`, 'processes that use it'),
    ),
    causes.length ? element('p', { className: 'gpu-cause', textContent: causes[0], title: causes.join('\n') }) : null,
  );
}

/** A segment for each who has a part of it, what is used beside them, and what is free. */
function tenants({ tenants: all, moreTenants, foreignMb, memoryTotalMb, health }) {
  const segments = all.map((one) => ({
    className: `gpu-part ${one.reserved ? 'reserved' : 'held'}`,
    label: one.reserved ? `for ${one.name}` : one.name,
    title: `${one.reserved ? `reserved for ${one.name}` : `${one.name}, owner ${one.owner}`}: ${one.mode}, ${one.mode === 'exclusive' ? 'all of it' : `${share(one.part)}${one.memoryMb ? `, ${memory(one.memoryMb)}` : ''}`}`,
    part: one.part,
    colour: colourOf(one.owner),
  }));
  const foreign = foreignMb && memoryTotalMb ? Math.min(1, foreignMb / memoryTotalMb) : 0;
  if (foreign > 0.01) {
    const title = `${memory(foreignMb)} are used by what no allocation accounts for`;
    segments.push({ className: 'gpu-part foreign', label: 'others', title, part: foreign });
  }
  if (moreTenants)
    segments.push({ className: 'gpu-part held', label: `+${moreTenants}`, title: `${moreTenants} more`, part: 0.08 });
  const free = health === 'lost' ? 'nothing to give' : 'free';
  return element(
    'div',
    {
      className: 'gpu-bar',
      role: 'img',
      'aria-label': segments.length ? segments.map((s) => s.title).join('; ') : free,
    },
    ...segments.map(({ className, label, title, part, colour }) =>
      element('span', {
        className,
        title,
        // Too narrow for a word; its tooltip has it.
        textContent: part < 0.08 ? '' : label,
        style: `width: ${(100 * part).toFixed(1)}%`,
        ...(colour === undefined ? {} : { 'data-colour': String(colour) }),
      }),
    ),
    segments.length ? null : element('span', { className: 'gpu-free', textContent: free }),
  );
}

/** Partitions in their places: compute slots above, memory slots below. */
function slices({ memorySlots, computeSlots, slices: all, notDrawn }) {
  const title = ({ profile, tenant, state }) => {
    const who = { held: `held by ${tenant}`, reserved: `reserved for ${tenant}`, planned: `to be made for ${tenant}` };
    return `${profile ?? 'partition'}: ${who[state] ?? 'free'}`;
  };
  const place = (start, size) => `grid-column: ${start + 1} / span ${size}`;
  const row = (className, slots, blocks) =>
    element(
      'div',
      { className, style: `grid-template-columns: repeat(${memorySlots}, minmax(0, 1fr))` },
      ...Array.from({ length: slots }, (_, i) => element('i', { className: 'slot', style: place(i, 1) })),
      ...blocks,
    );
  const block = (slice, size, ...inside) =>
    element(
      'span',
      {
        className: `slice ${slice.state}`,
        title: title(slice),
        style: place(slice.start, size),
        ...(slice.owner === null ? {} : { 'data-colour': String(colourOf(slice.owner)) }),
      },
      ...inside,
    );
  const name = (slice) => (slice.size === 1 ? (slice.profile ?? '').split('.')[0] : (slice.profile ?? ''));
  return element(
    'div',
    { className: 'gpu-slices', role: 'img', 'aria-label': all.map(title).join('; ') || 'no partition' },
    computeSlots === null
      ? null
      : row(
          'slots compute',
          computeSlots,
          all.filter(({ compute }) => compute !== null).map((slice) => block(slice, slice.compute)),
        ),
    row(
      'slots',
      memorySlots,
      all.map((slice) =>
        block(
          slice,
          slice.size,
          element('b', { textContent: name(slice) }),
          element('small', { textContent: slice.tenant ?? 'free' }),
        ),
      ),
    ),
    notDrawn ? element('p', { className: 'quiet', textContent: `${notDrawn} more, whose place is not told` }) : null,
  );
}

function meter(label, part, text, absent) {
  return element(
    'div',
    { className: 'gpu-meter', title: absent ? `${label} is not known: ${absences[absent]}` : `${label} ${text}` },
    element('span', { textContent: label }),
    element(
      'span',
      { className: 'gpu-track', 'data-unknown': String(part === null) },
      part === null ? null : element('i', { style: `width: ${(100 * Math.min(1, part)).toFixed(1)}%` }),
    ),
    element('span', { className: 'gpu-figure', textContent: text }),
  );
}

function memoryMeter({ memoryUsedMb: used, memoryTotalMb: total, absent }) {
  const part = used !== null && total ? used / total : null;
  const text =
    total === null
      ? memory(used)
      : used === null
        ? `– of ${memory(total)}`
        : `${within(used, total)} of ${memory(total)}`;
  return meter('memory', part, text, absent.memoryUsedMb);
}

/** A part in the unit of the whole. */
function within(used, total) {
  return total < 1024 ? number(used) : used < 1024 ? memory(used) : number(used / 1024);
}

function powerText({ power, powerLimit }) {
  if (power === null) return powerLimit === null ? '– W' : `– of ${number(powerLimit)} W`;
  return powerLimit === null ? `${number(power)} W` : `${number(power)} of ${number(powerLimit)} W`;
}

function fact(text, what, absent) {
  return element('span', { textContent: text, title: absent ? `${what} is not known: ${absences[absent]}` : what });
}

function percent(value) {
  return value === null ? '–' : `${number(value)} %`;
}

/** Enough to tell it from others: the first group of a UUID. */
function shortId(id) {
  return id.length <= 16 ? id : (id.match(/^(?:GPU-)?[0-9a-f]{8}/i)?.[0] ?? `${id.slice(0, 12)}…`);
}

/** The same owner has the same colour everywhere. */
function colourOf(text) {
  let hash = 0;
  for (const c of text) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  return hash % COLOURS;
}

/** A line of those that wait. */
export function waitingRow({ instance, gang, owner, gpuCount, priority, since, until, what }) {
  return element(
    'tr',
    {},
    element('td', {}, gang ?? instance, element('small', { textContent: gang ? `gang of ${owner}` : owner })),
    element('td', { className: 'number', textContent: number(gpuCount) }),
    element('td', { className: 'number', textContent: number(priority) }),
    element('td', { className: 'when' }, time(since), element('small', { textContent: `until ${time(until)}` })),
    element('td', { className: 'reason', textContent: what }),
  );
}
