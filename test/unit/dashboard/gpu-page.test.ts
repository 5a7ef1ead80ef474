import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { gpuRows, type ShownGpu, type ShownGpus } from '../../../src/dashboard/gpu-rows.js';
import { believableGpus, ids } from './believable-gpus.js';

/** As much of an element as the page's scripts ask of it. */
class FakeElement {
  className = '';
  textContent = '';
  title = '';
  style = '';
  readonly attributes = new Map<string, string>();
  readonly children: (FakeElement | string)[] = [];

  constructor(readonly tag: string) {}

  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
  }

  append(...children: (FakeElement | string)[]): void {
    this.children.push(...children);
  }

  all(className: string): FakeElement[] {
    const inside = this.children.flatMap((child) => (typeof child === 'string' ? [] : child.all(className)));
    return this.className.split(' ').includes(className) ? [this, ...inside] : inside;
  }

  get text(): string {
    const inside = this.children.map((child) => (typeof child === 'string' ? child : child.text));
    return [this.textContent, ...inside].filter(Boolean).join(' ');
  }
}

interface PageScript {
  gpuNode(node: ShownGpus['nodes'][number]): FakeElement;
  gpuSummary(shown: ShownGpus): string;
  waitingRow(waiting: ShownGpus['waiting'][number]): FakeElement;
}

let page: PageScript;
let shown: ShownGpus;
beforeEach(async () => {
  vi.stubGlobal('document', { createElement: (tag: string) => new FakeElement(tag) });
  const script: string = '../../../src/dashboard/public/gpus.js';
  page = (await import(script)) as PageScript;
  shown = gpuRows((await believableGpus()).gpus);
});
afterEach(() => {
  vi.unstubAllGlobals();
});

/** The card of one GPU. */
function card(id: string, parts: Partial<ShownGpu> = {}): FakeElement {
  const node = shown.nodes.find(({ gpus }) => gpus.some((gpu) => gpu.id === id))!;
  const gpus = node.gpus.filter((gpu) => gpu.id === id).map((gpu) => ({ ...gpu, ...parts }));
  return page.gpuNode({ ...node, gpus }).all('gpu')[0]!;
}

test('each tenant has a segment as wide as its part, others a marked one', () => {
  const parts = card(ids.shared).all('gpu-part');
  expect(parts.map(({ className, textContent, style }) => [className, textContent, style])).toEqual([
    ['gpu-part held', 'chat-0', 'width: 25.0%'],
    ['gpu-part held', 'speech-1', 'width: 30.0%'],
    ['gpu-part foreign', 'others', 'width: 24.5%'],
  ]);
  expect(parts[2]!.title).toBe('19.5 GiB are used by what no allocation accounts for');
  expect(card(ids.reserved).all('reserved')[0]!.textContent).toBe('for training');
  expect(card(ids.reserved, { tenants: [] }).all('gpu-free')[0]!.textContent).toBe('free');
});

test('partitions are drawn from slot to slot, the free ones too', () => {
  const [compute, memory] = card(ids.mig).all('slots');
  expect([compute!.all('slot').length, memory!.all('slot').length]).toEqual([7, 8]);
  expect(compute!.all('slice').map(({ style }) => style)).toEqual([
    'grid-column: 1 / span 3',
    'grid-column: 5 / span 2',
    'grid-column: 7 / span 1',
  ]);
  expect(memory!.all('slice').map(({ className, style, text }) => [className, style, text])).toEqual([
    ['slice held', 'grid-column: 1 / span 4', '3g.40gb notebook-ana'],
    ['slice free', 'grid-column: 5 / span 2', '2g.20gb free'],
    ['slice held', 'grid-column: 7 / span 1', '1g embedder'],
  ]);
  expect(card(ids.planned).all('planned')[0]!.title).toBe('4g.40gb: to be made for summaries');
});

test('health has its cause, and what is not known its reason instead of a zero', () => {
  const lost = card(ids.lost);
  expect([lost.attributes.get('data-health'), lost.attributes.get('data-stale')]).toEqual(['lost', 'true']);
  expect(lost.all('gpu-health')[0]!.title).toBe(
    'lost: it has fallen off the bus (Xid 79); drain the node and reboot it',
  );
  expect(lost.all('gpu-cause')[0]!.textContent).toContain('Xid 79');
  expect(lost.all('gpu-figure').map(({ textContent }) => textContent)).toEqual(['–', '– of 79.6 GiB']);
  expect(lost.all('gpu-meter')[0]!.title).toBe('load is not known: the device did not answer');
  expect(lost.all('gpu-track')[0]!.attributes.get('data-unknown')).toBe('true');
  const idle = card(ids.reserved).all('gpu-figure');
  expect(idle.map(({ textContent }) => textContent)).toEqual(['0 %', '285 MiB of 192 GiB']);
});

test('silent nodes, stale GPUs and those left out are told', () => {
  const silent = page.gpuNode(shown.nodes[2]!);
  expect(silent.attributes.get('data-silent')).toBe('true');
  expect(silent.all('alarm')[0]!.textContent).toMatch(/^silent, last heard 2026-03-0\d \d\d:\d\d:50$/);
  expect(silent.all('gpu')[0]!.attributes.get('data-stale')).toBe('true');
  expect(card(ids.whole).attributes.get('data-stale')).toBe('false');
  expect(card(ids.whole, { stale: true }).text).toContain('stale');
  expect(page.gpuNode({ ...shown.nodes[1]!, more: 3 }).text).toContain('3 more of this node are not shown');
});

test('one line for all of them, and one for each that waits', () => {
  expect(page.gpuSummary(shown)).toMatch(/^8 on 3 nodes, [\d.]+ held, 1 reserved$/);
  expect(page.gpuSummary({ ...shown, notShown: 9, role: 'standing-by' })).toContain(
    '9 not shown, another process decides',
  );
  expect(page.waitingRow(shown.waiting[0]!).text).toMatch(/^evaluate research 1 5 .* none of 8 GPUs will do/);
  expect(page.waitingRow(shown.waiting[1]!).text).toMatch(/^pretrain gang of training-2 2 0 /);
});
