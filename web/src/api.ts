/** The server's HTTP API as the dashboard uses it. Times are unix milliseconds. */

export type DeviceState = 'normal' | 'anomaly' | 'sensor_fault' | 'silent' | 'never_seen';
export type AlarmState = 'open' | 'acknowledged' | 'cleared';
export type AlarmKind = 'anomaly' | 'sensor_fault';
export type AlarmAction = 'acknowledge' | 'clear';

/** [time, score, threshold] of one window. */
export type ScorePoint = [number, number, number | null];

export interface Status {
  version: string;
  started_ms: number;
  devices: number;
  devices_online: number;
  devices_anomalous: number;
  alarms_open: number;
  alarms_acknowledged: number;
  messages_stored: number;
  readings_stored: number;
  duplicates: number;
  rejected: number;
  storage_bytes: number;
}

/** A device as the `device` event carries it. */
export interface DeviceSummary {
  id: string;
  state: DeviceState;
  online: boolean;
  last_seen_ms: number | null;
  score: number | null;
  threshold: number | null;
  detector: string | null;
  alarms_open: number;
}

export interface Device extends DeviceSummary {
  recent_scores: ScorePoint[];
}

export type Value = number | boolean | string;

export interface Channel {
  name: string;
  unit: string | null;
  latest: Value | null;
  latest_ms: number | null;
  readings: number;
}

export interface DeviceDetail extends Device {
  channels: Channel[];
}

export interface DeviceList {
  devices: Device[];
  next: string | null;
  total: number;
}

export interface Series {
  channel: string;
  unit: string | null;
  points: [number, Value][];
  downsampled: boolean;
}

export interface Readings {
  from_ms: number;
  to_ms: number;
  series: Series[];
}

export interface Alarm {
  id: number;
  device: string;
  kind: AlarmKind;
  state: AlarmState;
  opened_ms: number;
  acknowledged_ms: number | null;
  cleared_ms: number | null;
  note: string | null;
  score: number | null;
  threshold: number | null;
  peak_score: number | null;
  active: boolean;
}

export interface AlarmList {
  alarms: Alarm[];
  next: string | number | null;
}

/** One reading of the `readings` event. */
export interface LiveReading {
  channel: string;
  unit: string | null;
  time_ms: number;
  value: Value;
}

/** Longest note the server takes, in characters. */
export const NOTE_LENGTH_MAX = 500;

const REQUEST_TIMEOUT_MS = 15_000;

/** A request that failed, in words that say what to do. Status 0: no answer came. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get temporary(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** How far the server's clock is ahead of this computer's. */
let clockOffset = 0;

/** The time by the server's clock, so that "3 s ago" is right on a computer whose clock is wrong. */
export function serverNow(): number {
  return Date.now() + clockOffset;
}

function noteClock(response: Response): void {
  const date = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(date)) return;
  // The header has whole seconds only; a smaller difference is rounding, not a wrong clock.
  const offset = date - Date.now();
  clockOffset = Math.abs(offset) > 3000 ? offset : 0;
}

type Query = Record<string, string | number | readonly string[] | null | undefined>;

function address(path: string, query: Query): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === '') continue;
    for (const item of Array.isArray(value) ? value : [value]) params.append(name, String(item));
  }
  const text = params.toString();
  return `/api/v1${path}${text && `?${text}`}`;
}

async function explain(response: Response): Promise<ApiError> {
  const problem = await response.json().catch(() => null);
  const words = [problem?.detail, problem?.title].find((part) => typeof part === 'string' && part);
  const message = words ?? `The server answered ${response.status} ${response.statusText}.`;
  return new ApiError(response.status, message);
}

async function request<T>(url: string, init: RequestInit = {}): Promise<T> {
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  let response: Response;
  try {
    response = await fetch(url, { ...init, signal });
  } catch (cause) {
    if (init.signal?.aborted) throw cause;
    throw new ApiError(
      0,
      'The Stonechat server does not answer. Check that it is running and that this computer can reach it.',
    );
  }
  noteClock(response);
  if (!response.ok) throw await explain(response);
  return (await response.json()) as T;
}

export function status(signal?: AbortSignal): Promise<Status> {
  return request(address('/status', {}), { signal });
}

export function devices(
  query: { search?: string; state?: string; after?: string | null; limit?: number },
  signal?: AbortSignal,
): Promise<DeviceList> {
  return request(address('/devices', query), { signal });
}

export function device(id: string, signal?: AbortSignal): Promise<DeviceDetail> {
  return request(address(`/devices/${encodeURIComponent(id)}`, {}), { signal });
}

export function readings(
  id: string,
  query: { channels: string[]; from_ms: number; to_ms: number; max_points: number },
  signal?: AbortSignal,
): Promise<Readings> {
  const { channels, ...rest } = query;
  const path = `/devices/${encodeURIComponent(id)}/readings`;
  return request(address(path, { ...rest, channel: channels }), { signal });
}

export function alarms(
  query: { state?: readonly AlarmState[]; device?: string; after?: string | number | null; limit?: number },
  signal?: AbortSignal,
): Promise<AlarmList> {
  return request(address('/alarms', query), { signal });
}

export function alarm(id: number, signal?: AbortSignal): Promise<Alarm> {
  return request(address(`/alarms/${id}`, {}), { signal });
}

export function act(id: number, action: AlarmAction, note: string): Promise<Alarm> {
  const body = JSON.stringify(note.trim() ? { note: note.trim() } : {});
  return request(address(`/alarms/${id}/${action}`, {}), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
}
