import { afterEach, expect, it, vi } from 'vitest';
import { LiveModel } from '../../../src/dashboard/live-model.js';
import { makeSeries } from '../../../src/records.js';

vi.mock('../../../src/dashboard/public/chart.js', () => ({
  createChart: () => ({ show: () => undefined }),
  levelsOf: () => [],
}));

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** As much of an element as the page's script asks of it. */
function fakeElement(): object {
  const own: Record<string | symbol, unknown> = { dataset: {}, value: '', children: [], contains: () => false };
  return new Proxy(own, { get: (target, name) => (name in target ? target[name] : () => undefined) });
}

class FakeEventSource {
  static readonly opened: FakeEventSource[] = [];
  static readonly CLOSED = 2;
  readonly readyState = 1;
  readonly listeners = new Map<string, (event: { data: string }) => void>();

  constructor(readonly url: string) {
    FakeEventSource.opened.push(this);
  }

  addEventListener(name: string, listener: (event: { data: string }) => void): void {
    this.listeners.set(name, listener);
  }

  close(): void {}
}

it('a page opened for a series that is not there shows the others, without connecting again and again', async () => {
  vi.useFakeTimers();
  const elements = new Map<string, object>();
  let draw = 0;
  vi.stubGlobal('document', {
    activeElement: null,
    addEventListener: () => undefined,
    createElement: fakeElement,
    createElementNS: fakeElement,
    getElementById: (id: string) => elements.get(id) ?? elements.set(id, fakeElement()).get(id),
  });
  vi.stubGlobal('location', { search: '?series=gone' });
  vi.stubGlobal('EventSource', FakeEventSource);
  vi.stubGlobal('requestAnimationFrame', () => draw++);
  const script: string = '../../../src/dashboard/public/app.js';
  await import(script);
  const model = new LiveModel();
  model.sample(makeSeries('requests', {}), 1_000, 1);

  const [first] = FakeEventSource.opened;
  expect(first!.url).toBe('/events?series=gone');
  first!.listeners.get('change')!({ data: JSON.stringify(model.changesAfter(0, 'gone')) });
  expect(FakeEventSource.opened).toHaveLength(1);
  expect(draw).toBe(1);
});
