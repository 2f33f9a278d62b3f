/** The one stream of server-sent events that all pages share. */

import type { Alarm, DeviceSummary, LiveReading } from './api';
import { Backoff } from './backoff';

interface Events {
  readings: { device: string; readings: LiveReading[] };
  alarm: Alarm;
  device: DeviceSummary;
  /** The server dropped events because this client was too slow: refetch. */
  lagged: { missed: number };
  /** The stream begins, again or for the first time; what happened before must be fetched. */
  opened: null;
  /** The stream broke, or could not begin. */
  lost: null;
}

/** A page out of sight for this long lets go of its stream: a browser has few connections to one server. */
const HIDDEN_MS = 60_000;

type Handler<K extends keyof Events> = (data: Events[K]) => void;

const SERVER_EVENTS = ['readings', 'alarm', 'device', 'lagged'] as const;

class Live {
  state = $state<'connecting' | 'open' | 'lost' | 'resting'>('connecting');
  /** When the next try to reconnect is due; null while connected. */
  retryAt = $state<number | null>(null);
  /** When the stream broke. */
  lostAt = $state<number | null>(null);

  private handlers = new Map<keyof Events, Set<(data: never) => void>>();
  private source: EventSource | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private backoff = new Backoff();
  private device: string | null = null;

  constructor() {
    let hiding: ReturnType<typeof setTimeout> | undefined;
    document.addEventListener('visibilitychange', () => {
      clearTimeout(hiding);
      if (document.hidden) hiding = setTimeout(() => this.rest(), HIDDEN_MS);
      else if (this.state === 'resting') this.open();
    });
  }

  /** Calls the handler for each event of this kind; the returned function ends that. */
  on<K extends keyof Events>(kind: K, handler: Handler<K>): () => void {
    let set = this.handlers.get(kind);
    if (!set) this.handlers.set(kind, (set = new Set()));
    set.add(handler);
    // The browser decodes only what somebody listens to, so a page without readings costs little.
    this.listen(kind);
    return () => set.delete(handler);
  }

  /** Opens the stream: of one device, or of the whole fleet. */
  connect(device: string | null): void {
    if (this.source && this.device === device && this.state !== 'lost') return;
    this.device = device;
    this.open();
  }

  retryNow(): void {
    this.backoff.reset();
    this.open();
  }

  private emit<K extends keyof Events>(kind: K, data: Events[K]): void {
    for (const handler of this.handlers.get(kind) ?? []) (handler as Handler<K>)(data);
  }

  private listening = new Set<string>();

  private listen(kind: keyof Events): void {
    const source = this.source;
    if (!source || this.listening.has(kind) || kind === 'opened' || kind === 'lost') return;
    this.listening.add(kind);
    source.addEventListener(kind, (event) => {
      if (source !== this.source || !this.handlers.get(kind)?.size) return;
      this.emit(kind, JSON.parse((event as MessageEvent<string>).data));
    });
  }

  private open(): void {
    clearTimeout(this.timer);
    this.source?.close();
    const query = this.device === null ? '' : `?device=${encodeURIComponent(this.device)}`;
    const source = new EventSource(`/api/v1/live${query}`);
    this.source = source;
    this.listening.clear();
    for (const kind of SERVER_EVENTS) if (this.handlers.get(kind)?.size) this.listen(kind);
    source.onopen = () => {
      if (source !== this.source) return;
      this.state = 'open';
      this.retryAt = null;
      this.lostAt = null;
      this.backoff.reset();
      this.emit('opened', null);
    };
    source.onerror = () => {
      if (source === this.source) this.lose();
    };
  }

  /** Lets go of the stream until it is connected again. */
  disconnect(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.state = 'connecting';
    this.lostAt = null;
    this.retryAt = null;
    this.backoff.reset();
  }

  private rest(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.state = 'resting';
    this.lostAt = null;
  }

  private lose(): void {
    // The browser's own retry gives up on some errors and never backs off, so it is not used.
    this.source?.close();
    this.source = null;
    this.state = 'lost';
    this.lostAt ??= Date.now();
    const wait = this.backoff.next();
    this.retryAt = Date.now() + wait;
    this.timer = setTimeout(() => this.open(), wait);
    this.emit('lost', null);
  }
}

export const live = new Live();
