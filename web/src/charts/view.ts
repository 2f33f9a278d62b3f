/** Which stretch of time the charts show. */

import type { Interval } from './track';

export type RangeName = '1m' | '5m' | '15m' | '1h' | 'all';

const MINUTE = 60_000;

export const RANGES: { value: RangeName; label: string; span: number | null }[] = [
  { value: '1m', label: '1 min', span: MINUTE },
  { value: '5m', label: '5 min', span: 5 * MINUTE },
  { value: '15m', label: '15 min', span: 15 * MINUTE },
  { value: '1h', label: '1 h', span: 60 * MINUTE },
  { value: 'all', label: 'All', span: null },
];

/** What is shown when nothing was chosen. */
export const RANGE_DEFAULT: RangeName = '5m';

export function rangeSpan(name: string | null): number | null {
  const range = RANGES.find(({ value }) => value === name) ?? RANGES.find(({ value }) => value === RANGE_DEFAULT)!;
  return range.span;
}

/** A stretch from the address, if it is one. */
export function fixedWindow(from: string | null, to: string | null): Interval | null {
  const start = Number(from);
  const end = Number(to);
  return from !== null && to !== null && Number.isFinite(start) && end > start ? [start, end] : null;
}

/**
 * Where a live chart ends: now, or at the latest reading of a device that has been silent for longer
 * than the range, or whose clock (or replayed recording) is ahead.
 */
export function liveEnd(now: number, latest: number | null, span: number | null): number {
  if (latest === null) return now;
  if (latest > now || span === null) return latest;
  return now - latest > span ? latest : now;
}
