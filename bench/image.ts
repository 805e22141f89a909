/** Images to send: a well-formed ELF64 kernel of any size with as many symbols as asked for. */
import { ELF_MAGIC, ELF64, type Field, PT_LOAD, SHT_STRTAB, SHT_SYMTAB } from '../src/elf/format.ts';

const NAME_BYTES = 20;
/** What the kernel takes in memory at most, so that the flat image is as large as that of a real kernel. */
const MAX_LOADED_BYTES = 64 * 1024 * 1024;

export const nameOfSymbol = (index: number): string => `symbol_${index}`.padEnd(NAME_BYTES - 1, '_');

/** @param size bytes in the image; what headers and symbols leave is noise */
export function makeKernel(size: number, symbols: number): Buffer {
  const { elfHeader, programHeader, sectionHeader, symbol } = ELF64;
  const image = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4096) image.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
  const put = (base: number, { offset, width }: Field, value: number): void => {
    if (width === 8) image.writeBigUInt64LE(BigInt(value), base + offset);
    else image.writeUIntLE(value, base + offset, width);
  };
  const symtabSize = symbols * symbol.size;
  const strtabSize = symbols * NAME_BYTES;
  const symtabAt = elfHeader.size + programHeader.size;
  const strtabAt = symtabAt + symtabSize;
  const headersAt = size - 3 * sectionHeader.size;
  image.fill(0, 0, strtabAt + strtabSize);
  image.fill(0, headersAt);

  image.set([...ELF_MAGIC, 2, 1, 1], 0);
  const e = elfHeader.fields;
  put(0, e.e_type, 2);
  put(0, e.e_machine, 62);
  put(0, e.e_version, 1);
  put(0, e.e_phoff, elfHeader.size);
  put(0, e.e_shoff, headersAt);
  put(0, e.e_ehsize, elfHeader.size);
  put(0, e.e_phentsize, programHeader.size);
  put(0, e.e_phnum, 1);
  put(0, e.e_shentsize, sectionHeader.size);
  put(0, e.e_shnum, 3);
  const p = programHeader.fields;
  put(elfHeader.size, p.p_type, PT_LOAD);
  put(elfHeader.size, p.p_flags, 7);
  put(elfHeader.size, p.p_paddr, 0x100000);
  const loaded = Math.min(size, MAX_LOADED_BYTES);
  put(elfHeader.size, p.p_filesz, loaded);
  put(elfHeader.size, p.p_memsz, loaded);
  for (let index = 0; index < symbols; index++) {
    put(symtabAt + index * symbol.size, symbol.fields.st_name, index * NAME_BYTES);
    image.write(nameOfSymbol(index), strtabAt + index * NAME_BYTES);
  }
  const s = sectionHeader.fields;
  const section = (index: number, type: number, offset: number, length: number): void => {
    const at = headersAt + index * sectionHeader.size;
    put(at, s.sh_type, type);
    put(at, s.sh_offset, offset);
    put(at, s.sh_size, length);
  };
  section(1, SHT_SYMTAB, symtabAt, symtabSize);
  section(2, SHT_STRTAB, strtabAt, strtabSize);
  put(headersAt + sectionHeader.size, s.sh_link, 2);
  put(headersAt + sectionHeader.size, s.sh_entsize, symbol.size);
  return image;
}
