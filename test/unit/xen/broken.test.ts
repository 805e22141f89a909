import { describe, expect, test } from 'vitest';
import { BROKEN_KINDS, type BrokenCode, broken } from '../../../src/xen/broken.ts';

const codes = Object.keys(BROKEN_KINDS) as BrokenCode[];

describe('the list of reasons', () => {
  // The reference's words are part of the interface: whoever searches for a message of Xen's must find it.
  test('has the wording of the reference, and none where that is silent', () => {
    const reasons = Object.entries(BROKEN_KINDS).map(([code, { reason }]) => [code, reason]);
    expect(Object.fromEntries(reasons)).toEqual({
      'not-elf': 'not an ELF binary',
      'phdr-overflow': 'phdr overflow',
      'shdr-overflow': 'shdr overflow',
      'out-of-range-access': 'out of range access',
      'too-many-section-headers': 'far too many section headers',
      'no-symbol-table': 'invalid ELF handle for symtab section',
      'strtab-not-found': 'strtab not found',
      'strtab-link-invalid': null,
      'load-address-unusable': null,
      'region-too-large': null,
      'no-loadable-segments': null,
      'string-too-long': 'excessively long string',
      'too-many-notes': 'too many ELF notes',
      'segments-too-large': 'program segments total to more than the input image size',
      'loader-unsupported-class': null,
      'loader-unsupported-byte-order': null,
    });
  });

  test.each(codes)('%s is told in a title and in whole sentences', (code) => {
    const { title, explanation } = BROKEN_KINDS[code];
    expect(code).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
    expect(title).toMatch(/^[A-Z].*[^.]$/);
    expect(explanation).toMatch(/^([A-Z]|e_).*\.$/);
  });
});

test('a finding becomes a reason with its code, stage and wording', () => {
  const finding = { what: 'section 3', offset: 7n, length: 9n, detail: 'It is gone.' };
  expect(broken('strtab-not-found', 'load', finding)).toEqual({
    code: 'strtab-not-found',
    reason: 'strtab not found',
    stage: 'load',
    ...finding,
  });
});
