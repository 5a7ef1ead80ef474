/** Broken modules from good ones, by a seed. */
import { uniform } from './random.js';

/** Bytes with one to four mutations: bits, bytes, cuts, copies, section orders, numbers too long or too large. */
export function mutate(bytes: Uint8Array, seed: number): Uint8Array<ArrayBuffer> {
  const random = uniform(seed);
  const below = (n: number) => Math.floor(random() * n);
  let result: Uint8Array<ArrayBuffer> = new Uint8Array(bytes);
  for (let round = below(2) === 0 ? 1 : 2 + below(3); round > 0; round--)
    result = mutations[below(mutations.length)]!(result, below);
  return result;
}

type Mutation = (bytes: Uint8Array<ArrayBuffer>, below: (n: number) => number) => Uint8Array<ArrayBuffer>;

function spliced(bytes: Uint8Array, at: number, removed: number, added: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const rest = bytes.subarray(Math.min(bytes.length, at + removed));
  const result = new Uint8Array(at + added.length + rest.length);
  result.set(bytes.subarray(0, at));
  result.set(added, at);
  result.set(rest, at + added.length);
  return result;
}

/** Start and end of each section, its header included. */
function sections(bytes: Uint8Array): { readonly from: number; readonly to: number }[] {
  const found: { from: number; to: number }[] = [];
  for (let at = 8; at < bytes.length; ) {
    let size = 0;
    let content = at + 1;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = bytes[content++] ?? 0;
      size += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    const to = content + size;
    if (to > bytes.length) break;
    found.push({ from: at, to });
    at = to;
  }
  return found;
}

const flipBit: Mutation = (bytes, below) => {
  if (bytes.length > 0) bytes[below(bytes.length)]! ^= 1 << below(8);
  return bytes;
};

const setByte: Mutation = (bytes, below) => {
  const known = [
    0, 1, 0x7f, 0x80, 0xff, 0x0b, 0x02, 0x03, 0x04, 0x05, 0x0c, 0x0d, 0x0e, 0x10, 0x11, 0x40, 0xfc, 0xfd, 0x70,
  ];
  if (bytes.length > 0) bytes[below(bytes.length)] = below(2) ? known[below(known.length)]! : below(256);
  return bytes;
};

const cut: Mutation = (bytes, below) => bytes.slice(0, below(bytes.length + 1));
const remove: Mutation = (bytes, below) =>
  spliced(bytes, below(bytes.length + 1), Math.min(bytes.length, 1 + below(8)), []);

const repeat: Mutation = (bytes, below) => {
  const from = below(bytes.length + 1);
  return spliced(bytes, below(bytes.length + 1), 0, bytes.slice(from, from + 1 + below(64)));
};

/** A number that takes more bytes than it needs, or more than any may. */
const overlong: Mutation = (bytes, below) => {
  const at = below(bytes.length + 1);
  const byte = bytes[at] ?? 0;
  const padding = Array.from({ length: below(6) }, () => 0x80);
  return spliced(bytes, at, 1, [byte | 0x80, ...padding, 0]);
};

const huge: Mutation = (bytes, below) =>
  spliced(bytes, below(bytes.length + 1), 1, [0xff, 0xff, 0xff, 0xff, [0x0f, 0x07, 0x03, 0x7f, 0xff][below(5)]!]);

const swapSections: Mutation = (bytes, below) => {
  const all = sections(bytes);
  if (all.length < 2) return bytes;
  const one = all[below(all.length)]!;
  const other = all[below(all.length)]!;
  const [a, b] = one.from < other.from ? [one, other] : [other, one];
  if (a === b) return spliced(bytes, a.from, a.to - a.from, []);
  const parts = [
    bytes.slice(0, a.from),
    bytes.slice(b.from, b.to),
    bytes.slice(a.to, b.from),
    bytes.slice(a.from, a.to),
    bytes.slice(b.to),
  ];
  return new Uint8Array(Buffer.concat(parts));
};

const copySection: Mutation = (bytes, below) => {
  const all = sections(bytes);
  if (all.length === 0) return bytes;
  const { from, to } = all[below(all.length)]!;
  const place = all[below(all.length)]!.from;
  return spliced(bytes, place, 0, bytes.slice(from, to));
};

/** A custom section of any content, also one that calls itself `name`. */
const customSection: Mutation = (bytes, below) => {
  const all = sections(bytes);
  const place = all.length === 0 ? bytes.length : all[below(all.length)]!.to;
  const content = Array.from({ length: below(20) }, () => below(256));
  const title = below(2) ? [4, 0x6e, 0x61, 0x6d, 0x65] : [1, 0x78];
  return spliced(bytes, place, 0, [0, title.length + content.length, ...title, ...content]);
};

const mutations: readonly Mutation[] = [
  flipBit,
  flipBit,
  flipBit,
  setByte,
  setByte,
  setByte,
  cut,
  remove,
  repeat,
  overlong,
  huge,
  swapSections,
  copySection,
  customSection,
];
