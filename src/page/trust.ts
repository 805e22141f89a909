/** Trusted Types: the only two places of the page where text becomes a script's address or markup. */

interface Policy {
  createScriptURL(url: string): { toString(): string };
  createHTML(text: string): { toString(): string };
}

interface PolicyFactory {
  createPolicy(
    name: string,
    rules: { createScriptURL: (url: string) => string; createHTML: (text: string) => string },
  ): Policy;
}

/** The worker that the page names, and nothing else. */
function checkScript(url: string): string {
  if (/^page\/worker-[\w-]+\.js$/.test(url)) return url;
  throw new TypeError(`${url} is no script of this page`);
}

const rules = { createScriptURL: checkScript, createHTML: (text: string): string => text };
/** Not in every browser. */
const { trustedTypes } = globalThis as { trustedTypes?: PolicyFactory };
const policy: Policy = trustedTypes?.createPolicy('bsdsyms', rules) ?? rules;

export const trustScript = (url: string): { toString(): string } => policy.createScriptURL(url);

/** The root of an SVG document that this project has written; it is data, and no script of it runs. */
export function parsePicture(svg: string): SVGSVGElement {
  const text = policy.createHTML(svg) as unknown as string;
  const { documentElement } = new DOMParser().parseFromString(text, 'image/svg+xml');
  if (!(documentElement instanceof SVGSVGElement)) throw new Error('the picture is not SVG');
  return documentElement;
}
