/** Makes elements of the page. Text is always text: nothing here parses markup. */

type Child = Node | string | null;
/** `true` for an attribute without a value; one that is `false` or null is left out. */
export type Attributes = Readonly<Record<string, string | number | boolean | null>>;

export function el<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An element that is part of the document from the start. */
export function find<T extends Element>(selector: string, type: new () => T): T {
  const element = document.querySelector(selector);
  if (!(element instanceof type)) throw new Error(`the page has no ${selector}`);
  return element;
}

/** A button. */
export function button(text: string, onClick: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const made = el('button', { type: 'button', ...attributes }, text);
  made.addEventListener('click', onClick);
  return made;
}

/** A table that scrolls by itself where the screen is narrow. */
export function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly (Node | string)[])[],
): HTMLElement {
  const head = heads.map((text) => el('th', { scope: 'col' }, text));
  const body = rows.map(([first = '', ...cells]) =>
    el('tr', {}, el('th', { scope: 'row' }, first), ...cells.map((cell) => el('td', {}, cell))),
  );
  return scrolling(
    caption,
    el('table', {}, el('caption', {}, caption), el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...body)),
  );
}

/** Wide content in a box of its own, which the keyboard reaches. */
export const scrolling = (label: string, ...children: readonly Child[]): HTMLElement =>
  el('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: 0 }, ...children);

export const code = (text: string): HTMLElement => el('code', {}, text);

/** Names with their values. */
export function facts(entries: readonly (readonly [name: string, value: Node | string])[]): HTMLElement {
  const pairs = entries.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]);
  return el('dl', { class: 'facts' }, ...pairs);
}
