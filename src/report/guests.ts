/** What guests make of a blob, as JSON. */
import type { GuestVerdict, GuestVerdicts } from '../xen/guests/verdict.ts';
import { toJsonNumber } from './numbers.ts';
import type { VerifyReport } from './schemas.ts';

type GuestsReport = VerifyReport['guests'];

export const describeGuests = ({ freebsd, netbsd, netbsdKdtrace, xtf }: GuestVerdicts): GuestsReport => ({
  freebsd: describeVerdict(freebsd),
  netbsd: describeVerdict(netbsd),
  netbsdKdtrace: describeVerdict(netbsdKdtrace),
  xtf: describeVerdict(xtf),
});

const describeVerdict = ({ outcome, why, symbols, warnings }: GuestVerdict): GuestsReport['freebsd'] => ({
  outcome,
  why,
  symbols: symbols === null ? null : toJsonNumber(symbols),
  warnings: [...warnings],
});
