/** The client of a request: addresses as sockets and proxies write them, and the key by which limits count clients. */
import { BlockList, type IPVersion, isIP, SocketAddress } from 'node:net';
import type { FastifyRequest } from 'fastify';

interface Address {
  /** In its canonical spelling, without port and zone. */
  readonly text: string;
  readonly family: IPVersion;
}

const MAPPED = '::ffff:';
/** Where the 32 bits of an IPv4 address begin in the IPv6 address that it is mapped to. */
const MAPPED_BITS = 96;
const PORT = /^:\d{1,5}$/;

/**
 * Reads an address alone, with a port, or in brackets; an IPv4 address mapped to IPv6 is read as IPv4.
 *
 * @returns null for anything else
 */
export function parseAddress(written: string): Address | null {
  const host = stripPort(written.trim());
  const version = isIP(host);
  if (version === 0) return null;
  if (version === 4) return { text: host, family: 'ipv4' };
  const [withoutZone = ''] = host.split('%', 1);
  const text = new SocketAddress({ address: withoutZone, family: 'ipv6' }).address;
  const mapped = text.slice(MAPPED.length);
  return text.startsWith(MAPPED) && isIP(mapped) === 4 ? { text: mapped, family: 'ipv4' } : { text, family: 'ipv6' };
}

/** The address in `192.0.2.1:80`, `[2001:db8::1]:80` or `[2001:db8::1]`; empty for anything that is not an address. */
function stripPort(written: string): string {
  if (isIP(written) !== 0) return written;
  const bracket = written.startsWith('[') ? written.indexOf(']') : -1;
  const hostEnd = bracket === -1 ? written.lastIndexOf(':') : bracket + 1;
  const port = written.slice(hostEnd);
  if (hostEnd === -1 || !(port === '' || PORT.test(port))) return '';
  const host = bracket === -1 ? written.slice(0, hostEnd) : written.slice(1, bracket);
  const isWritable = isIP(host) === (bracket === -1 ? 4 : 6);
  return isWritable ? host : '';
}

/**
 * @param trusted addresses and CIDR ranges, checked by the settings
 * @returns a function that says whether an address is one of them
 */
export function trustAddresses(trusted: readonly string[]): (written: string) => boolean {
  const list = new BlockList();
  for (const entry of trusted) {
    const [written = '', prefix] = entry.split('/');
    const address = parseAddress(written);
    if (address === null) throw new Error(`${entry} is not an address or a range`);
    const { text, family } = address;
    if (prefix === undefined) list.addAddress(text, family);
    else list.addSubnet(text, prefixBits(Number(prefix), isIP(written) === 6 && family === 'ipv4'), family);
  }
  return (written) => {
    const address = parseAddress(written);
    return address !== null && list.check(address.text, address.family);
  };
}

const prefixBits = (bits: number, isMapped: boolean): number => (isMapped ? Math.max(0, bits - MAPPED_BITS) : bits);

/**
 * The key of a client: its IPv4 address, or the /64 network of its IPv6 address, as one customer has a whole /64. The
 * address is the last one that trusted proxies vouch for. If a proxy wrote no address, that proxy counts as the client.
 */
export function clientKey({ ip, ips = [ip] }: Pick<FastifyRequest, 'ip' | 'ips'>): string {
  for (const written of ips.toReversed()) {
    const address = parseAddress(written ?? '');
    if (address !== null) return address.family === 'ipv4' ? address.text : networkOf(address.text);
  }
  return 'unknown';
}

const GROUPS = 8;
const NETWORK_GROUPS = 4;

/** @param text a canonical IPv6 address @returns its /64 network */
function networkOf(text: string): string {
  const [before = '', after] = text.split('::');
  const left = before.split(':').filter((group) => group !== '');
  const right = (after ?? '').split(':').filter((group) => group !== '');
  // An IPv4 address at the end is two groups.
  const omitted = GROUPS - left.length - right.length - (text.includes('.') ? 1 : 0);
  const groups = [...left, ...Array.from({ length: omitted }, () => '0'), ...right];
  return `${groups.slice(0, NETWORK_GROUPS).join(':')}::/64`;
}
