/** The parameters in the fragment of the page's address, which never reaches a server. */
import { DEFAULT_LOADER } from '../xen/loaders/bsdsyms.ts';
import type { ParameterTexts } from './messages.ts';

const DEFAULTS: ParameterTexts = { loadAddress: '', loader: DEFAULT_LOADER, onBroken: 'reject', compareWith: '' };

/** The parameters that differ from their defaults, in a fixed order. */
export const withoutDefaults = (texts: ParameterTexts): ParameterTexts =>
  Object.fromEntries(
    Object.keys(DEFAULTS).flatMap((name) => {
      const text = texts[name]?.trim() ?? '';
      return text === '' || text === DEFAULTS[name] ? [] : [[name, text]];
    }),
  );

/** @param fragment with or without its `#`. @returns all parameters, defaults included; names that are unknown are left out */
export function readFragment(fragment: string): ParameterTexts {
  const given = new URLSearchParams(fragment.replace(/^#/, ''));
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, text]) => [name, given.get(name) ?? text]));
}

/** With its `#`; empty for defaults. */
export function writeFragment(texts: ParameterTexts): string {
  const text = new URLSearchParams(withoutDefaults(texts)).toString();
  return text === '' ? '' : `#${text}`;
}
