/** Stored readings for a stretch of time. */

import * as api from '../api';
import type { Readings } from '../api';

/** Points asked for a channel: about one a pixel of a wide screen. */
const POINTS_MAX = 1200;
/** Requests until the beginning of all stored readings is found; each shortens the stretch some hundredfold. */
const ROUNDS_MAX = 4;

function extent(readings: Readings): [number, number] | null {
  let first = Infinity;
  let last = -Infinity;
  for (const { points } of readings.series) {
    first = Math.min(first, points[0]?.[0] ?? Infinity);
    last = Math.max(last, points[points.length - 1]?.[0] ?? -Infinity);
  }
  return first <= last ? [first, last] : null;
}

/** Readings between two times; with `from` null, from the first one stored. */
export async function history(
  device: string,
  channels: string[],
  from: number | null,
  to: number,
  signal: AbortSignal,
): Promise<Readings> {
  let start = Math.floor(from ?? 0);
  const ask = () =>
    api.readings(device, { channels, from_ms: start, to_ms: Math.ceil(to), max_points: POINTS_MAX }, signal);
  let answer = await ask();
  if (from !== null) return answer;
  // The server divides the stretch asked for into equal buckets, so that one much longer than the
  // data puts everything into one bucket: ask again for the stretch in which there is something.
  for (let round = 1; round < ROUNDS_MAX; round++) {
    const found = extent(answer);
    if (!found || !answer.series.some(({ downsampled }) => downsampled)) break;
    const [first] = found;
    if (first - start < 0.05 * (to - first)) break;
    start = Math.max(start, Math.floor(first - (4 * (to - start)) / POINTS_MAX));
    answer = await ask();
  }
  return answer;
}

/** Time between two points of a channel in a downsampled answer. */
export function spacing(readings: Readings, downsampled: boolean): number {
  const found = extent(readings);
  return downsampled && found ? ((found[1] - found[0]) * 2) / POINTS_MAX : 0;
}
