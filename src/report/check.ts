/** A verdict on a kernel: as JSON, as lines for a log, and as JUnit XML, which CI systems show as tests. */
import type { CheckedImage, Requirement } from '../inspect/check.ts';
import type { Compression } from '../inspect/image-source.ts';
import { describeBroken, describeImage, describeKernel, describeSymbols } from './layout.ts';
import { describeProblem, IMAGE_PROBLEM_KINDS, type ProblemDocument } from './problem.ts';
import type { CheckReport } from './schemas.ts';
import { printable } from './table.ts';
import { escapeXml } from './xml.ts';

/** The JSON of `POST /check`. @param compression how the image was compressed */
export function toCheckReport(checked: CheckedImage, compression: Compression | null): CheckReport {
  const { image, kernel, plan, broken, warnings, requirements } = checked;
  return {
    requirements: requirements.map(({ name, met, code, detail }) => ({ name, met, code, detail })),
    image: describeImage(image, compression),
    kernel: describeKernel(kernel),
    bsdsyms: plan === null ? null : describeSymbols(image, plan),
    broken: describeBroken(broken),
    warnings: [...warnings],
  };
}

/** What is not met, in a sentence. */
export function summarizeCheck({ requirements }: Pick<CheckedImage, 'requirements'>): string {
  const failed = requirements.filter(({ met }) => !met);
  const reasons = failed.map(({ name, code }) => `${name} (${code})`).join(', ');
  return `${failed.length} of ${requirements.length} requirements are not met: ${reasons}.`;
}

/** The JSON of a check that failed, as problem details. */
export const toFailedCheck = (
  checked: CheckedImage,
  compression: Compression | null,
): ProblemDocument & CheckReport => ({
  ...describeProblem('check-failed', IMAGE_PROBLEM_KINDS['check-failed'], summarizeCheck(checked), null),
  ...toCheckReport(checked, compression),
});

/** A line for each requirement and each warning. */
export function writeCheckText({ requirements, warnings }: CheckedImage): string {
  const lines = requirements.map(({ name, met, code, detail }) =>
    met ? `ok: ${name}: ${detail}` : `FAILED: ${name}: ${code}: ${detail}`,
  );
  const remarks = warnings.map(({ code, detail }) => `warning: ${code}: ${detail}`);
  return [...lines, ...remarks].map((line) => `${printable(line)}\n`).join('');
}

/** JUnit XML: a test case for each requirement. */
export function writeJunit({ requirements, warnings }: CheckedImage): string {
  const failures = requirements.filter(({ met }) => !met).length;
  const counts = `tests="${requirements.length}" failures="${failures}" errors="0" skipped="0"`;
  const remarks = warnings.map(({ code, detail }) => `${code}: ${printable(detail)}\n`).join('');
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `  <testsuite name="bsdsyms" ${counts}>`,
    ...requirements.map(writeTestCase),
    ...(remarks === '' ? [] : [`    <system-out>${escapeXml(remarks)}</system-out>`]),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function writeTestCase({ name, met, code, detail }: Requirement): string {
  const testCase = `    <testcase classname="bsdsyms.check" name="${escapeXml(name)}"`;
  if (met) return `${testCase}/>`;
  const text = escapeXml(printable(detail));
  return `${testCase}>\n      <failure type="${escapeXml(code ?? '')}" message="${text}">${text}</failure>\n    </testcase>`;
}
