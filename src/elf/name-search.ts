/** Searches a string table for many names at once, reading no byte more than twice. */

const NONE = -1;

/**
 * Names are found at the end of strings, not only as whole ones: linkers let a name share the end of a longer one.
 *
 * The names form a tree by their bytes from last to first. As none holds a NUL, a walk back from the end of a string
 * never leaves it, so a search costs the length of the table, whatever it holds and however many names there are.
 */
export class NameSearch {
  /** Bytes of the longest name. */
  readonly longest: number;
  /** The index of the name that was found at each offset of the string table. */
  readonly found = new Map<number, number>();
  #lowest = Number.POSITIVE_INFINITY;
  #highest = -1;
  readonly #maxFound: number;
  #overflowed = false;
  /** Where in the table the next piece begins. */
  #offset = 0;
  /** The last bytes before it, preceded by zeros. */
  readonly #kept: Uint8Array;
  /** Nodes of the tree, the root at 0: a byte, the first child, the next sibling, and the name that begins here. */
  readonly #bytes: Uint8Array;
  readonly #children: Int32Array;
  readonly #siblings: Int32Array;
  readonly #names: Int32Array;
  #nodes = 1;
  /** 1 for every byte that ends a name. */
  readonly #lastBytes = new Uint8Array(256);

  /**
   * @param names distinct, none of them empty or with a NUL
   * @param maxFound how many offsets are kept
   */
  constructor(names: readonly Uint8Array[], maxFound: number) {
    const bytes = names.reduce((sum, { length }) => sum + length, 1);
    this.longest = names.reduce((longest, { length }) => Math.max(longest, length), 0);
    this.#maxFound = maxFound;
    this.#kept = new Uint8Array(this.longest);
    this.#bytes = new Uint8Array(bytes);
    this.#children = new Int32Array(bytes);
    this.#siblings = new Int32Array(bytes);
    this.#names = new Int32Array(bytes).fill(NONE);
    names.forEach((name, index) => this.#add(name, index));
  }

  /** Whether names were found at more offsets than are kept: `found` is then incomplete. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** The index of the name at an offset. Most offsets are ruled out without a lookup. */
  at(offset: number): number | undefined {
    return offset < this.#lowest || offset > this.#highest ? undefined : this.found.get(offset);
  }

  /** Scans the next piece of the table. Pieces come in order and are not kept. */
  scan(piece: Uint8Array): void {
    const lastBytes = this.#lastBytes;
    let last = this.#before(1);
    for (let end = 0; end < piece.length; end++) {
      const byte = piece[end] ?? 0;
      if (byte === 0 && lastBytes[last] === 1) this.#walkBack(piece, end);
      last = byte;
    }
    this.#keep(piece);
  }

  /** As `scan`, for a piece that holds no whole name: only names that began before it are sought. */
  skip(piece: Uint8Array): void {
    this.scan(piece.subarray(0, this.longest));
    this.#keep(piece.subarray(this.longest));
  }

  /** Ends the table, whose last string may lack a NUL. */
  end(): void {
    this.#walkBack(new Uint8Array(), 0);
  }

  /** Finds the names that end before `end`, in the piece and the bytes before it. */
  #walkBack(piece: Uint8Array, end: number): void {
    let node = 0;
    for (let at = end - 1; !this.#overflowed; at--) {
      node = this.#child(node, at >= 0 ? (piece[at] ?? 0) : this.#before(-at));
      if (node === 0) return;
      const name = this.#names[node] ?? NONE;
      if (name === NONE) continue;
      if (this.found.size < this.#maxFound) this.#note(this.#offset + at, name);
      else this.#overflowed = true;
    }
  }

  #note(offset: number, name: number): void {
    this.found.set(offset, name);
    this.#lowest = Math.min(this.#lowest, offset);
    this.#highest = Math.max(this.#highest, offset);
  }

  /** The byte this far before the piece; 0, which is in no name, when it was not kept. */
  #before(distance: number): number {
    return distance > this.longest ? 0 : (this.#kept[this.longest - distance] ?? 0);
  }

  #keep(piece: Uint8Array): void {
    this.#offset += piece.length;
    this.#kept.copyWithin(0, piece.length);
    const tail = piece.subarray(Math.max(0, piece.length - this.longest));
    this.#kept.set(tail, this.longest - tail.length);
  }

  #add(name: Uint8Array, index: number): void {
    let node = 0;
    for (const byte of name.toReversed()) {
      let child = this.#child(node, byte);
      if (child === 0) {
        child = this.#nodes++;
        this.#bytes[child] = byte;
        this.#siblings[child] = this.#children[node] ?? 0;
        this.#children[node] = child;
      }
      node = child;
    }
    this.#names[node] = index;
    this.#lastBytes[name.at(-1) ?? 0] = 1;
  }

  /** @returns 0 when there is none */
  #child(node: number, byte: number): number {
    let child = this.#children[node] ?? 0;
    while (child !== 0 && this.#bytes[child] !== byte) child = this.#siblings[child] ?? 0;
    return child;
  }
}
