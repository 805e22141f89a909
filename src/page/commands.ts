/** The commands that give what the page shows. */
import type { ParameterTexts } from './messages.ts';

/** A word for a POSIX shell. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** The name of a file as curl's -F takes it: it gives a meaning to some characters. */
const formFile = (name: string): string =>
  /[,;"\\]/.test(name) ? `image=@"${name.replaceAll(/["\\]/g, (character) => `\\${character}`)}"` : `image=@${name}`;

/** A file that begins with `-` would be an option. */
const fileWord = (name: string): string => shellWord(name.startsWith('-') ? `./${name}` : name);

/** What is asked: the blob, or its layout. */
export type Product = 'blob' | 'layout';

const ROUTES: Readonly<Record<Product, string>> = { blob: 'bsdsyms', layout: 'layout' };

/** What a product is saved as. */
export const outputName = (name: string, product: Product | 'picture'): string =>
  `${name}${{ blob: '.bsdsyms', layout: '.layout.json', picture: '.layout.svg' }[product]}`;

/** The parameters that a product has. */
const parametersOf = (product: Product, { compareWith, ...others }: ParameterTexts): readonly [string, string][] =>
  Object.entries(product === 'layout' && compareWith !== undefined ? { ...others, compareWith } : others);

/** @param base the address of the service, with a slash at its end */
export function curlCommand(product: Product, base: string, name: string, parameters: ParameterTexts): string {
  const query = new URLSearchParams([...parametersOf(product, parameters)]).toString();
  const url = `${base}${ROUTES[product]}${query === '' ? '' : `?${query}`}`;
  const words = ['-F', formFile(name), '-o', outputName(name, product), url].map(shellWord);
  return `curl -sS --fail-with-body ${words.join(' ')}`;
}

export function bsdsymsCommand(product: Product, name: string, parameters: ParameterTexts): string {
  const options = parametersOf(product, parameters).map(([key, value]) => shellWord(`--${key}=${value}`));
  return ['bsdsyms', product, ...options, '-o', fileWord(outputName(name, product)), fileWord(name)].join(' ');
}
