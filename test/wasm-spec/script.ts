/**
 * Reads scripts of the WebAssembly core test suite (`.wast`): S-expressions, strings with their escapes, constants to the bit. One file because it is
 * one notation. Source: the script grammar in the reference interpreter's README, and the text format's lexical rules.
 */

export interface Word {
  readonly kind: 'word';
  readonly text: string;
  readonly from: number;
  readonly to: number;
}
export interface Text {
  readonly kind: 'string';
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
}
export interface List {
  readonly kind: 'list';
  readonly items: readonly Node[];
  readonly from: number;
  readonly to: number;
}
export type Node = Word | Text | List;

/** All top-level forms. @throws Error with the offset of what is not balanced */
export function readForms(source: string): Node[] {
  const open: { readonly from: number; readonly items: Node[] }[] = [{ from: 0, items: [] }];
  let at = 0;
  while (at < source.length) {
    const c = source[at]!;
    if (/\s/.test(c)) at++;
    else if (source.startsWith(';;', at)) {
      const end = source.slice(at).search(/[\n\r]/);
      at = end < 0 ? source.length : at + end;
    } else if (source.startsWith('(;', at)) at = blockComment(source, at);
    else if (c === '(') open.push({ from: at++, items: [] });
    else if (c === ')') {
      const { from, items } = open.pop()!;
      const parent = open.at(-1);
      if (!parent) throw new Error(`closing parenthesis without an opening one at ${at}`);
      parent.items.push({ kind: 'list', items, from, to: ++at });
    } else if (c === '"') {
      const from = at++;
      while (source[at] !== '"') {
        if (at >= source.length) throw new Error(`string without end at ${from}`);
        at += source[at] === '\\' ? 2 : 1;
      }
      at++;
      open.at(-1)!.items.push({ kind: 'string', bytes: unescaped(source.slice(from + 1, at - 1)), from, to: at });
    } else {
      const from = at;
      while (at < source.length && !/[\s()";]/.test(source[at]!)) at++;
      if (at === from) at++;
      open.at(-1)!.items.push({ kind: 'word', text: source.slice(from, at), from, to: at });
    }
  }
  if (open.length !== 1) throw new Error(`opening parenthesis without a closing one at ${open.at(-1)!.from}`);
  return open[0]!.items;
}

function blockComment(source: string, start: number): number {
  let depth = 0;
  let at = start;
  do {
    if (source.startsWith('(;', at)) {
      depth++;
      at += 2;
    } else if (source.startsWith(';)', at)) {
      depth--;
      at += 2;
    } else at++;
    if (at > source.length) throw new Error(`comment without end at ${start}`);
  } while (depth > 0);
  return at;
}

const single: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, '"': 34, "'": 39, '\\': 92 };

function unescaped(text: string): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [piece] of text.matchAll(/\\u\{[0-9a-fA-F_]+\}|\\[0-9a-fA-F]{2}|\\.|[^\\]+/gsu)) {
    if (piece[0] !== '\\') parts.push(Buffer.from(piece));
    else if (piece[1] === 'u') {
      parts.push(Buffer.from(String.fromCodePoint(Number.parseInt(piece.slice(3, -1).replaceAll('_', ''), 16))));
    } else if (piece.length === 3) parts.push(Uint8Array.of(Number.parseInt(piece.slice(1), 16)));
    else parts.push(Uint8Array.of(single[piece[1]!] ?? piece.charCodeAt(1)));
  }
  return Buffer.concat(parts);
}

export type NumberType = 'i32' | 'i64' | 'f32' | 'f64';

/** A lane's wanted bits; `canonical` and `arithmetic` are sets of NaNs. */
export type LanePattern = bigint | 'canonical' | 'arithmetic';

/** A constant or what a result must be. Bits are unsigned. */
export type Pattern =
  | { readonly kind: 'number'; readonly type: NumberType; readonly bits: LanePattern }
  | { readonly kind: 'vector'; readonly lane: number; readonly float: boolean; readonly lanes: readonly LanePattern[] }
  | { readonly kind: 'null'; readonly type: 'funcref' | 'externref' | undefined }
  | { readonly kind: 'host'; readonly value: number }
  /** Any reference that is not null, of a type that this reader does not look into. */
  | { readonly kind: 'reference'; readonly type: string }
  | { readonly kind: 'either'; readonly choices: readonly Pattern[] };

/** @throws Error for a form that is none */
export function pattern(node: Node): Pattern {
  const words = node.kind === 'list' ? node.items.map((item) => (item.kind === 'word' ? item.text : '')) : [];
  const [head = '', first = ''] = words;
  const number = /^([if](?:32|64))\.const$/.exec(head);
  if (number) return { kind: 'number', type: number[1] as NumberType, bits: laneBits(number[1]!, first) };
  if (head === 'v128.const') {
    const [, kind, width] = /^([if])(\d+)x\d+$/.exec(first)!;
    const lanes = words.slice(2).map((text) => laneBits(`${kind}${width}`, text));
    return { kind: 'vector', lane: Number(width), float: kind === 'f', lanes };
  }
  if (head === 'ref.null') {
    const type = { func: 'funcref', funcref: 'funcref', extern: 'externref', externref: 'externref' } as const;
    return { kind: 'null', type: type[first as keyof typeof type] };
  }
  if ((head === 'ref.extern' || head === 'ref.host') && first) return { kind: 'host', value: Number(first) };
  if (head.startsWith('ref.')) return { kind: 'reference', type: head.slice(4) };
  if (head === 'either' && node.kind === 'list')
    return { kind: 'either', choices: node.items.slice(1).map((item) => pattern(item)) };
  throw new Error(`no constant: ${words.join(' ')}`);
}

