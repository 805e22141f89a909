/** A strict reader of the XML that reports are written in: elements, attributes, text; anything else is an error. */

export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  readonly text: string;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** XML 1.0, section 2.2. */
const NOT_CHARS = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;

function decode(text: string): string {
  if (/[<"]/.test(text)) throw new Error(`unescaped: ${text}`);
  return text.replaceAll(/&([^;]*);?/g, (whole, name: string) => {
    const character = whole.endsWith(';') ? ENTITIES[name] : undefined;
    if (character === undefined) throw new Error(`no entity: ${whole}`);
    return character;
  });
}

/** @throws Error for what is not well-formed */
export function parseXml(document: string): XmlElement {
  if (NOT_CHARS.test(document)) throw new Error('a character that XML cannot have');
  const body = /^<\?xml version="1\.0" encoding="UTF-8"\?>\n([^]*)$/.exec(document)?.[1];
  if (body === undefined) throw new Error('no declaration');
  const token = /<(\/?)([\w-]+)((?: [\w-]+="[^"]*")*)(\/?)>|([^<]+)/gy;
  interface Open {
    readonly name: string;
    readonly attributes: Record<string, string>;
    readonly children: XmlElement[];
    text: string;
  }
  const root: Open = { name: '', attributes: {}, children: [], text: '' };
  const open: Open[] = [root];
  while (token.lastIndex < body.length) {
    const at = token.lastIndex;
    const match = token.exec(body);
    const top = open.at(-1);
    if (match === null || top === undefined) throw new Error(`not well-formed at ${at}: ${body.slice(at, at + 40)}`);
    const [, closes, name = '', attributes = '', isEmpty, text] = match;
    if (text !== undefined) {
      top.text += decode(text.replaceAll('"', '&quot;'));
      continue;
    }
    if (closes === '/') {
      if (top.name !== name || attributes !== '' || isEmpty !== '') throw new Error(`</${name}> ends ${top.name}`);
      open.pop();
      continue;
    }
    const pairs = [...attributes.matchAll(/ ([\w-]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [
      key,
      decode(value),
    ]);
    const element: Open = {
      name,
      attributes: Object.fromEntries(pairs) as Record<string, string>,
      children: [],
      text: '',
    };
    if (Object.keys(element.attributes).length !== pairs.length) throw new Error(`an attribute of ${name} is repeated`);
    top.children.push(element);
    if (isEmpty === '') open.push(element);
  }
  const [only] = root.children;
  if (open.length !== 1 || only === undefined || root.children.length !== 1) throw new Error('not one whole element');
  if (root.text.trim() !== '') throw new Error('text outside of the element');
  return only;
}
