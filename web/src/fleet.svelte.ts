/** The server's status, asked for every few seconds; every page shows parts of it. */

import * as api from './api';
import { live } from './live.svelte';

const INTERVAL_MS = 5000;
/** Least time between two requests when events call for fresh numbers. */
const SOON_MS = 2000;

class Fleet {
  status = $state.raw<api.Status | null>(null);
  /** Whether the last request was answered. */
  reachable = $state(true);
  /** Readings stored a second, from the last two answers. */
  rate = $state<number | null>(null);

  private timer: ReturnType<typeof setTimeout> | undefined;
  private askedAt = 0;
  private before: { at: number; readings: number } | null = null;

  private started = false;

  /** Forgets everything, for whoever signs in next. */
  stop(): void {
    clearTimeout(this.timer);
    this.stopped = true;
    this.status = null;
    this.rate = null;
    this.before = null;
  }

  private stopped = false;

  start(): void {
    this.stopped = false;
    void this.ask();
    if (this.started) return;
    this.started = true;
    live.on('alarm', () => this.soon());
    live.on('device', () => this.soon());
    live.on('opened', () => this.soon());
    // Whether the server itself is away decides what the page says.
    live.on('lost', () => this.plan(0));
  }

  private soon(): void {
    const due = this.askedAt + SOON_MS;
    if (this.askedAt === 0 || due < Date.now() + SOON_MS) this.plan(Math.max(0, due - Date.now()));
  }

  private plan(wait: number): void {
    clearTimeout(this.timer);
    if (this.stopped) return;
    this.timer = setTimeout(() => void this.ask(), wait);
  }

  async ask(): Promise<void> {
    this.askedAt = Date.now();
    try {
      const status = await api.status();
      if (this.stopped) return;
      this.measure(status.readings_stored);
      this.status = status;
      this.reachable = true;
    } catch (error) {
      this.reachable = !(error instanceof api.ApiError && error.status === 0);
    }
    this.plan(INTERVAL_MS);
  }

  private measure(readings: number): void {
    const at = performance.now();
    if (!this.before || readings < this.before.readings) {
      this.before = { at, readings };
      return;
    }
    // Over a short time the server's group commits would make the rate jump.
    if (at - this.before.at < 3000) return;
    this.rate = ((readings - this.before.readings) * 1000) / (at - this.before.at);
    this.before = { at, readings };
  }
}

export const fleet = new Fleet();
