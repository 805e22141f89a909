/** What is said of parameters that cannot be used: the same words in the query, in a form and on the command line. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from '../support/command.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm, multipart } from '../support/forms.ts';
import { json, post, postForm, send } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { type Service, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const image = kernel({ symbols: 20 }).bytes;
const { blob } = await mustLoad(image);

let service: Service;
const directory = new TemporaryDirectory();
beforeAll(async () => {
  service = await startService({ LOG_LEVEL: 'silent' });
});
afterAll(async () => {
  await service.close();
  directory.remove();
});

interface Place {
  readonly path: string;
  readonly subcommand: string;
  readonly parameter: string;
  readonly file: Uint8Array;
}

const ADDRESSES: readonly Place[] = [
  { path: '/bsdsyms', subcommand: 'blob', parameter: 'loadAddress', file: image },
  { path: '/layout', subcommand: 'layout', parameter: 'loadAddress', file: image },
  { path: '/verify', subcommand: 'verify', parameter: 'address', file: blob },
  { path: '/symbols', subcommand: 'symbols', parameter: 'address', file: image },
];
const LOADERS: readonly Place[] = [
  { path: '/layout', subcommand: 'layout', parameter: 'loader', file: image },
  { path: '/layout', subcommand: 'layout', parameter: 'compareWith', file: image },
  { path: '/image', subcommand: 'image', parameter: 'loader', file: image },
];

/** What is said of a value, everywhere: null when it is accepted. */
async function refusals({ path, subcommand, parameter, file }: Place, value: string): Promise<(string | null)[]> {
  const query = `${path}?${parameter}=${encodeURIComponent(value)}`;
  const answers = [
    await post(service, query, file),
    await postForm(service, path, imageForm(file, { [parameter]: value })),
  ];
  const ran = await run([subcommand, `--${parameter}=${value}`, '-'], { stdin: file });
  return [
    ...answers.map((answer) => {
      if (answer.status === 200) return null;
      const { code, detail } = json(answer);
      return `${answer.status} ${String(code)}: ${String(detail)}`;
    }),
    ran.status === 0 ? null : ran.stderr.replace(/^bsdsyms: /, ran.status === 2 ? '400 ' : '422 ').trimEnd(),
  ];
}

describe.each(ADDRESSES)('$parameter of $path', (place) => {
  const { parameter } = place;

  test.each(['0', '1048576', '0x100000', '0X100000', '0x0000000000100000', '18446744073709551615'])(
    'may be %s',
    async (value) => {
      // An address may be accepted and still be no place for symbols.
      expect((await refusals(place, value)).filter((refusal) => refusal?.startsWith('400 '))).toEqual([]);
    },
  );

  test.each([
    // As nm and kallsyms print addresses.
    ['00100000', 'Write 0x00100000 if it is hexadecimal, or 100000 if it is decimal.'],
    ['0000000000001129', 'Write 0x0000000000001129 if it is hexadecimal, or 1129 if it is decimal.'],
    ['ffffffff81000000', 'Write 0xffffffff81000000: a hexadecimal number begins with 0x.'],
    ['FFFFFFFF81000000', 'Write 0xFFFFFFFF81000000: a hexadecimal number begins with 0x.'],
    ['000a', 'Write 0x000a: a hexadecimal number begins with 0x.'],
    ['007', 'Write 0x007 if it is hexadecimal, or 7 if it is decimal.'],
    ['00', 'Write 0.'],
    ['0000000000000000', 'Write 0.'],
    ['00018446744073709551615', 'Write 18446744073709551615 if it is decimal.'],
    ['09999999999999999999999', 'It is above 2^64-1 (0xffffffffffffffff), the highest address.'],
    ['18446744073709551616', 'It is above 2^64-1 (0xffffffffffffffff), the highest address.'],
    ['0x10000000000000000', 'It is above 2^64-1 (0xffffffffffffffff), the highest address.'],
    ['1ffffffff81000000', 'It is above 2^64-1 (0xffffffffffffffff), the highest address.'],
    ['0x00000000000001129', 'Write 0x1129.'],
    [' 0x10', 'Write 0x10.'],
    ['ffff_8000', 'Write 0xffff8000: a hexadecimal number begins with 0x.'],
    ['0x1_0', 'Write 0x10.'],
    ['1_000', 'Write 0x1000 if it is hexadecimal, or 1000 if it is decimal.'],
    ...['', '0x', 'x10', '-1', '+1', '1.5', '0xfg', '1129 T main', '٣'].map((value) => [
      value,
      'Write an address as 0x hexadecimal or as decimal without leading zeros, 0 .. 2^64-1.',
    ]),
  ])('is not read from %j', async (value, advice) => {
    const refusal = `400 parameter-invalid: ${parameter} is ${JSON.stringify(value)}. ${advice}`;
    expect(await refusals(place, value)).toEqual([refusal, refusal, refusal]);
  });
});

