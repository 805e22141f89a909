/** Columns of text for a terminal. */

/** Strings of an image may hold anything: what could end a line, move the cursor or turn the text is written as `\x1b` or `\u{202e}`. */
export const printable = (text: string): string =>
  text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });

/** How a column is aligned: left or right. */
type Alignment = 'l' | 'r';

/**
 * A table with a head.
 *
 * @param alignments a letter for each column
 * @returns nothing when there are no rows
 */
export function writeTable(head: readonly string[], rows: readonly (readonly string[])[], alignments: string): string {
  if (rows.length === 0) return '';
  return align(
    [head, ...rows],
    Array.from(alignments, (letter) => (letter === 'r' ? 'r' : 'l')),
  );
}

/** Names and values, a line each. */
export const writeFacts = (facts: readonly (readonly [string, string])[]): string =>
  align(
    facts.map(([name, value]) => [`${name}:`, value]),
    ['l', 'l'],
  );

function align(rows: readonly (readonly string[])[], alignments: readonly Alignment[]): string {
  const cells = rows.map((row) => row.map(printable));
  const widths = alignments.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) => {
      const padded = row.map((cell, column) => {
        const width = widths[column] ?? 0;
        return alignments[column] === 'r' ? cell.padStart(width) : cell.padEnd(width);
      });
      return `${padded.join('  ').trimEnd()}\n`;
    })
    .join('');
}
