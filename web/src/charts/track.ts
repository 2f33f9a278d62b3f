/** The points of one channel in time order, as a chart draws them. */

import type { Value } from '../api';

/** A number a chart can draw; a verdict counts as 0 or 1, text not at all. */
export function plottable(value: Value): number | null {
  if (typeof value === 'boolean') return value ? 1 : 0;
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** A step this many times longer than usual is a gap: the line is broken there. */
const GAP_FACTOR = 4;
const GAP_SHORTEST_MS = 3000;
/** So many steps are enough to know the usual one. */
const GAP_STEPS_MAX = 500;

export class Track {
  times: number[] = [];
  values: number[] = [];
  /** Time between two points of a downsampled answer; 0 for raw data. */
  private spacing = 0;

  get length(): number {
    return this.times.length;
  }

  /** Adds one reading; one of a time that is there already takes its place. */
  add(time: number, value: Value): void {
    const number = plottable(value);
    if (number === null) return;
    const last = this.times[this.times.length - 1];
    if (last === undefined || time > last) {
      this.times.push(time);
      this.values.push(number);
      return;
    }
    const index = this.indexFrom(time);
    const replaced = this.times[index] === time ? 1 : 0;
    this.times.splice(index, replaced, time);
    this.values.splice(index, replaced, number);
  }

  /** Takes fetched points, and keeps those newer ones that came live while the answer was on its way. */
  replace(points: [number, Value][], spacing: number): void {
    const { times, values } = this;
    this.times = [];
    this.values = [];
    this.spacing = spacing;
    for (const [time, value] of points) {
      const number = plottable(value);
      if (number === null) continue;
      this.times.push(time);
      this.values.push(number);
    }
    const last = this.times[this.times.length - 1] ?? -Infinity;
    for (let i = 0; i < times.length; i++) if (times[i]! > last) this.add(times[i]!, values[i]!);
  }

  /** Forgets what lies before `from`, but for the one point from which the line comes in. */
  trim(from: number): void {
    const index = this.indexFrom(from) - 1;
    if (index < 1) return;
    this.times.splice(0, index);
    this.values.splice(0, index);
  }

  /** Index of the first point at or after `time`. */
  indexFrom(time: number): number {
    let low = 0;
    let high = this.times.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.times[middle]! < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Number of points within a stretch of time. */
  countWithin(from: number, to: number): number {
    return this.indexFrom(to + 1) - this.indexFrom(from);
  }

  /** The longest step between two points that is still drawn as a line. */
  private gap(): number {
    const steps: number[] = [];
    const stride = Math.ceil(this.times.length / GAP_STEPS_MAX);
    for (let i = 1; i < this.times.length; i += stride) steps.push(this.times[i]! - this.times[i - 1]!);
    steps.sort((a, b) => a - b);
    const usual = steps[Math.floor(steps.length * 0.75)] ?? 0;
    return Math.max(GAP_SHORTEST_MS, GAP_FACTOR * Math.max(usual, this.spacing));
  }

  /** Times and values with a null wherever the line breaks. */
  columns(): [number[], (number | null)[]] {
    const gap = this.gap();
    const times: number[] = [];
    const values: (number | null)[] = [];
    for (let i = 0; i < this.times.length; i++) {
      const time = this.times[i]!;
      if (i > 0 && time - this.times[i - 1]! > gap) {
        times.push(this.times[i - 1]! + 1);
        values.push(null);
      }
      times.push(time);
      values.push(this.values[i]!);
    }
    return [times, values];
  }
}

/** A stretch of time, [from, to]. */
export type Interval = [number, number];

/** The stretches where a verdict was "anomaly"; one that lasts reaches to `now`. */
export function anomalousIntervals(verdicts: Track, now: number): Interval[] {
  const intervals: Interval[] = [];
  let since: number | null = null;
  for (let i = 0; i < verdicts.length; i++) {
    const time = verdicts.times[i]!;
    const anomalous = verdicts.values[i]! > 0;
    if (anomalous) since ??= time;
    else if (since !== null) {
      intervals.push([since, time]);
      since = null;
    }
  }
  if (since !== null) intervals.push([since, Math.max(now, since)]);
  return intervals;
}
