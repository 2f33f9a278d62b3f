// A stand-in for the Stonechat server: the same HTTP API over made-up data. It serves web/dist with
// the server's Content-Security-Policy. For developing the dashboard and for its own tests only.
//
// Everybody is signed in as an admin, until a test says otherwise; every password is PASSWORD.
//
//   npm run mock            serves on http://127.0.0.1:8080 (environment: PORT, DEVICES)

import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'";
export const PASSWORD = 'correct horse battery';
const HISTORY_MS = 20 * 60_000;
const FAMILIES = [
  { name: 'cold-room', signals: [['temperature', 'Cel', 4, 1.2]] },
  { name: 'boiler', signals: [['temperature', 'Cel', 71, 3], ['pressure', 'bar', 2.4, 0.2]] },
  { name: 'fan', signals: [['ax/std', 'm/s2', 1.9, 0.1], ['ay/std', 'm/s2', 0.8, 0.06], ['az/std', 'm/s2', 2.6, 0.12], ['ax/rms', 'm/s2', 2.4, 0.1], ['ay/rms', 'm/s2', 1.1, 0.06]] },
];

/** Numbers from a seed, so that two runs show the same. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Device {
  constructor(index, family) {
    this.id = `${family.name}-${String(1 + Math.floor(index / FAMILIES.length)).padStart(2, '0')}`;
    this.family = family;
    this.random = generator(index + 1);
    this.points = new Map();
    this.units = new Map();
    this.silentSince = index % 17 === 9 ? Date.now() - (4 + index) * 60_000 : null;
    this.neverSeen = index % 23 === 19;
    this.phase = index * 11_000;
    this.threshold = 1 + 0.04 * (index % 5);
    this.anomalous = false;
    this.lastSeen = null;
    this.scores = [];
    this.forced = null;
  }

  /** How far the present fault has grown, 0 for none; some devices never have one. */
  fault(time) {
    if (this.forced !== null) return this.forced;
    if (!/(fan-02|boiler-01|cold-room-04)$/.test(this.id)) return 0;
    const within = (time + this.phase) % 150_000;
    return within > 110_000 ? Math.min(1, (within - 110_000) / 6000) : 0;
  }

  /** Whether the sensor's samples are rejected: one device has a loose cable. */
  rejects(time) {
    return this.id === 'cold-room-02' && (time + this.phase) % 90_000 > 75_000;
  }

  add(channel, unit, time, value) {
    if (!this.points.has(channel)) this.points.set(channel, []);
    this.units.set(channel, unit);
    this.points.get(channel).push([time, value]);
    return { channel, unit, time_ms: time, value };
  }

  /** One window's readings. */
  step(time) {
    if (this.neverSeen || (this.silentSince !== null && time > this.silentSince)) return [];
    const fault = this.fault(time);
    const noise = () => this.random() + this.random() + this.random() - 1.5;
    const readings = [];
    let error = 0;
    this.family.signals.forEach(([name, unit, level, swing], i) => {
      const wave = Math.sin((time + this.phase) / (9000 + 2500 * i)) + 0.3 * Math.sin(time / 2100 + i);
      const expected = level + swing * 0.5 * wave;
      const value = expected + swing * (0.09 * noise() + fault * (1.4 + 0.5 * Math.sin(time / 700)));
      const rebuilt = expected + swing * 0.03 * noise() + (value - expected) * 0.12;
      error += Math.abs(value - rebuilt) / swing;
      if (this.rejects(time)) {
        readings.push(this.add(`${name}/sensor_fault`, null, time, 1 + Math.floor(3 * this.random())));
        return;
      }
      readings.push(this.add(name, unit, time, value), this.add(`${name}/reconstruction`, unit, time, rebuilt));
    });
    const score = (error / this.family.signals.length) * 5 + 0.15 * this.random();
    this.anomalous = this.anomalous ? score > 0.8 * this.threshold : score > this.threshold && fault > 0;
    readings.push(
      this.add('score', null, time, score),
      this.add('threshold', null, time, this.threshold),
      this.add('anomaly', null, time, this.anomalous),
    );
    this.scores = [...this.scores.slice(-59), [time, score, this.threshold]];
    this.lastSeen = time;
    return readings;
  }

  summary(alarms) {
    const [, score, threshold] = this.scores.at(-1) ?? [null, null, null];
    const online = this.lastSeen !== null && this.silentSince === null;
    return {
      id: this.id,
      state: this.lastSeen === null ? 'never_seen' : !online ? 'silent' : this.anomalous ? 'anomaly' : this.rejects(this.lastSeen) ? 'sensor_fault' : 'normal',
      online,
      last_seen_ms: this.lastSeen,
      score,
      threshold,
      detector: this.lastSeen === null ? null : `${this.family.name}-autoencoder 7c1f90aa`,
      alarms_open: alarms.filter((alarm) => alarm.device === this.id && alarm.state === 'open').length,
    };
  }

  channels() {
    return [...this.points].map(([name, points]) => {
      const [latest_ms, latest] = points.at(-1);
      return { name, unit: this.units.get(name), latest, latest_ms, readings: points.length, authenticated: true };
    });
  }
}