describe.each(LOADERS)('$parameter of $path', (place) => {
  const since = 'xen-4.8 means Xen 4.8 and later. ';
  test.each([
    ['xen-4.17', since],
    ['xen-4.9', since],
    ['xen-4.17.3', since],
    ['4.18', since],
    ['Xen-4.8', since],
    ['xen4.20-unstable', since],
    ['libxc-4.7', 'xen-4.7 fits this version. '],
    ['libxc-4.12', since],
    ['xen-5.0', since],
    ['xen-4.7.6', 'xen-4.7 fits this version. '],
    ['xen-4.5', 'xen-4.6 fits this version. '],
    ['xen-4.0', 'xen-4.6 fits this version. '],
    ['libxc-4.4', 'libxc-4.6 fits this version. '],
    ['xen-3.0', ''],
    ['xen', ''],
    ['', ''],
  ])('says of %s which loader fits', async (value, advice) => {
    const refusal =
      `400 parameter-invalid: ${place.parameter} is ${JSON.stringify(value)}. ${advice}` +
      'Accepted values: xen-4.8, xen-4.7, xen-4.6, libxc-4.6.';
    expect(await refusals(place, value)).toEqual([refusal, refusal, refusal]);
  });
});

const detail = async (answer: ReturnType<typeof post>): Promise<string> => {
  const { code, detail: text } = json(await answer);
  return `${String(code)}: ${String(text)}`;
};
const inForm = (path: string, name: string): Promise<string> =>
  detail(postForm(service, path, imageForm(image, { [name]: '1' })));
const inQuery = (path: string, name: string): Promise<string> => detail(post(service, `${path}?${name}=1`, image));
const onCommandLine = async (subcommand: string, name: string): Promise<string> =>
  (await run([subcommand, `--${name}=1`, '-'], { stdin: image })).stderr;

describe('a name that is not known', () => {
  test.each(['loadaddress', 'LoadAddress', 'load_address', 'load-address', 'LOADADDRESS'])(
    'is told from one that is spelled otherwise: %s',
    async (name) => {
      expect(await inQuery('/layout', name)).toBe(
        `parameter-unknown: "${name}" is not a parameter of this route. It is spelled loadAddress.`,
      );
      expect(await inForm('/layout', name)).toBe(
        `field-unknown: "${name}" is not a field of this form. It is spelled loadAddress.`,
      );
      expect(await onCommandLine('layout', name)).toBe(
        `bsdsyms: parameter-unknown: "--${name}" is not an option of layout. It is spelled --loadAddress.\n`,
      );
    },
  );

  test('is answered with all that are', async () => {
    expect(await inQuery('/bsdsyms', 'verbose')).toMatch(/\. Known names: loadAddress, loader, onBroken, imageUrl\.$/);
    expect(await inForm('/bsdsyms', 'verbose')).toMatch(
      /\. Known names: image, loadAddress, loader, onBroken, imageUrl\.$/,
    );
    expect(await inQuery('/kernel', 'verbose')).toMatch(/ is not a parameter of this route\. Known names: imageUrl\.$/);
    expect(await inForm('/kernel', 'verbose')).toMatch(/\. Known names: image, imageUrl\.$/);
    expect(await onCommandLine('kernel', 'verbose')).toMatch(/\. Known names: --json, --text, --output, --help\.\n$/);
    expect((await run(['Layout', '-'])).stderr).toBe(
      'bsdsyms: There is no subcommand "Layout". It is spelled layout.\n',
    );
  });

  test.each([
    ['file', 'Name it image: curl -F image=@vmlinux.'],
    ['Image', 'Name it image: curl -F image=@vmlinux.'],
    ['loadAddress', 'It is a parameter, not a file: curl -F loadAddress=VALUE (with =, not =@).'],
  ])('of a file: %s', async (name, advice) => {
    const form = multipart([{ name, data: image, filename: 'vmlinux' }]);
    expect(await detail(postForm(service, '/layout', form))).toBe(
      `field-unknown: The form has a file in the field "${name}". ${advice}`,
    );
  });

  test('of the image, as text', async () => {
    const form = multipart([{ name: 'IMAGE', value: 'vmlinux' }]);
    expect(await detail(postForm(service, '/layout', form))).toBe(
      'field-unknown: "IMAGE" is not a field of this form. It is spelled image.',
    );
  });
});

test('one address in two spellings is one value', async () => {
  const form = imageForm(image, { loadAddress: '20480' });
  const answer = await postForm(service, '/layout?loadAddress=0x5000', form);
  expect([answer.status, json(answer)['bsdsyms']]).toEqual([200, expect.objectContaining({ loadAddress: '0x5000' })]);
  const other = await postForm(service, '/layout?loadAddress=0x5001', form);
  expect(json(other)).toMatchObject({
    code: 'parameter-conflict',
    detail: 'loadAddress was given as "0x5001" and as "20480".',
  });
});

test('what is said of a code for parameters lists them, and of another code does not', async () => {
  const { text } = await send(service, '/problems/parameter-invalid');
  expect(text).toMatch(/^\/bsdsyms loadAddress: .+$/m);
  expect(text).toMatch(/^\/layout compareWith: .+ Values: .*xen-4\.6/m);
  const other = await send(service, '/problems/not-elf');
  expect(other.text).not.toContain('loadAddress:');
  expect(other.text).not.toMatch(/\n\n$/);
});
