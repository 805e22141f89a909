/** The modules of the page that need no browser. What does: test/page. */
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { exampleKernel } from '../../../scripts/example-kernel.ts';
import { bsdsymsCommand, curlCommand, outputName, shellWord } from '../../../src/page/commands.ts';
import { makeExample } from '../../../src/page/example.ts';
import { readFragment, withoutDefaults, writeFragment } from '../../../src/page/fragment.ts';
import type { Finding } from '../../../src/page/messages.ts';
import { parsePasted } from '../../../src/page/pasted.ts';
import { explainRegion } from '../../../src/page/regions.ts';
import { Session, Unanswerable } from '../../../src/page/session.ts';
import { judgeKernel, type Known } from '../../../src/page/verdict.ts';
import { enumerate, hexdump, roughly } from '../../../src/page/words.ts';
import { kernel, xenString } from '../../support/elf-builder.ts';

const WATCH = { interrupt: () => {}, progress: () => {} };
const interrupt = (): void => {
  throw new Error('cancelled');
};
const toBlob = (bytes: Uint8Array): Blob => new Blob([Uint8Array.from(bytes)]);

describe('the fragment', () => {
  test('keeps what differs from the defaults, in a fixed order', () => {
    const texts = { compareWith: 'xen-4.6', loader: 'xen-4.8', loadAddress: ' 0x10 ', onBroken: 'load', other: 'x' };
    expect(withoutDefaults(texts)).toEqual({ loadAddress: '0x10', onBroken: 'load', compareWith: 'xen-4.6' });
    expect(writeFragment(texts)).toBe('#loadAddress=0x10&onBroken=load&compareWith=xen-4.6');
    expect(readFragment(writeFragment(texts))).toMatchObject({
      loadAddress: '0x10',
      loader: 'xen-4.8',
      onBroken: 'load',
    });
    expect(writeFragment(readFragment(''))).toBe('');
  });
});

describe('commands', () => {
  test('quote what a shell and curl would read otherwise', () => {
    expect(shellWord("it's")).toBe("'it'\\''s'");
    expect(curlCommand('layout', 'http://h/', 'a b;c"', { compareWith: 'xen-4.6' })).toBe(
      `curl -sS --fail-with-body -F 'image=@"a b;c\\""' -o 'a b;c".layout.json' 'http://h/layout?compareWith=xen-4.6'`,
    );
    expect(curlCommand('blob', 'http://h/', 'netbsd', { compareWith: 'xen-4.6' })).not.toContain('compareWith');
    expect(bsdsymsCommand('blob', '-netbsd', { loadAddress: '0x10' })).toBe(
      'bsdsyms blob --loadAddress=0x10 -o ./-netbsd.bsdsyms ./-netbsd',
    );
    expect(outputName('netbsd', 'picture')).toBe('netbsd.layout.svg');
  });
});

describe('what is pasted', () => {
  const BYTES = Uint8Array.from({ length: 70 }, (_, index) => (index < 48 && index >= 16 ? 0 : index));
  const plain = Buffer.from(BYTES).toString('hex');

  test.each([
    ['hexdump -C', hexdump(BYTES, 0n)],
    ['hexdump -C from an offset', hexdump(BYTES, 0x1000n)],
    ['digits', plain],
    ['digits in pairs', plain.replaceAll(/../g, '0x$&, ')],
    ['base64', Buffer.from(BYTES).toString('base64')],
    [
      'xxd',
      Array.from(
        { length: 5 },
        (_, line) =>
          `${(line * 16).toString(16).padStart(8, '0')}: ${plain.slice(line * 32, line * 32 + 32).replaceAll(/.{4}/g, '$& ')} .`,
      ).join('\n'),
    ],
    [
      'gdb',
      Array.from(
        { length: 9 },
        (_, line) =>
          `0xffffffff80${(line * 8).toString(16).padStart(6, '0')} <end>:\t${plain.slice(line * 16, line * 16 + 16).replaceAll(/../g, '0x$&\t')}`,
      ).join('\n'),
    ],
  ])('is read: %s', (_, text) => {
    expect(Buffer.from(parsePasted(text) ?? []).toString('hex')).toBe(plain);
  });

  test('may leave out lines that repeat', () => {
    const lines = hexdump(BYTES, 0n).split('\n');
    // The second and the third line are zeros.
    const short = [lines[0], lines[1], '*', lines[3], lines[4]].join('\n');
    expect(Buffer.from(parsePasted(short) ?? []).toString('hex')).toBe(plain);
  });

  test.each(['', 'no bytes!', '00000000  01 02\n00000020  03', '00000000: zz'])('is refused: %s', (text) => {
    expect(parsePasted(text)).toBe(null);
  });
});

describe('words', () => {
  test('are those of people', () => {
    expect([roughly(999), roughly(1_456_040), roughly(589_914_456)]).toEqual(['999 bytes', '1.46 MB', '590 MB']);
    expect(enumerate(['a', 'b', 'c'])).toBe('a, b and c');
  });
});

