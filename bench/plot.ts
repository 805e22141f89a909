/** Line plots as SVG: one panel for each line, one above the other. */

export interface Line {
  readonly name: string;
  readonly unit: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 720;
const PANEL_HEIGHT = 160;
const MARGIN = { left: 56, right: 16, top: 28, bottom: 24 };

/** @param xName what the numbers of the horizontal axis, which begins at 0, are */
export function drawPlot(lines: readonly Line[], xName: string): string {
  const maxX = Math.max(...lines.flatMap(({ points }) => points.map(([x]) => x)));
  const panels = lines.map((line, index) => drawPanel(line, index * PANEL_HEIGHT, maxX));
  const height = lines.length * PANEL_HEIGHT + 20;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...panels,
    `<text x="${WIDTH / 2}" y="${height - 6}" text-anchor="middle">${xName}, 0 to ${maxX.toFixed(1)}</text>`,
    '</svg>',
    '',
  ].join('\n');
}

function drawPanel({ name, unit, points }: Line, top: number, maxX: number): string {
  const maxY = Math.max(...points.map(([, y]) => y));
  const [x0, x1] = [MARGIN.left, WIDTH - MARGIN.right];
  const [y0, y1] = [top + PANEL_HEIGHT - MARGIN.bottom, top + MARGIN.top];
  const x = (value: number): string => (x0 + (value / maxX) * (x1 - x0)).toFixed(1);
  const y = (value: number): string => (y0 - (value / maxY) * (y0 - y1)).toFixed(1);
  const ticks = [0, maxY / 2, maxY].map(
    (value) =>
      `<path d="M${x0} ${y(value)}H${x1}" stroke="#ddd"/>` +
      `<text x="${x0 - 6}" y="${Number(y(value)) + 4}" text-anchor="end">${Math.round(value)}</text>`,
  );
  const path = points.map(([px, py]) => `${x(px)} ${y(py)}`).join('L');
  return [
    `<text x="${x0}" y="${y1 - 10}">${name}${unit === '' ? '' : `, ${unit}`}</text>`,
    ...ticks,
    `<path d="M${path}" fill="none" stroke="#1a5fb4" stroke-width="1.2"/>`,
  ].join('\n');
}
