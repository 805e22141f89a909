import { describe, expect, test } from 'vitest';
import { Recorder } from '../../../src/elf/recorder.ts';

const finding = (what: string) => () => ({ what, offset: null, length: null, detail: what });

describe('what is recorded', () => {
  test('is the first reason, whatever comes later', () => {
    const recorder = new Recorder('init');
    recorder.record('too-many-section-headers', finding('first'));
    recorder.recordOutside(1000, () => ({ what: 'later', offset: 2000n, length: 1n }));
    recorder.record('no-symbol-table', finding('last'));
    expect(recorder.recorded).toMatchObject({ code: 'too-many-section-headers', what: 'first' });
  });

  test('carries the stage in which it was found', () => {
    const segments = new Recorder('segments');
    segments.record('out-of-range-access', finding('it'));
    const load = new Recorder('load', segments.recorded);
    load.record('no-symbol-table', finding('last'));
    expect(load.recorded).toMatchObject({ stage: 'segments', code: 'out-of-range-access' });
  });

  test('leaves alone what earlier stages have', () => {
    const parse = new Recorder('parse');
    const load = new Recorder('load', parse.recorded);
    load.record('no-symbol-table', finding('it'));
    expect([parse.recorded, load.recorded?.stage]).toEqual([null, 'load']);
  });

  test('is described only once', () => {
    const recorder = new Recorder('parse');
    let described = 0;
    for (let time = 0; time < 3; time++) {
      recorder.record('no-symbol-table', () => {
        described++;
        return finding('it')();
      });
    }
    expect(described).toBe(1);
  });
});