async function look(bytes: Uint8Array, parameters = {}): Promise<{ known: Known; kinds: string[]; session: Session }> {
  const session = new Session();
  let known: Known = { layout: null, meanings: {}, refused: null, kernel: null, requirements: null };
  const kinds: string[] = [];
  const take = (finding: Finding): void => {
    kinds.push(finding.kind);
    if (finding.kind === 'layout') known = { ...known, layout: finding.report, meanings: finding.meanings };
    if (finding.kind === 'refused') known = { ...known, refused: finding };
    if (finding.kind === 'kernel') known = { ...known, kernel: finding.report };
    if (finding.kind === 'check') known = { ...known, requirements: finding.requirements };
  };
  for await (const finding of session.open(toBlob(bytes), parameters, WATCH)) take(finding);
  return { known, kinds, session };
}

describe('the example', () => {
  test('has nothing to object to, and is small', async () => {
    const example = makeExample();
    expect(example.length).toBeLessThan(32 * 1024);
    const { known, session } = await look(example);
    expect(judgeKernel(known)).toMatchObject({ tone: 'good', headline: 'NetBSD finds its symbols.' });
    expect(known.layout?.warnings).toEqual([]);
    expect(await session.symbols('0x200104')).toMatchObject({
      answer: { address: { symbol: { name: 'main' }, offset: 4 } },
    });
  });

  test('without symbols lacks nothing else', async () => {
    const { known } = await look(makeExample({ strip: true }));
    expect(known.refused?.problem.code).toBe('no-symbol-table');
    expect(known.kernel?.builder.pv.ok).toBe(true);
  });
});

describe('what is said of a region of the picture', () => {
  const gap = kernel({ symbols: 3 }).bytes;
  test.each([
    ['a kernel', exampleKernel(), {}],
    ['the example', makeExample(), {}],
    ['two loaders', exampleKernel(), { compareWith: 'xen-4.6' }],
    ['a gap before the symbols', gap, { loadAddress: '0x4000000' }],
  ])('is a rule for every one: %s', async (_, bytes, parameters) => {
    const { known, session } = await look(bytes, parameters);
    const picture = await session.picture();
    if (picture.kind !== 'file' || known.layout === null) throw new Error('no picture');
    const names = Array.from((await picture.file.text()).matchAll(/data-region="([^"]+)"/g), ([, name = '']) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) {
      const { rules } = explainRegion(name, { offset: 0, size: 4 }, known.layout, known.kernel);
      expect([name, rules.length]).not.toEqual([name, 0]);
      const isOutside = rules.some((rule) => rule.startsWith('No segment takes this memory'));
      expect([name, isOutside]).toEqual([name, name.startsWith('gap-')]);
    }
  });
});

describe('a session', () => {
  test('finds out one thing after the other, packed or not', async () => {
    const { known, kinds } = await look(exampleKernel());
    expect(kinds).toEqual(['opened', 'layout', 'kernel', 'check']);
    expect(judgeKernel(known)).toMatchObject({ tone: 'good', headline: 'NetBSD finds its symbols.' });
    const packed = await look(gzipSync(exampleKernel()));
    expect(packed.known.layout?.image.compression).toBe('gzip');
    expect(packed.known.layout?.bsdsyms).toEqual(known.layout?.bsdsyms);
  });

  test('has a verdict for what is doubtful, and for what is refused', async () => {
    const silent = await look(kernel({ symbols: 3, notes: [xenString(6, 'NetBSD')] }).bytes);
    expect(judgeKernel(silent.known)).toMatchObject({
      tone: 'doubtful',
      headline: 'Its symbols are fine, but the kernel does not ask for them.',
    });
    expect(judgeKernel(silent.known)?.points[0]?.text).toMatch(/^If it asked, Xen would place 3 symbols/);
    expect(judgeKernel(silent.known)?.advice).toEqual([
      'Give the kernel an ELF note named Xen of type 11 (BSD_SYMTAB) with the value "yes".',
    ]);
    const linux = await look(kernel({ symbols: 3, notes: [xenString(6, 'linux')] }).bytes);
    expect(judgeKernel(linux.known)?.advice.join()).toContain('kallsyms');
    const stripped = await look(exampleKernel({ strip: true }));
    expect(stripped.kinds).toEqual(['opened', 'refused', 'kernel', 'check']);
    expect(judgeKernel(stripped.known)).toMatchObject({ tone: 'bad' });
    expect((await look(Buffer.from('no kernel'))).known.refused?.problem.code).toBe('not-elf');
  });

  test('verifies a blob that is opened', async () => {
    const { session } = await look(exampleKernel());
    const blob = await session.blob();
    if (blob.kind !== 'file') throw new Error('no blob');
    const kinds: string[] = [];
    for await (const { kind } of session.open(blob.file, {}, WATCH)) kinds.push(kind);
    expect(kinds).toEqual(['verified']);
  });

  test('says what is wrong with a parameter, and that nothing is open', async () => {
    await expect(look(exampleKernel(), { loadAddress: 'x' })).rejects.toThrow(Unanswerable);
    await expect(new Session().symbols('main')).rejects.toThrow('Choose one first');
  });

  test('ends when it is interrupted', async () => {
    const findings = new Session().open(toBlob(exampleKernel()), {}, { ...WATCH, interrupt });
    const readAll = async (): Promise<void> => {
      for await (const { kind } of findings) expect(kind).toBe('opened');
    };
    await expect(readAll()).rejects.toThrow('cancelled');
  });
});
