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
  /** False where nobody could make sure who sent the readings. */
  authenticated: boolean;
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

export type Role = 'viewer' | 'operator' | 'admin';
export type Scope = 'read' | 'operate' | 'admin' | 'ingest' | 'metrics';

/** Who is signed in, if anybody is. */
export interface SessionState {
  account: string | null;
  role: Role | null;
  expires_ms: number | null;
  set_up_needed: boolean;
}

export interface Account {
  name: string;
  role: Role;
  created_ms: number;
  password_ms: number;
}

export interface OwnSession {
  id: string;
  created_ms: number;
  used_ms: number;
  expires_ms: number;
  from: string;
  agent: string;
  current: boolean;
}

export interface ApiToken {
  id: string;
  name: string;
  scopes: Scope[];
  made_by: string | null;
  created_ms: number;
  expires_ms: number | null;
  used_ms: number | null;
}

export interface AuditEntry {
  sequence: number;
  time_ms: number;
  who: string;
  from: string;
  act: string;
  subject: string;
  ending: 'done' | 'refused' | 'failed';
  previous: string;
  hash: string;
}

export interface AuditList {
  entries: AuditEntry[];
  next: number | null;
}

export interface AuditVerification {
  intact: boolean;
  entries: number;
  head: { sequence: number; hash: string } | null;
  faults: { fault: string }[];
}

/** Shortest password the server takes, in characters. */
export const PASSWORD_LENGTH_MIN = 12;

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

let signedOut: () => void = () => undefined;

/** Says what happens when the server does not know this browser (any more). */
export function onSignedOut(handler: () => void): void {
  signedOut = handler;
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
  if (response.status === 401) signedOut();
  if (!response.ok) throw await explain(response);
  if (response.status === 204) return undefined as T;
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

function send<T>(method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T> {
  return request(address(path, {}), {
    method,
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

export function act(id: number, action: AlarmAction, note: string): Promise<Alarm> {
  return send('POST', `/alarms/${id}/${action}`, note.trim() ? { note: note.trim() } : {});
}

export function session(): Promise<SessionState> {
  return request(address('/session', {}));
}

export function signIn(name: string, password: string): Promise<SessionState> {
  return send('POST', '/session', { name, password });
}

export function signInByLink(link: string): Promise<SessionState> {
  return send('POST', '/session/link', { link });
}

export function setUp(link: string, name: string, password: string): Promise<SessionState> {
  return send('POST', '/set-up', { link, name, password });
}

export function signOut(): Promise<SessionState> {
  return send('DELETE', '/session');
}

export function changePassword(present: string, next: string): Promise<Account> {
  return send('POST', '/account/password', { present, new: next });
}

export async function ownSessions(signal?: AbortSignal): Promise<OwnSession[]> {
  return (await request<{ sessions: OwnSession[] }>(address('/account/sessions', {}), { signal })).sessions;
}

export function endSession(id: string): Promise<void> {
  return send('DELETE', `/account/sessions/${encodeURIComponent(id)}`);
}

export async function accounts(signal?: AbortSignal): Promise<Account[]> {
  return (await request<{ accounts: Account[] }>(address('/accounts', {}), { signal })).accounts;
}

export function addAccount(name: string, role: Role, password: string): Promise<Account> {
  return send('POST', '/accounts', { name, role, password });
}

export function changeAccount(name: string, change: { role?: Role; password?: string }): Promise<Account> {
  return send('PATCH', `/accounts/${encodeURIComponent(name)}`, change);
}

export function removeAccount(name: string): Promise<void> {
  return send('DELETE', `/accounts/${encodeURIComponent(name)}`);
}

export async function tokens(signal?: AbortSignal): Promise<ApiToken[]> {
  return (await request<{ tokens: ApiToken[] }>(address('/tokens', {}), { signal })).tokens;
}

export function addToken(name: string, scopes: Scope[], days: number): Promise<ApiToken & { token: string }> {
  return send('POST', '/tokens', { name, scopes, days });
}

export function revokeToken(id: string): Promise<void> {
  return send('DELETE', `/tokens/${encodeURIComponent(id)}`);
}

export function audit(before: number | null, limit: number, signal?: AbortSignal): Promise<AuditList> {
  return request(address('/audit', { before, limit }), { signal });
}

export function verifyAudit(): Promise<AuditVerification> {
  return request(address('/audit/verification', {}));
}
