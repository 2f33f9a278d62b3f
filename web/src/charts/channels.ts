/** Which channels of a device belong together. */

import type { Channel } from '../api';

/** Channels with a meaning of their own; all others are signals. */
export const SCORE = 'score';
export const THRESHOLD = 'threshold';
export const ANOMALY = 'anomaly';

const RECONSTRUCTION = '/reconstruction';
const SENSOR_FAULT = '/sensor_fault';
const RESERVED = new Set([SCORE, THRESHOLD, ANOMALY, 'detector', 'session', 'sequence']);

/** A signal, and its reconstruction if the detector makes one. */
export interface Signal {
  name: string;
  unit: string | null;
  reconstruction: string | null;
  /** The channel that counts this signal's rejected samples, once there were some. */
  fault: string | null;
  /** False where nobody could make sure who sent it. */
  authenticated: boolean;
}

export function signals(channels: Channel[]): Signal[] {
  const names = new Set(channels.map((channel) => channel.name));
  return channels
    .filter(({ name, latest }) => {
      if (RESERVED.has(name) || name.endsWith(RECONSTRUCTION) || name.endsWith(SENSOR_FAULT)) return false;
      return typeof latest !== 'string';
    })
    .map(({ name, unit, authenticated }) => ({
      name,
      unit,
      authenticated: authenticated !== false,
      reconstruction: names.has(name + RECONSTRUCTION) ? name + RECONSTRUCTION : null,
      fault: names.has(name + SENSOR_FAULT) ? name + SENSOR_FAULT : null,
    }))
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}