function laneBits(type: string, text: string): LanePattern {
  if (text === 'nan:canonical') return 'canonical';
  if (text === 'nan:arithmetic') return 'arithmetic';
  const width = Number(type.slice(1));
  if (type[0] === 'i') return BigInt.asUintN(width, integer(text));
  return floatBits(text, width === 32 ? single24 : double53);
}

function integer(text: string): bigint {
  const digits = text.replaceAll('_', '');
  if (digits[0] === '-') return -BigInt(digits.slice(1));
  return BigInt(digits[0] === '+' ? digits.slice(1) : digits);
}

interface FloatFormat {
  readonly width: number;
  /** Bits of the significand with the leading one. */
  readonly precision: number;
  readonly bias: number;
}
const single24: FloatFormat = { width: 32, precision: 24, bias: 127 };
const double53: FloatFormat = { width: 64, precision: 53, bias: 1023 };

/** Bits of a float literal, rounded once from its exact value to nearest, ties to even. */
export function floatBits(literal: string, format: FloatFormat): bigint {
  const text = literal.replaceAll('_', '');
  const sign = text[0] === '-' ? 1n << BigInt(format.width - 1) : 0n;
  const body = text.replace(/^[+-]/, '');
  const stored = BigInt(format.precision - 1);
  const infinity = ((1n << BigInt(format.width - format.precision)) - 1n) << stored;
  if (body === 'inf') return sign | infinity;
  if (body === 'nan') return sign | infinity | (1n << (stored - 1n));
  if (body.startsWith('nan:0x')) return sign | infinity | BigInt(body.slice(4));
  const hex = /^0x([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?\d+))?$/i.exec(body);
  const decimal = /^(\d*)\.?(\d*)(?:e([+-]?\d+))?$/i.exec(body);
  const parts = hex ?? decimal;
  if (!parts) throw new Error(`no float: ${literal}`);
  const [, whole = '', fraction = '', power = '0'] = parts;
  let above = BigInt(`${hex ? '0x' : ''}${whole}${fraction || ''}` || '0');
  let below = 1n;
  const base = hex ? 2n : 10n;
  const exponent = Number(power) - fraction.length * (hex ? 4 : 1);
  if (exponent >= 0) above *= base ** BigInt(exponent);
  else below = base ** BigInt(-exponent);
  if (above === 0n) return sign;
  // 2^scale ≤ value < 2^(scale + 1)
  let scale = above.toString(2).length - below.toString(2).length;
  if (scale >= 0 ? above < below << BigInt(scale) : above << BigInt(-scale) < below) scale--;
  const last = Math.max(scale, 1 - format.bias) - (format.precision - 1);
  const [n, d] = last >= 0 ? [above, below << BigInt(last)] : [above << BigInt(-last), below];
  let significand = n / d;
  const rest = 2n * (n % d);
  if (rest > d || (rest === d && (significand & 1n) === 1n)) significand++;
  // A carry out of the significand goes into the exponent by itself.
  const biased = BigInt(last + format.precision - 1 + format.bias) - 1n;
  const bits = (biased << stored) + significand;
  return sign | (bits < infinity ? bits : infinity);
}

function laneMatches(bits: bigint, wanted: LanePattern, width: number): boolean {
  if (typeof wanted === 'bigint') return bits === wanted;
  const stored = width === 32 ? 23n : 52n;
  const magnitude = BigInt.asUintN(width - 1, bits);
  const canonical = ((1n << (BigInt(width) - stored)) - 1n) << (stored - 1n);
  return wanted === 'canonical' ? magnitude === canonical : (magnitude & canonical) === canonical;
}

/** What a call gave, to the bit. */
export type Outcome =
  | { readonly kind: 'number'; readonly type: string; readonly bits: bigint }
  | { readonly kind: 'vector'; readonly bits: bigint }
  | { readonly kind: 'reference'; readonly value: unknown };

export function matches(outcome: Outcome | undefined, wanted: Pattern): boolean {
  if (!outcome) return false;
  switch (wanted.kind) {
    case 'number':
      return (
        outcome.kind === 'number' &&
        outcome.type === wanted.type &&
        laneMatches(outcome.bits, wanted.bits, Number(wanted.type.slice(1)))
      );
    case 'vector':
      return (
        outcome.kind === 'vector' &&
        wanted.lanes.every((lane, i) =>
          laneMatches(BigInt.asUintN(wanted.lane, outcome.bits >> BigInt(i * wanted.lane)), lane, wanted.lane),
        )
      );
    case 'null':
      return outcome.kind === 'reference' && outcome.value === null;
    case 'host':
      return outcome.kind === 'reference' && outcome.value === hostReference(wanted.value);
    case 'reference':
      return outcome.kind === 'reference' && outcome.value !== null;
    case 'either':
      return wanted.choices.some((choice) => matches(outcome, choice));
  }
}

const hostReferences = new Map<number, object>();

/** The object that `(ref.extern n)` stands for. */
export function hostReference(n: number): object {
  let object = hostReferences.get(n);
  if (!object) {
    object = Object.freeze({ host: n });
    hostReferences.set(n, object);
  }
  return object;
}

/** The bits of a vector constant, lane 0 lowest. */
export function vectorBits(lanes: readonly LanePattern[], width: number): bigint {
  return lanes.reduce<bigint>((sum, lane, i) => sum | ((lane as bigint) << BigInt(i * width)), 0n);
}
