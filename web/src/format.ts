/** Numbers, units and times as people read them. */

import type { AlarmKind, AlarmState, DeviceState } from './api';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const count = new Intl.NumberFormat('en');
const compactCount = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const shortTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const dayMonth = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const fullDate = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

export const DEVICE_STATES: Record<DeviceState, string> = {
  normal: 'Normal',
  anomaly: 'Anomaly',
  sensor_fault: 'Sensor fault',
  silent: 'Silent',
  never_seen: 'Never seen',
};

export const ALARM_STATES: Record<AlarmState, string> = {
  open: 'Open',
  acknowledged: 'Acknowledged',
  cleared: 'Cleared',
};

export const ALARM_KINDS: Record<AlarmKind, string> = { anomaly: 'Anomaly', sensor_fault: 'Sensor fault' };

/** Units of SenML (RFC 8428 and its registry) whose sign differs from their registered name. */
const UNIT_SIGNS: Record<string, string> = {
  Cel: '°C',
  '%RH': '% RH',
  '%EL': '%',
  '/': '',
  'm/s2': 'm/s²',
  'm/s^2': 'm/s²',
  m2: 'm²',
  m3: 'm³',
  'm3/s': 'm³/s',
  'W/m2': 'W/m²',
  'rad/s': 'rad/s',
  'deg/s': '°/s',
  'beat/min': '/min',
  '1/min': 'rpm',
  Ohm: 'Ω',
  uT: 'µT',
};

export function unitSign(unit: string | null | undefined): string {
  return unit ? (UNIT_SIGNS[unit] ?? unit) : '';
}

export function whole(value: number): string {
  return value < 10_000_000 ? count.format(value) : compactCount.format(value);
}

/** A measured number in four significant digits; very large and very small ones as powers of ten. */
export function quantity(value: number | null | undefined, unit?: string | null, digits = 4): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  let text: string;
  if (size === 0) text = '0';
  else if (size >= 1e6 || size < 1e-3) text = value.toExponential(2);
  else text = value.toFixed(Math.min(5, Math.max(0, digits - 1 - Math.floor(Math.log10(size)))));
  const sign = unitSign(unit);
  return sign ? `${text.replace('-', '−')} ${sign}` : text.replace('-', '−');
}

/** A score in three significant digits. */
export function scoreText(value: number | null | undefined): string {
  return quantity(value, null, 3);
}

/** "3.4 ×" how many times the threshold a score is. */
export function ratio(score: number | null, threshold: number | null): string | null {
  if (score === null || threshold === null || threshold <= 0) return null;
  const value = score / threshold;
  return `${value >= 10 ? count.format(Math.round(value)) : value.toFixed(value < 1 ? 2 : 1)} ×`;
}

export function duration(ms: number): string {
  if (ms < MINUTE) return `${Math.max(0, Math.round(ms / SECOND))} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)} h ${Math.floor((ms % HOUR) / MINUTE)} min`;
  return `${Math.floor(ms / DAY)} days`;
}

export function ago(time: number | null, now: number): string {
  if (time === null) return 'never';
  const age = now - time;
  if (age < 2 * SECOND) return 'just now';
  if (age < MINUTE) return `${Math.round(age / SECOND)} s ago`;
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min ago`;
  if (age < 2 * DAY) return `${Math.floor(age / HOUR)} h ago`;
  return `${Math.floor(age / DAY)} days ago`;
}

export function timeOfDay(time: number): string {
  return clockTime.format(time);
}

/** The time alone when it is today's, else with its date. */
export function moment(time: number, now: number): string {
  const date = fullDate.format(time);
  return date === fullDate.format(now) ? clockTime.format(time) : `${date}, ${clockTime.format(time)}`;
}

/** Labels of a time axis whose ticks are `step` milliseconds apart. */
export function axisTimes(times: number[], step: number): string[] {
  let day = '';
  return times.map((time) => {
    const date = dayMonth.format(time);
    if (step >= DAY) return date;
    const text = step < MINUTE ? clockTime.format(time) : shortTime.format(time);
    const first = day === '';
    const turned = !first && date !== day;
    day = date;
    // The date stands below the first label, where it is needed, and where a day begins.
    return turned || (first && date !== dayMonth.format(Date.now())) ? `${text}\n${date}` : text;
  });
}

export function bytes(value: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toPrecision(3)} ${units[unit]}`;
}
