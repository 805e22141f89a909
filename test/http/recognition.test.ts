/** Files that are sent by mistake: the answer says what they are and what to do. */

import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ELF64 } from '../../src/elf/format.ts';
import { UPLOAD_PATHS } from '../support/document.ts';
import { buildImage, type ImageSpec, kernel, type SegmentSpec, writeField } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { type Answer, json, post, postForm } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { type Service, startService } from '../support/service.ts';

let service: Service;
beforeAll(async () => {
  service = await startService({ LOG_LEVEL: 'silent' });
});
afterAll(() => service.close());

interface Told {
  readonly status: number;
  readonly code: unknown;
  readonly detail: string;
}

const told = (answer: Answer): Told => {
  const { code, detail } = json(answer);
  return { status: answer.status, code, detail: String(detail) };
};
const send = async (path: string, bytes: Uint8Array): Promise<Told> => told(await post(service, path, bytes));

const bytes = (...parts: (string | number | readonly number[])[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.alloc(part) : Buffer.from(part as string, 'latin1'))),
  );
/** A file of zeros that has these bytes at this offset. */
const marked = (offset: number, mark: string | readonly number[], size = 2048): Buffer => {
  const file = Buffer.alloc(size);
  file.set(Buffer.from(mark as string, 'latin1'), offset);
  return file;
};

const image = kernel({ symbols: 20 }).bytes;
const { blob } = await mustLoad(image);
const tar = bytes('vmlinux', 250, 'ustar\x0000', 247);

/** As `curl -d @FILE` sends it: current versions drop each CR, LF and NUL. */
const stripped = (file: Uint8Array): Buffer =>
  Buffer.from(file.filter((byte) => byte !== 0 && byte !== 0x0a && byte !== 0x0d));
/** As `curl -d @FILE` sends it before version 8: each line also ends at its first NUL. */
const strippedByLine = (file: Uint8Array): Buffer =>
  Buffer.from(
    Buffer.from(file)
      .toString('latin1')
      .split('\n')
      .map((line) => line.split('\0')[0]?.replaceAll('\r', ''))
      .join(''),
    'latin1',
  );

/** Headers full of values, as those of a real kernel, so that more than 52 bytes are left without the NULs. */
const busy = kernel({
  symbols: 200,
  entry: 0xffff_ffff_8123_4567n,
  header: { e_flags: 0x1234_5678 },
  before: [{ name: '.data', data: Buffer.alloc(4096, 'kernel\0of\nBSD') }],
}).bytes;

