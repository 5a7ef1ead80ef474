// most elements have neither, and there are hundreds a GPU
const none: ReadonlyMap<string, string> = new Map();
const leaf: readonly XmlElement[] = [];

/** An element of XML: its text is that of its own, without its children's. */
export class XmlElement {
  children: readonly XmlElement[] = leaf;
  text = '';

  constructor(
    readonly name: string,
    readonly attributes: ReadonlyMap<string, string> = none,
  ) {}

  add(child: XmlElement): void {
    if (this.children === leaf) this.children = [child];
    else (this.children as XmlElement[]).push(child);
  }

  /** The first child of that name, and of that within, and so on. */
  at(...path: readonly string[]): XmlElement | undefined {
    let here: XmlElement | undefined = this;
    for (const name of path) here = here?.children.find((child) => child.name === name);
    return here;
  }

  all(name: string): readonly XmlElement[] {
    return this.children.filter((child) => child.name === name);
  }
}

export interface XmlReading {
  readonly root: XmlElement | undefined;
  /** Why it is not all there. */
  readonly problem: string | undefined;
}

const MAX_DEPTH = 64;

const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/**
 * Reads the XML that tools write: elements, attributes, text, comments, CDATA, a DOCTYPE that is passed over, the five named entities and numbered ones. No entity of
 * the document's own, nothing fetched. Of text that ends too early or is not well-formed, what was closed before that stays; an element that was not closed
 * may lack anything and is left out, save the outermost two: the document and the record that was being written.
 *
 * @param skip elements that are passed over unread. Cost: 2 ms a megabyte.
 */
export function readXml(text: string, skip: ReadonlySet<string> = new Set()): XmlReading {
  const document = new XmlElement('');
  const open: XmlElement[] = [document];
  let at = text.indexOf('<');
  const give = (problem?: string): XmlReading => {
    for (const [depth, element] of open.entries()) {
      element.text = '';
      if (depth > 2) ((open[depth - 1] as XmlElement).children as XmlElement[]).pop();
    }
    return { root: document.children[0], problem: document.children[0] ? problem : (problem ?? 'there is no XML') };
  };
  while (at >= 0) {
    const here = open[open.length - 1] as XmlElement;
    let end: number;
    if (text.startsWith('<!--', at)) {
      end = text.indexOf('-->', at + 4);
      if (end < 0) return give('it ends in a comment');
      end += 3;
    } else if (text.startsWith('<![CDATA[', at)) {
      end = text.indexOf(']]>', at + 9);
      if (end < 0) return give('it ends in a CDATA section');
      here.text += text.slice(at + 9, end);
      end += 3;
    } else {
      end = text.indexOf('>', at + 1);
      if (end < 0) return give('it ends in a tag');
      const tag = text.slice(at + 1, end);
      end += 1;
      const first = tag[0];
      if (first === '/') {
        const name = tag.slice(1).trim();
        if (open.length < 2 || name !== here.name) return give(`</${name}> closes <${here.name}>`);
        here.text = decode(here.text.trim());
        open.pop();
        if (open.length === 1) return give();
      } else if (first !== '?' && first !== '!') {
        const closed = tag.endsWith('/');
        const element = elementOf(closed ? tag.slice(0, -1) : tag);
        if (!element) return give(`<${tag.slice(0, 40)}> is no tag`);
        if (!closed && skip.has(element.name)) {
          const past = `</${element.name}>`;
          const close = text.indexOf(past, end);
          if (close < 0) return give(`it ends in <${element.name}>`);
          end = close + past.length;
        } else {
          here.add(element);
          if (!closed) {
            if (open.length > MAX_DEPTH) return give(`it is more than ${MAX_DEPTH} elements deep`);
            open.push(element);
          } else if (open.length === 1) return give();
        }
      }
    }
    at = text.indexOf('<', end);
    if (at > end && open.length > 1) {
      const between = text.slice(end, at).trim();
      if (between !== '') (open[open.length - 1] as XmlElement).text += between;
    }
  }
  return give(open.length > 1 ? `it ends in <${open.at(-1)?.name}>` : undefined);
}

function elementOf(tag: string): XmlElement | undefined {
  if (/^[A-Za-z_:][\w:.-]*$/.test(tag)) return new XmlElement(tag);
  const name = /^[A-Za-z_:][\w:.-]*/.exec(tag)?.[0];
  if (name === undefined) return undefined;
  const rest = tag.slice(name.length);
  if (rest.trim() === '') return new XmlElement(name);
  const attributes = new Map<string, string>();
  const pattern = /\s+([A-Za-z_:][\w:.-]*)\s*=\s*(?:"([^"]*)"|'([^']*)')/y;
  for (;;) {
    const from = pattern.lastIndex;
    const match = pattern.exec(rest);
    if (!match) return rest.slice(from).trim() === '' ? new XmlElement(name, attributes) : undefined;
    attributes.set(match[1] as string, decode(match[2] ?? match[3] ?? ''));
  }
}

function decode(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(#x?[0-9a-f]+|\w+);/gi, (whole, what: string) => {
    if (what[0] !== '#') return entities[what] ?? whole;
    const code = /^#x/i.test(what) ? Number.parseInt(what.slice(2), 16) : Number(what.slice(1));
    return Number.isInteger(code) && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
