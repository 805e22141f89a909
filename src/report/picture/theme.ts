/**
 * The colours of a picture. Shapes carry the light ones as presentation attributes, which need no style sheet and give
 * way to any; the style sheet has the dark ones, for screens that ask for them. So a picture prints light, and is
 * readable where a policy forbids its style sheet.
 */

interface Colours {
  readonly fill: string;
  readonly stroke: string;
}

interface Look {
  readonly light: Colours;
  readonly dark: Colours;
}

const look = (fill: string, stroke: string, darkFill: string, darkStroke: string): Look => ({
  light: { fill, stroke },
  dark: { fill: darkFill, stroke: darkStroke },
});

/** By class. */
const LOOKS = {
  paper: look('#ffffff', 'none', '#0d1117', 'none'),
  ink: look('#1b1f24', 'none', '#e6edf3', 'none'),
  faint: look('#57606a', 'none', '#9aa4af', 'none'),
  line: look('none', '#57606a', 'none', '#9aa4af'),
  alarm: look('#b42318', 'none', '#ff8a80', 'none'),
  segment: look('#dbe9ff', '#2f6fbf', '#12304f', '#6cb0ff'),
  symbols: look('#d5f2dd', '#1f7a3d', '#103a20', '#5fd38a'),
  zoom: look('#eef8f1', 'none', '#0f2016', 'none'),
  gap: look('#ffffff', '#8c959f', '#0d1117', '#6e7681'),
  word: look('#ffe3d5', '#b4501a', '#4a2412', '#ff9d6b'),
  header: look('#fff1c9', '#8a6100', '#3d2f08', '#e3b341'),
  symtab: look('#d5f2dd', '#1f7a3d', '#103a20', '#5fd38a'),
  strtab: look('#d3f0f5', '#0b6b7d', '#0c3540', '#5ac8dc'),
  unused: look('#f0f1f3', '#8c959f', '#1c2128', '#6e7681'),
  same: look('#eceef1', 'none', '#1c2128', 'none'),
  changed: look('#ffe08a', '#8a6100', '#6b5105', '#ffd24d'),
  moved: look('#d9c8ff', '#6639ba', '#3d2a66', '#c4a6ff'),
  missing: look('#ffd0cb', '#b42318', '#5c1f1a', '#ff8a80'),
  added: look('#b9e6c6', '#1f7a3d', '#1b5530', '#5fd38a'),
} as const satisfies Record<string, Look>;

export type LookName = keyof typeof LOOKS;

/** The class and the light colours of a shape or text. */
export const lookOf = (name: LookName): Readonly<Record<string, string>> => {
  const { fill, stroke } = LOOKS[name].light;
  return stroke === 'none' ? { class: name, fill } : { class: name, fill, stroke };
};

/** The class of the root element of every picture, which all rules of `PICTURE_CSS` are limited to. */
export const PICTURE_CLASS = 'bsdsyms-picture';

/**
 * The style sheet of pictures: their dark colours. A picture for `<img>` or a file contains it; one that is drawn to be
 * part of a page does not, and the page adds it to its own.
 */
export const PICTURE_CSS = [
  '@media screen and (prefers-color-scheme: dark) {',
  ...Object.entries(LOOKS).map(([name, { dark }]) => {
    const stroke = dark.stroke === 'none' ? '' : `; stroke: ${dark.stroke}`;
    return `.${PICTURE_CLASS} .${name} { fill: ${dark.fill}${stroke} }`;
  }),
  '}',
].join('\n');