describe('a file that is not an ELF image', () => {
  const cases: readonly (readonly [string, Uint8Array, readonly string[]])[] = [
    ['a symbol blob', blob, ['symbol blob', 'POST /verify', 'bsdsyms verify']],
    ['the start of a bzImage', marked(0x202, 'HdrS').subarray(0, 580), ['bzImage', 'vmlinux']],
    ['an arm64 Image', marked(0x38, 'ARM\x64'), ['Image', 'vmlinux']],
    ['a RISC-V Image', marked(0x38, 'RSC\x05'), ['Image', 'vmlinux']],
    ['a zImage', marked(0x24, [0x18, 0x28, 0x6f, 0x01]), ['zImage', 'vmlinux']],
    ['an EFI zboot image', marked(0, 'MZ\0\0zimg'), ['EFI zboot image', 'vmlinux']],
    ['a PE program', marked(0, 'MZ'), ['EFI', 'ELF kernel']],
    ['a uImage', marked(0, [0x27, 0x05, 0x19, 0x56]), ['uImage', 'ELF kernel']],
    ['a FIT image', marked(0, [0xd0, 0x0d, 0xfe, 0xed]), ['FIT', 'device tree']],
    ['an Android boot image', marked(0, 'ANDROID!'), ['Android boot image']],
    ['an Android vendor boot image', marked(0, 'VNDRBOOT'), ['Android boot image']],
    ['a tar archive', tar, ['tar archive', 'extract']],
    ['a compressed tar archive', gzipSync(tar), ['tar archive', 'extract']],
    ['a cpio archive', bytes('070701', 200), ['initramfs']],
    ['an ar archive', bytes('!<arch>\n', 200), ['ar archive', 'extract']],
    ['a zip archive', bytes('PK\x03\x04', 200), ['zip archive', 'extract']],
    ['an RPM package', bytes('\xed\xab\xee\xdb', 200), ['RPM package', 'extract']],
    ['a file that is compressed twice', gzipSync(gzipSync(image)), ['compressed with gzip', 'one layer']],
    ['gzip in zstd', zstdCompressSync(gzipSync(image)), ['compressed with gzip', 'one layer']],
    ['zstd in gzip', gzipSync(zstdCompressSync(image)), ['compressed with zstd', 'one layer']],
    ['xz in gzip', gzipSync(bytes('\xfd7zXZ\0', 100)), ['compressed with xz', 'one layer']],
    ['an ISO 9660 image', marked(0x8001, 'CD001', 0x9000), ['ISO 9660', 'extract']],
    ['a qcow2 image', bytes('QFI\xfb', 200), ['qcow2', 'extract']],
    ['a squashfs image', bytes('hsqs', 200), ['squashfs', 'extract']],
    ['a disk with partitions', marked(510, [0x55, 0xaa]), ['disk', 'extract']],
    ['an ext4 file system', marked(0x438, [0x53, 0xef]), ['ext4', 'extract']],
    ['a WebAssembly module', bytes('\0asm\x01', 30), ['WebAssembly']],
    ['a Java class', bytes('\xca\xfe\xba\xbe', 30), ['Java class']],
    ['a Mach-O program', bytes('\xcf\xfa\xed\xfe', 30), ['Mach-O']],
    ['LLVM bitcode', bytes('BC\xc0\xde', 30), ['LLVM bitcode']],
    ['a Git LFS pointer', bytes('version https://git-lfs.github.com/spec/v1\n'), ['Git LFS pointer']],
    ['an ELF file in base64', bytes(Buffer.from(image).toString('base64')), ['base64']],
    ['a web page', bytes('<!DOCTYPE html>\n<html>'), ['web page']],
    ['text', bytes('/boot/kernel/kernel\n'), ['text', '--data-binary @']],
    ['zeros', new Uint8Array(4096), ['zeros']],
    ['noise', Uint8Array.of(1, 2, 3, 200), ['`file`']],
  ];

  test.each(cases)('%s', async (_name, file, words) => {
    for (const path of UPLOAD_PATHS.filter((one) => one !== '/verify')) {
      const { status, code, detail } = await send(path, file);
      expect([status, code]).toEqual([422, 'not-elf']);
      for (const word of words) expect(detail).toContain(word);
    }
  });
});

describe('a body that curl -d has stripped', () => {
  test.each([
    ['by current versions', stripped],
    ['by older versions', strippedByLine],
  ])('%s', async (_name, strip) => {
    for (const file of [image, busy]) {
      const { status, detail } = await send('/layout', strip(file));
      expect([status, detail]).toEqual([422, expect.stringMatching(/NUL.*--data-binary/)]);
      expect(detail).not.toContain('cut short');
    }
    // Of a blob without line feeds, older versions leave the first two bytes.
    for (const file of strip === stripped ? [image, busy, blob] : [image, busy]) {
      const { status, code, detail } = await send('/verify', strip(file));
      expect([status, code, detail]).toEqual([422, 'not-a-blob', expect.stringMatching(/NUL.*--data-binary/)]);
    }
  });

  test.each([gzipSync(image), zstdCompressSync(image)])('and that is compressed', async (file) => {
    for (const [headers, advised] of [
      [{ 'content-type': 'application/x-www-form-urlencoded' }, true],
      [{}, false],
    ] as const) {
      const { status, code, detail } = told(await post(service, '/layout', stripped(file), headers));
      expect([status, code, detail.includes('--data-binary')]).toEqual([400, 'compressed-data-corrupt', advised]);
    }
  });

  test('which the busy headers really are', () => {
    expect(stripped(busy).subarray(0, 7)).toEqual(Buffer.from('7f454c46020101', 'hex'));
    expect(stripped(busy).length).toBeGreaterThan(64);
  });
});

