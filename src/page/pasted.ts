/** Bytes that were pasted as text: in hexadecimal, plain or as tools print them, or in base64. */

/** @returns null when the text is none of these */
export function parsePasted(text: string): Uint8Array<ArrayBuffer> | null {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  // The offsets of a dump are no bytes of it.
  if (DUMP_START.test(trimmed)) return parseDump(trimmed);
  return parseHex(trimmed) ?? parseBase64(trimmed);
}

/** An offset or address, then bytes: hexdump -C, xxd, od -tx1, gdb's x/xb. */
const DUMP_LINE = /^(?:0x)?([0-9a-f]{4,16})(?:\s*<[^>]*>)?(?::\s*|\s{2,8}|$)(.*)$/i;
const DUMP_START = /^(?:(?:0x)?[0-9a-f]{4,16}(?:\s*<[^>]*>)?:|[0-9a-f]{7,16}\s{2})/i;

function parseDump(text: string): Uint8Array<ArrayBuffer> | null {
  const bytes: number[] = [];
  let first: bigint | null = null;
  let line: readonly number[] = [];
  let repeats = false;
  for (const row of text.split(/\r?\n/)) {
    if (row.trim() === '') continue;
    // hexdump and xxd -a: lines that are like the one before are left out.
    if (row.trim() === '*') {
      repeats = true;
      continue;
    }
    const [, offset, rest] = DUMP_LINE.exec(row.trim()) ?? [];
    if (offset === undefined || rest === undefined) return null;
    const at: bigint = BigInt(`0x${offset}`);
    first ??= at;
    if (repeats && line.length > 0) {
      while (BigInt(bytes.length) < at - first && bytes.length < MAX_REPEATED_BYTES) bytes.push(...line);
      repeats = false;
    }
    // Each line says where it belongs.
    if (BigInt(bytes.length) !== at - first) return null;
    const parsed = parseCells(rest);
    if (parsed === null) return null;
    line = parsed;
    bytes.push(...line);
  }
  return bytes.length === 0 ? null : Uint8Array.from(bytes);
}

/** A dump says in a few bytes that many follow. */
const MAX_REPEATED_BYTES = 64 * 1024 * 1024;

/** The bytes of one line, without the text beside them. */
function parseCells(rest: string): number[] | null {
  // xxd and hexdump -C put two spaces, or a bar, before the text.
  const [cells = ''] = rest
    .replace(/\|.*$/, '')
    .trimStart()
    .split(/ {3,}| {2}(?=\S*[^0-9a-f\s])/i);
  const digits = cells.replaceAll(/0x/gi, '').replaceAll(/\s+/g, '');
  return /^(?:[0-9a-f]{2})*$/i.test(digits) ? toBytes(digits) : null;
}

function parseHex(text: string): Uint8Array<ArrayBuffer> | null {
  const digits = text.replaceAll(/\\x|0x|[\s,:{}]/gi, '');
  return digits !== '' && /^(?:[0-9a-f]{2})+$/i.test(digits) ? Uint8Array.from(toBytes(digits)) : null;
}

function toBytes(digits: string): number[] {
  const bytes: number[] = [];
  for (let at = 0; at < digits.length; at += 2) bytes.push(Number.parseInt(digits.slice(at, at + 2), 16));
  return bytes;
}

function parseBase64(text: string): Uint8Array<ArrayBuffer> | null {
  const plain = text.replaceAll(/\s/g, '').replaceAll('-', '+').replaceAll('_', '/');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(plain)) return null;
  try {
    return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
