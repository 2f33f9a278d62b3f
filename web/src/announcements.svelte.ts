/** New alarms, said once each: on screen and to screen readers. */

import type { Alarm } from './api';
import { serverNow } from './api';
import { live } from './live.svelte';

/** An alarm older than this is not news. */
const NEWS_MS = 30_000;
const SHOWN_MS = 12_000;
const AT_ONCE_MAX = 3;

class Announcements {
  shown = $state.raw<Alarm[]>([]);
  private said = new Set<number>();

  private started = false;

  start(): void {
    if (this.started) return;
    this.started = true;
    live.on('alarm', (alarm) => this.hear(alarm));
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((alarm) => alarm.id !== id);
  }

  private hear(alarm: Alarm): void {
    if (alarm.state !== 'open') return this.dismiss(alarm.id);
    if (this.said.has(alarm.id) || serverNow() - alarm.opened_ms > NEWS_MS) return;
    this.said.add(alarm.id);
    this.shown = [...this.shown, alarm].slice(-AT_ONCE_MAX);
    setTimeout(() => this.dismiss(alarm.id), SHOWN_MS);
  }
}

export const announcements = new Announcements();