test('an ELF image that was read as text', async () => {
  const { detail } = await send('/layout', Buffer.from(Buffer.from(busy).toString('utf8')));
  expect(detail).toContain('as text');
});

/** A segment that holds the path of the interpreter. */
const interpreter = (path: string): Pick<ImageSpec, 'segments' | 'sections'> => ({
  segments: [
    { type: 3, section: '.interp' },
    { section: '.interp', memsz: 4096 },
  ],
  sections: [{ name: '.interp', data: Buffer.from(`${path}\0`) }],
});
const [ET_REL, ET_EXEC, ET_DYN, ET_CORE] = [1, 2, 3, 4];
const text: SegmentSpec = { memsz: 4096 };
const high: SegmentSpec = { memsz: 4096, vaddr: 0xffff_8000_1000_0000n, paddr: 0x4000_0000 };

const object = buildImage({ type: ET_REL, sections: [{ name: '.text' }] }).bytes;
const objectWithSymbols = buildImage({
  type: ET_REL,
  sections: [
    { name: '.symtab', type: 2, link: '.strtab', entsize: 24, data: new Uint8Array(24) },
    { name: '.strtab', type: 3, data: new Uint8Array(1) },
  ],
}).bytes;
const core = buildImage({ type: ET_CORE, segments: [text], header: { e_shnum: 0, e_shoff: 0, e_shstrndx: 0 } }).bytes;
const program = buildImage({ type: ET_DYN, ...interpreter('/lib64/ld-linux-x86-64.so.2') }).bytes;
const fixedProgram = buildImage({ type: ET_EXEC, ...interpreter('/libexec/ld-elf.so.1') }).bytes;
const library = buildImage({ type: ET_DYN, segments: [text], sections: [{ name: '.dynsym', type: 11 }] }).bytes;

describe('an ELF file that is not a kernel', () => {
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['an object file', object, /relocatable object.*\.o.*\.ko/],
    ['a core dump', core, /core dump/],
    ['a user-space program', program, /user-space program/],
    ['a user-space program at a fixed address', fixedProgram, /user-space program/],
    ['a shared library', library, /shared library/],
  ];

  test.each(cases)('without symbols: %s', async (_name, file, words) => {
    for (const path of ['/bsdsyms', '/layout', '/symbols']) {
      const { status, code, detail } = await send(path, file);
      expect([status, code, detail]).toEqual([422, 'no-symbol-table', expect.stringMatching(words)]);
      expect(detail).not.toContain('stripped');
    }
    expect((await post(service, '/kernel', file)).status).toBe(200);
  });

  test('an object file with symbols', async () => {
    expect(await send('/layout', objectWithSymbols)).toEqual({
      status: 422,
      code: 'load-address-unusable',
      detail: expect.stringMatching(/relocatable object/),
    });
    expect((await post(service, '/layout?loadAddress=0x1000', objectWithSymbols)).status).toBe(200);
    expect((await post(service, '/symbols', objectWithSymbols)).status).toBe(200);
  });

  test.each(['auto', 'always', 'never'])('an object file has no flat image, with symbols=%s', async (symbols) => {
    for (const file of [object, objectWithSymbols]) {
      expect(await send(`/image?symbols=${symbols}`, file)).toEqual({
        status: 422,
        code: 'no-loadable-segments',
        detail: expect.stringMatching(/no loadable segments.*relocatable object/),
      });
    }
  });

  test('a blob without its size word', async () => {
    expect(await send('/layout', blob.subarray(4))).toEqual({
      status: 422,
      code: 'load-address-unusable',
      detail: expect.stringMatching(/symbol blob without its size word.*\/verify/),
    });
  });
});

