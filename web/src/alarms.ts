/** Lists of alarms, and where an alarm can be looked at. */

import type { Alarm } from './api';

/** How much of the time around an alarm its link shows. */
const BEFORE_MS = 120_000;
const AFTER_MS = 180_000;

/** The device page at the alarm's time. */
export function alarmHref(alarm: Alarm): string {
  const from = alarm.opened_ms - BEFORE_MS;
  const to = alarm.opened_ms + AFTER_MS;
  return `/devices/${encodeURIComponent(alarm.device)}?alarm=${alarm.id}&from=${from}&to=${to}`;
}

/** The list with this alarm in its new state; one that is not in it comes first if it is wanted. */
export function withAlarm(list: Alarm[], alarm: Alarm, wanted: boolean): Alarm[] {
  const index = list.findIndex(({ id }) => id === alarm.id);
  if (index >= 0) return list.with(index, alarm);
  return wanted ? [alarm, ...list].sort((a, b) => b.id - a.id) : list;
}