/** Keeps each bucket's minimum and maximum, as the server does. */
function downsample(points, limit) {
  if (points.length <= limit) return { points, downsampled: false };
  const buckets = Math.max(1, Math.floor(limit / 2));
  const kept = Array.from({ length: buckets }, (_, i) => {
    const bucket = points.slice(Math.floor((i * points.length) / buckets), Math.floor(((i + 1) * points.length) / buckets));
    const low = bucket.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = bucket.reduce((a, b) => (b[1] >= a[1] ? b : a));
    return low === high ? [low] : [low, high].sort((a, b) => a[0] - b[0]);
  });
  return { points: kept.flat(), downsampled: true };
}

/** Starts the stand-in; the returned object lets a test cause events. */
export async function startMock({ port = 0, devices: count = 40, interval = 1000, history = HISTORY_MS } = {}) {
  const started = Date.now();
  const alarms = [];
  /** Who is signed in, whatever the browser sends; a test changes it. */
  const who = { account: 'anna', role: 'admin' };
  const accounts = [
    { name: 'anna', role: 'admin', created_ms: started - 9e8, password_ms: started - 9e8 },
    { name: 'wall', role: 'viewer', created_ms: started - 8e8, password_ms: started - 2e8 },
  ];
  const tokens = [
    { id: '00c0ffee00c0ffee', name: 'grafana', scopes: ['metrics'], made_by: 'anna', created_ms: started - 7e8, expires_ms: started + 7e9, used_ms: started - 40_000 },
  ];
  const streams = new Set();
  const sockets = new Set();
  const devices = Array.from({ length: count }, (_, i) => new Device(i, FAMILIES[i % FAMILIES.length]));
  let stored = 0;

  function send(event, data, device) {
    for (const stream of streams) {
      if (device && stream.devices.length > 0 && !stream.devices.includes(device)) continue;
      stream.response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    }
  }

  function judge(device, time) {
    const current = alarms.find((alarm) => alarm.device === device.id && alarm.state !== 'cleared');
    const [, score = null, threshold = null] = device.scores.at(-1) ?? [];
    if (device.anomalous && !current) {
      const alarm = {
        id: alarms.length + 1, device: device.id, kind: 'anomaly', state: 'open', opened_ms: time, acknowledged_ms: null,
        cleared_ms: null, note: null, score, threshold, peak_score: score, active: true,
      };
      alarms.push(alarm);
      send('alarm', alarm, device.id);
    } else if (current) {
      const peak = Math.max(current.peak_score, score);
      const changed = current.active !== device.anomalous;
      current.active = device.anomalous;
      if (device.anomalous) current.peak_score = peak;
      if (!current.active && current.state === 'acknowledged') Object.assign(current, { state: 'cleared', cleared_ms: time });
      if (changed) send('alarm', current, device.id);
    }
  }

  function advance(time) {
    for (const device of devices) {
      const readings = device.step(time);
      if (readings.length === 0) continue;
      stored += readings.length;
      send('readings', { device: device.id, readings }, device.id);
      judge(device, time);
      send('device', device.summary(alarms), device.id);
    }
  }

  for (let time = started - history; time < started; time += interval) advance(time);

  const json = (response, body, status = 200) => {
    const type = status < 400 ? 'application/json' : 'application/problem+json';
    response.writeHead(status, { 'content-type': type, 'content-security-policy': CSP }).end(JSON.stringify(body));
  };
  const problem = (response, status, title, detail) => json(response, { type: 'about:blank', title, status, detail }, status);

  function page(items, after, limit, key) {
    const start = after === null ? 0 : items.findIndex((item) => String(key(item)) === after) + 1;
    const shown = items.slice(start, start + limit);
    return { shown, next: start + limit < items.length ? String(key(shown.at(-1))) : null };
  }

  function listDevices(response, query) {
    const search = (query.get('search') ?? '').toLowerCase();
    const state = query.get('state');
    const all = devices
      .map((device) => ({ ...device.summary(alarms), recent_scores: device.scores }))
      .filter((device) => device.id.includes(search) && (!state || device.state === state))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    const { shown, next } = page(all, query.get('after'), Number(query.get('limit') ?? 50), (device) => device.id);
    json(response, { devices: shown, next, total: all.length });
  }

  function listAlarms(response, query) {
    const states = query.getAll('state');
    const all = alarms
      .filter((alarm) => states.length === 0 || states.includes(alarm.state))
      .filter((alarm) => !query.get('device') || alarm.device === query.get('device'))
      .sort((a, b) => b.id - a.id);
    const { shown, next } = page(all, query.get('after'), Number(query.get('limit') ?? 50), (alarm) => alarm.id);
    json(response, { alarms: shown, next });
  }

  function readings(response, device, query) {
    const to = Number(query.get('to_ms') ?? Date.now());
    const from = Number(query.get('from_ms') ?? to - 600_000);
    const limit = Number(query.get('max_points') ?? 1000);
    const series = query.getAll('channel').flatMap((channel) => {
      const points = device.points.get(channel);
      if (!points) return [];
      const within = points.filter(([time]) => time >= from && time <= to);
      return [{ channel, unit: device.units.get(channel), ...downsample(within, limit) }];
    });
    json(response, { from_ms: from, to_ms: to, series });
  }

  function stream(request, response, query) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    response.write(': begin\n\n');
    const one = { response, devices: query.getAll('device') };
    streams.add(one);
    request.on('close', () => streams.delete(one));
  }

  async function act(request, response, alarm, action) {
    let text = '';
    for await (const part of request) text += part;
    if (!request.headers['content-type']?.startsWith('application/json')) return problem(response, 415, 'Not JSON', 'Send content-type: application/json.');
    if (alarm.state === 'cleared') return problem(response, 409, 'Already cleared', `Alarm ${alarm.id} was cleared before.`);
    const now = Date.now();
    const { note } = JSON.parse(text || '{}');
    if (note) alarm.note = note;
    alarm.acknowledged_ms ??= now;
    alarm.state = action === 'clear' || !alarm.active ? 'cleared' : 'acknowledged';
    if (alarm.state === 'cleared') alarm.cleared_ms = now;
    send('alarm', alarm, alarm.device);
    return json(response, alarm);
  }

  function status(response) {
    const all = devices.map((device) => device.summary(alarms));
    json(response, {
      version: '0.0.0-mock', started_ms: started, devices: all.length,
      devices_online: all.filter(({ online }) => online).length,
      devices_anomalous: all.filter(({ state }) => state === 'anomaly').length,
      alarms_open: alarms.filter(({ state }) => state === 'open').length,
      alarms_acknowledged: alarms.filter(({ state }) => state === 'acknowledged').length,
      messages_stored: Math.round(stored / 5), readings_stored: stored, duplicates: 0, rejected: 0, storage_bytes: stored * 6,
    });
  }

  function file(response, path) {
    const wanted = join(DIST, normalize(path));
    const found = existsSync(wanted) && statSync(wanted).isFile();
    if (!found && /\.[a-z0-9]+$/.test(path)) return problem(response, 404, 'Not found', path);
    const name = found ? wanted : join(DIST, 'index.html');
    response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-security-policy': CSP });
    return createReadStream(name).pipe(response);
  }

  async function access(request, response, kind, id) {
    let text = '';
    for await (const part of request) text += part;
    const body = text ? JSON.parse(text) : {};
    const state = () => ({ ...who, expires_ms: who.account ? started + 6e8 : null, set_up_needed: false });
    const method = request.method;
    if (kind === 'session' && method === 'GET') return json(response, state());
    if (kind === 'session' && method === 'POST') {
      if (body.password !== PASSWORD) return problem(response, 403, 'Forbidden', 'the name or the password is wrong');
      Object.assign(who, { account: body.name, role: accounts.find(({ name }) => name === body.name)?.role ?? 'viewer' });
      return json(response, state());
    }
    if (kind === 'session' && method === 'DELETE') {
      Object.assign(who, { account: null, role: null });
      return json(response, state());
    }
    if (kind === 'account' && id === 'sessions') {
      const one = { id: 'a1', created_ms: started - 5e6, used_ms: Date.now(), expires_ms: started + 6e8, from: '192.0.2.7', agent: 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0', current: true };
      const other = { ...one, id: 'b2', from: '192.0.2.20', used_ms: started - 8e6, agent: 'Mozilla/5.0 (iPhone) Safari/605.1', current: false };
      return json(response, { sessions: [one, other] });
    }
    if (kind === 'accounts' && method === 'GET') return json(response, { accounts });
    if (kind === 'tokens' && method === 'GET') return json(response, { tokens });
    if (kind === 'audit' && id === 'verification') return json(response, { intact: true, entries: 3, head: null, faults: [] });
    if (kind === 'audit') {
      const acts = [['session.begin', '', 'done'], ['account.add', 'wall as viewer', 'done'], ['session.begin', '', 'refused']];
      const entries = acts.map(([act, subject, ending], i) => ({
        sequence: 3 - i, time_ms: started - i * 4e5, who: 'anna', from: '192.0.2.7', act, subject, ending, previous: '0'.repeat(64), hash: '0'.repeat(64),
      }));
      return json(response, { entries, next: null });
    }
    return problem(response, 404, 'Not found', 'The mock does not do this.');
  }

  const server = createServer((request, response) => {
    const { pathname, searchParams: query } = new URL(request.url, 'http://mock');
    const parts = pathname.split('/').slice(1).map(decodeURIComponent);
    if (parts[0] !== 'api') return file(response, pathname);
    const [, , kind, id, action] = parts;
    if (['session', 'account', 'accounts', 'tokens', 'audit'].includes(kind)) return access(request, response, kind, id);
    if (!who.account) return problem(response, 401, 'Unauthorized', 'sign in');
    const device = devices.find((one) => one.id === id);
    const alarm = alarms.find((one) => String(one.id) === id);
    if (kind === 'status') return status(response);
    if (kind === 'live') return stream(request, response, query);
    if (kind === 'devices' && !id) return listDevices(response, query);
    if (kind === 'devices' && device && action === 'readings') return readings(response, device, query);
    if (kind === 'devices' && device) return json(response, { ...device.summary(alarms), recent_scores: device.scores, channels: device.channels() });
    if (kind === 'alarms' && !id) return listAlarms(response, query);
    if (kind === 'alarms' && alarm && request.method === 'POST') return act(request, response, alarm, action);
    if (kind === 'alarms' && alarm) return json(response, alarm);
    return problem(response, 404, 'Not found', `There is nothing at ${pathname}.`);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const timer = setInterval(() => advance(Date.now()), interval);
  const bound = server.address().port;

  return {
    url: `http://127.0.0.1:${bound}`,
    port: bound,
    alarms,
    who,
    device: (id) => devices.find((device) => device.id === id),
    /** Sends an event by hand. */
    send,
    /** Ends the stand-in as a crash would: all connections break. */
    async stop() {
      clearInterval(timer);
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await startMock({ port: Number(process.env.PORT ?? 8080), devices: Number(process.env.DEVICES ?? 40) });
  console.log(`Mock of the Stonechat server on ${mock.url}`);
}