describe('a stripped kernel is called one', () => {
  test.each([
    ['as linkers write them', { segments: [high] }],
    ['of type DYN, as on arm64', { type: ET_DYN, segments: [high] }],
    ['of FreeBSD, which has an interpreter', { type: ET_EXEC, ...interpreter('/red/herring') }],
    ['of FreeBSD and type DYN', { type: ET_DYN, ...interpreter('/red/herring') }],
    ['whose interpreter lies outside', { segments: [{ type: 3, header: { p_offset: 2 ** 40, p_filesz: 9 } }, high] }],
  ] as const)('%s', async (_name, spec) => {
    const { status, code, detail } = await send('/layout', buildImage(spec).bytes);
    expect([status, code, detail]).toEqual([422, 'no-symbol-table', expect.stringContaining('probably stripped')]);
  });
});

describe('/verify', () => {
  const cases: readonly (readonly [string, Uint8Array])[] = [
    ['a kernel', image],
    ['a kernel of 32 bits and the other byte order', kernel({ class: 'ELF32', byteOrder: 'big' }).bytes],
    ['a kernel that was cut short', image.subarray(0, 300)],
    ['an object file', object],
    ['a core dump', core],
    ['a shared library', library],
  ];

  test.each(cases)('takes no ELF image: %s', async (_name, file) => {
    for (const answer of [await post(service, '/verify', file), await postForm(service, '/verify', imageForm(file))]) {
      expect(told(answer)).toEqual({
        status: 422,
        code: 'not-a-blob',
        detail: expect.stringMatching(/ELF image.*POST \/bsdsyms.*bsdsyms blob/),
      });
    }
  });

  test('counts what it refuses', async () => {
    const { text: before } = await post(service, '/verify', blob);
    expect(JSON.parse(before)).toHaveProperty('guests');
    const metrics = await service.app.metrics.registry.metrics();
    expect(metrics).toMatch(/^bsdsyms_uploads_refused_total\{code="not-a-blob"\} [1-9]/m);
  });

  const little = { offset: 16, width: 2, name: 'e_type' };
  const odd = blob.slice(4);
  writeField(odd, 0, little, ET_REL, true);
  const { e_shoff, e_shnum } = ELF64.elfHeader.fields;
  const nothing = blob.slice(4);
  for (const field of [e_shoff, e_shnum]) writeField(nothing, 0, field, 0, true);

  test.each([
    ['the blob of a kernel', blob],
    ['a dump without the size word', blob.subarray(4)],
    ['the same of another type', odd],
    ['a dump whose ELF header leads nowhere', nothing],
    ['a dump that has only the magic', blob.subarray(4, 12)],
    ['something else', Buffer.from('no blob at all')],
  ])('takes %s', async (_name, file) => {
    expect((await post(service, '/verify', file)).status).toBe(200);
  });

  test.each(['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)(
    'takes a blob of %s without its size word',
    async (loader) => {
      for (const elfClass of loader === 'xen-4.7' ? (['ELF64'] as const) : (['ELF64', 'ELF32'] as const)) {
        const { blob: one } = await mustLoad(kernel({ class: elfClass }).bytes, { loader });
        expect((await post(service, '/verify', one.subarray(4))).status).toBe(200);
      }
    },
  );

  test('takes a mixed-endian blob without its size word', async () => {
    const { blob: mixed } = await mustLoad(kernel({ byteOrder: 'big' }).bytes);
    expect((await post(service, '/verify', mixed.subarray(4))).status).toBe(200);
  });
});

describe('what clients make of a file that was only named', () => {
  test('as the field of a form', async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const { code, detail } = told(await post(service, '/layout', 'image=netbsd&require=pv', headers));
    expect([code, detail]).toEqual(['not-elf', expect.stringMatching(/field of a form without a file.*files=/)]);
  });

  test('as JSON', async () => {
    const { code, detail } = told(
      await post(service, '/layout', '{"image": "netbsd"}', { 'content-type': 'application/json' }),
    );
    expect([code, detail]).toEqual(['media-type-unsupported', expect.stringContaining('HTTPie: http -f POST')]);
  });
});
