/** A small kernel to try the page with: what Xen and its guests read of a NetBSD kernel. It would not run. */
import {
  EI_CLASS,
  EI_DATA,
  ELF_MAGIC,
  ELF64,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_X86_64,
  EV_CURRENT,
  PT_LOAD,
  PT_NOTE,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHT_PROGBITS,
  SHT_STRTAB,
  SHT_SYMTAB,
  type Struct,
} from '../elf/format.ts';

const ET_EXEC = 2;
/** PF_R and PF_X. */
const PF_R_X = 5;
/** Of the section header of its code. */
const TEXT = 1;
/** Guest-physical; the kernel has 8 MiB of memory from here on. */
const START = 0x20_0000;
const MEMORY_BYTES = 0x80_0000;
const PAGE_BYTES = 4096;
/** Where its code lies in the file. */
const CODE_OFFSET = PAGE_BYTES;
const CODE_BYTES = 4 * PAGE_BYTES;
const FUNCTION_BYTES = 256;
/** A global function. */
const GLOBAL_FUNCTION = 0x12;

const FUNCTIONS = [
  'start',
  'main',
  'panic',
  'printf',
  'cpu_startup',
  'cpu_reboot',
  'db_stack_trace_print',
  'hypercall_page',
  'hypervisor_callback',
  'init_xen_early',
  'kmem_alloc',
  'kmem_free',
  'mi_switch',
  'mutex_enter',
  'mutex_exit',
  'pmap_bootstrap',
  'syscall',
  'trap',
  'uvm_fault_internal',
  'uvm_init',
  'vfs_mountroot',
  'xen_start_info',
  'xenbus_probe',
  'xencons_attach',
];

const encode = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** One structure; fields that are not named are 0. */
function put(to: DataView, at: number, { fields }: Struct, values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values)) {
    const field = fields[name];
    if (field === undefined) throw new Error(`there is no field ${name}`);
    const offset = at + field.offset;
    if (field.width === 8) to.setBigUint64(offset, BigInt(value), true);
    else if (field.width === 4) to.setUint32(offset, value, true);
    else if (field.width === 2) to.setUint16(offset, value, true);
    else to.setUint8(offset, value);
  }
}

const alignUp = (value: number): number => (value + 3) & ~3;

/** The notes named Xen, as elfnote.h numbers them. */
function noteBytes(): Uint8Array {
  const number = new Uint8Array(8);
  new DataView(number.buffer).setBigUint64(0, BigInt(START), true);
  const notes: readonly (readonly [type: number, value: Uint8Array])[] = [
    [1, number],
    [3, new Uint8Array(8)],
    [5, encode('xen-3.0')],
    [6, encode('NetBSD')],
    [7, encode('10.1')],
    [8, encode('generic')],
    [11, encode('yes')],
  ];
  const owner = encode('Xen');
  const bytes: number[] = [];
  for (const [type, value] of notes) {
    const header = new DataView(new ArrayBuffer(12));
    for (const [index, word] of [owner.length, value.length, type].entries()) header.setUint32(4 * index, word, true);
    bytes.push(...new Uint8Array(header.buffer), ...owner, ...value);
    while (bytes.length !== alignUp(bytes.length)) bytes.push(0);
  }
  return Uint8Array.from(bytes);
}

/** @param strip whether it is without its symbols, as after strip(1) */
export function makeExample({ strip = false } = {}): Uint8Array<ArrayBuffer> {
  const { elfHeader, programHeader, sectionHeader, symbol } = ELF64;
  const notes = noteBytes();
  const notesAt = elfHeader.size + 2 * programHeader.size;
  const symbolsAt = CODE_OFFSET + CODE_BYTES;
  const symbolBytes = (FUNCTIONS.length + 1) * symbol.size;
  const names = encode(['', ...FUNCTIONS].join('\0'));
  const namesAt = symbolsAt + symbolBytes;
  const sectionNames = encode('\0.text\0.symtab\0.strtab\0.shstrtab');
  const sectionNamesAt = namesAt + names.length;
  const sectionsAt = alignUp(sectionNamesAt + sectionNames.length);
  const sectionCount = 5;
  const bytes = new Uint8Array(strip ? symbolsAt : sectionsAt + sectionCount * sectionHeader.size);
  const view = new DataView(bytes.buffer);

  put(view, 0, elfHeader, {
    e_type: ET_EXEC,
    e_machine: EM_X86_64,
    e_version: EV_CURRENT,
    e_entry: START,
    e_phoff: elfHeader.size,
    e_ehsize: elfHeader.size,
    e_phentsize: programHeader.size,
    e_phnum: 2,
    ...(strip
      ? {}
      : {
          e_shoff: sectionsAt,
          e_shentsize: sectionHeader.size,
          e_shnum: sectionCount,
          e_shstrndx: sectionCount - 1,
        }),
  });
  bytes.set(ELF_MAGIC);
  bytes[EI_CLASS] = ELFCLASS64;
  bytes[EI_DATA] = ELFDATA2LSB;
  bytes[EI_DATA + 1] = EV_CURRENT;
  put(view, elfHeader.size, programHeader, {
    p_type: PT_LOAD,
    p_flags: PF_R_X,
    p_offset: CODE_OFFSET,
    p_vaddr: START,
    p_paddr: START,
    p_filesz: CODE_BYTES,
    p_memsz: MEMORY_BYTES,
    p_align: PAGE_BYTES,
  });
  put(view, elfHeader.size + programHeader.size, programHeader, {
    p_type: PT_NOTE,
    p_offset: notesAt,
    p_filesz: notes.length,
  });
  bytes.set(notes, notesAt);
  if (strip) return bytes;

  let nameAt = 1;
  for (const [index, name] of FUNCTIONS.entries()) {
    put(view, symbolsAt + (index + 1) * symbol.size, symbol, {
      st_name: nameAt,
      st_info: GLOBAL_FUNCTION,
      st_shndx: TEXT,
      st_value: START + index * FUNCTION_BYTES,
      st_size: FUNCTION_BYTES,
    });
    nameAt += name.length + 1;
  }
  bytes.set(names, namesAt);
  bytes.set(sectionNames, sectionNamesAt);
  const sections = [
    {
      sh_name: 1,
      sh_type: SHT_PROGBITS,
      sh_flags: Number(SHF_ALLOC | SHF_EXECINSTR),
      sh_addr: START,
      sh_offset: CODE_OFFSET,
      sh_size: CODE_BYTES,
      sh_addralign: 16,
    },
    {
      sh_name: 7,
      sh_type: SHT_SYMTAB,
      sh_offset: symbolsAt,
      sh_size: symbolBytes,
      sh_link: 3,
      // Of the first global symbol.
      sh_info: 1,
      sh_addralign: 8,
      sh_entsize: symbol.size,
    },
    { sh_name: 15, sh_type: SHT_STRTAB, sh_offset: namesAt, sh_size: names.length, sh_addralign: 1 },
    { sh_name: 23, sh_type: SHT_STRTAB, sh_offset: sectionNamesAt, sh_size: sectionNames.length, sh_addralign: 1 },
  ];
  for (const [index, section] of sections.entries()) {
    put(view, sectionsAt + (index + 1) * sectionHeader.size, sectionHeader, section);
  }
  return bytes;
}
