/** As for the tests themselves, but without a new environment for each file, which takes longer than most of them. */
import { defineConfig, mergeConfig } from 'vitest/config';
import base from '../../vitest.config.ts';

export default mergeConfig(base, defineConfig({ test: { isolate: false } }));
