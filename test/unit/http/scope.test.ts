import { describe, expect, test } from 'vitest';
import { Scope } from '../../../src/http/scope.ts';
import { Gate, outcome } from '../../support/uploads.ts';

function makeScope(): { scope: Scope; failures: unknown[]; released: string[]; own: (name: string) => void } {
  const failures: unknown[] = [];
  const released: string[] = [];
  const scope = new Scope((error) => failures.push(error));
  return { scope, failures, released, own: (name) => scope.own(() => void released.push(name)) };
}

describe('a scope', () => {
  test('gives back what it owns when it is closed, the last first, and once', async () => {
    const { scope, released, own } = makeScope();
    own('slot');
    own('memory');
    expect([released, scope.closed]).toEqual([[], false]);
    await scope.close();
    await scope.close();
    expect([released, scope.closed]).toEqual([['memory', 'slot'], true]);
  });

  test('lets none wait for another, and is closed when all are done', async () => {
    const { scope, released, own } = makeScope();
    const gate = new Gate();
    own('slot');
    scope.own(() => gate.pass());
    const closed = scope.close().then(() => released.push('all'));
    expect(released).toEqual(['slot']);
    await Promise.resolve();
    expect(released).toEqual(['slot']);
    gate.open();
    await closed;
    expect(released).toEqual(['slot', 'all']);
  });

  test('gives back at once what comes after it was closed', async () => {
    const { scope, released, own } = makeScope();
    const closed = scope.close();
    own('late');
    expect(released).toEqual(['late']);
    await closed;
    own('later');
    expect(released).toEqual(['late', 'later']);
  });

  test('continues after a release that fails, and reports it', async () => {
    const { scope, failures, released, own } = makeScope();
    const thrown = new Error('thrown');
    const rejected = new Error('rejected');
    own('slot');
    scope.own(() => {
      throw thrown;
    });
    own('memory');
    scope.own(() => Promise.reject(rejected));
    expect(await outcome(scope.close())).toBe('resolved');
    expect(released).toEqual(['memory', 'slot']);
    expect(new Set(failures)).toEqual(new Set([rejected, thrown]));
    scope.own(() => Promise.reject(rejected));
    await Promise.resolve();
    expect(failures).toHaveLength(3);
  });
});
