/** Classifies IP addresses by what they reach, also IPv4 addresses inside IPv6 addresses. */
import { BlockList, isIP, isIPv4 } from 'node:net';

/** From public to never allowed. */
const REACHES = ['public', 'private', 'loopback', 'forbidden'] as const;
/** `forbidden`: link-local, metadata services, addresses that name no host. */
type Reach = (typeof REACHES)[number];

type Subnet = readonly [network: string, bits: number];

const V4: Readonly<Record<Exclude<Reach, 'public'>, readonly Subnet[]>> = {
  // RFC 1918, RFC 6598 (CGNAT), RFC 2544.
  private: [
    ['10.0.0.0', 8],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['100.64.0.0', 10],
    ['198.18.0.0', 15],
  ],
  loopback: [['127.0.0.0', 8]],
  forbidden: [
    ['0.0.0.0', 8],
    ['169.254.0.0', 16],
    // Metadata services outside of the link-local range: Alibaba, Azure; Oracle's is in 192.0.0.0/24.
    ['100.100.100.200', 32],
    ['168.63.129.16', 32],
    ['192.0.0.0', 24],
    ['192.0.2.0', 24],
    ['192.88.99.0', 24],
    ['198.51.100.0', 24],
    ['203.0.113.0', 24],
    ['224.0.0.0', 4],
    ['240.0.0.0', 4],
  ],
};

const V6: Readonly<Record<Reach, readonly Subnet[]>> = {
  public: [['2000::', 3]],
  private: [['fc00::', 7]],
  loopback: [['::1', 128]],
  // Metadata services of AWS and Google, documentation, benchmarks. What is in no list is forbidden as well.
  forbidden: [
    ['fd00:ec2::', 32],
    ['fd20:ce::', 32],
    ['2001:db8::', 32],
    ['3fff::', 20],
    ['2001:2::', 48],
  ],
};

function blockList(subnets: readonly Subnet[], family: 'ipv4' | 'ipv6'): BlockList {
  const list = new BlockList();
  for (const [network, bits] of subnets) list.addSubnet(network, bits, family);
  return list;
}

const listsOf = (subnets: Partial<Record<Reach, readonly Subnet[]>>, family: 'ipv4' | 'ipv6') =>
  // The strictest class first.
  REACHES.toReversed().map((reach) => ({ reach, list: blockList(subnets[reach] ?? [], family) }));

const V4_LISTS = listsOf(V4, 'ipv4');
const V6_LISTS = listsOf(V6, 'ipv6');

/**
 * What an address reaches. An IPv6 address that carries an IPv4 address has the stricter class of the two.
 *
 * @param address IPv4 in four decimal parts, or IPv6 in any spelling
 */
export function reachOf(address: string): Reach {
  const [bare = ''] = address.split('%', 1);
  if (isIPv4(bare)) return V4_LISTS.find(({ list }) => list.check(bare, 'ipv4'))?.reach ?? 'public';
  if (isIP(bare) !== 6) return 'forbidden';
  const words = expand(bare);
  const carried = carriedAddresses(words).map(reachOf);
  // Mapped addresses and the like are only another spelling of the address that they carry.
  if (isWrapper(words) && carried.length > 0) return worst(carried);
  return worst([V6_LISTS.find(({ list }) => list.check(bare, 'ipv6'))?.reach ?? 'forbidden', ...carried]);
}

const worst = (reaches: readonly Reach[]): Reach =>
  REACHES[Math.max(...reaches.map((reach) => REACHES.indexOf(reach)))] ?? 'forbidden';

const parseWords = (part: string): number[] =>
  part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));

/** The eight words of an IPv6 address. */
function expand(address: string): readonly number[] {
  const dotted = /(?:\d+\.){3}\d+$/.exec(address)?.[0];
  const [high = 0, low = 0] = dotted === undefined ? [] : toWords(dotted);
  const text = dotted === undefined ? address : address.replace(dotted, `${high.toString(16)}:${low.toString(16)}`);
  const [head = '', tail] = text.split('::');
  if (tail === undefined) return parseWords(head);
  const [before, after] = [parseWords(head), parseWords(tail)];
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function toWords(dotted: string): [number, number] {
  const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number);
  return [a * 256 + b, c * 256 + d];
}

const toDotted = (high = 0, low = 0): string => [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');

const beginsWith = (words: readonly number[], ...start: readonly number[]): boolean =>
  start.every((word, index) => words[index] === word);

/** IPv4-mapped, IPv4-translated, IPv4-compatible (but not :: and ::1) and NAT64: another spelling of an IPv4 address. */
function isWrapper(words: readonly number[]): boolean {
  const [, , , , fifth, sixth, seventh, eighth = 0] = words;
  if (beginsWith(words, 0x64, 0xff9b, 0, 0, 0, 0) || beginsWith(words, 0x64, 0xff9b, 1)) return true;
  if (!beginsWith(words, 0, 0, 0, 0)) return false;
  if ((fifth === 0 && sixth === 0xffff) || (fifth === 0xffff && sixth === 0)) return true;
  return fifth === 0 && sixth === 0 && (seventh !== 0 || eighth > 1);
}

/** The IPv4 addresses inside an IPv6 address. */
function carriedAddresses(words: readonly number[]): string[] {
  const [, second, third, fourth, fifth = 0, sixth, seventh = 0, eighth = 0] = words;
  // 6to4, RFC 3056.
  if (beginsWith(words, 0x2002)) return [toDotted(second, third)];
  // Teredo, RFC 4380: the server, and the client with its bits inverted.
  if (beginsWith(words, 0x2001, 0)) return [toDotted(third, fourth), toDotted(seventh ^ 0xffff, eighth ^ 0xffff)];
  // ISATAP, RFC 5214.
  const isIsatap = (fifth & 0xfdff) === 0 && sixth === 0x5efe;
  return isWrapper(words) || isIsatap ? [toDotted(seventh, eighth)] : [];
}
