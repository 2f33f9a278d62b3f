/** Stored readings for a stretch of time. */

import * as api from '../api';
import type { Readings } from '../api';

/** Points asked for a channel: about one a pixel of a wide screen. */
const POINTS_MAX = 1200;

/** Readings between two times; with `from` null, from the first one stored. */
export function history(
  device: string,
  channels: string[],
  from: number | null,
  to: number,
  signal: AbortSignal,
): Promise<Readings> {
  const query = { channels, from_ms: Math.floor(from ?? 0), to_ms: Math.ceil(to), max_points: POINTS_MAX };
  return api.readings(device, query, signal);
}

/** Time between two points of a downsampled series: its buckets, of which each keeps two points. */
export function spacing({ points, downsampled }: api.Series): number {
  const first = points[0]?.[0];
  const last = points[points.length - 1]?.[0];
  return downsampled && first !== undefined && last !== undefined ? ((last - first) * 2) / points.length : 0;
}
