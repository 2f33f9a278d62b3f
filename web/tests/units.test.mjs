// The parts of the dashboard that need no browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'vite';

let vite;
let track;
let channels;
let view;
let format;
let alarms;

before(async () => {
  // Vite translates the TypeScript sources for Node.
  vite = await createServer({ appType: 'custom', logLevel: 'error', server: { middlewareMode: true, ws: false, watch: null } });
  const load = (path) => vite.ssrLoadModule(path);
  track = await load('/src/charts/track.ts');
  channels = await load('/src/charts/channels.ts');
  view = await load('/src/charts/view.ts');
  format = await load('/src/format.ts');
  alarms = await load('/src/alarms.ts');
});

after(() => vite.close());

const channel = (name, latest = 1, unit = null, authenticated = true) => ({ name, unit, latest, latest_ms: 0, readings: 1, authenticated });

test('late readings are put in their place, repeated ones replaced', () => {
  const one = new track.Track();
  for (const [time, value] of [[10, 1], [30, 3], [20, 2], [30, 4]]) one.add(time, value);
  assert.deepEqual(one.times, [10, 20, 30]);
  assert.deepEqual(one.values, [1, 2, 4]);
});

test('text and numbers that are none are not drawn', () => {
  const one = new track.Track();
  for (const value of ['text', NaN, Infinity, true]) one.add(one.length, value);
  assert.deepEqual(one.values, [1]);
});

test('fetched points keep what came live meanwhile', () => {
  const one = new track.Track();
  one.add(5, 50);
  one.add(40, 400);
  one.replace([[10, 1], [20, 2], [30, 3]], 0);
  assert.deepEqual(one.times, [10, 20, 30, 40]);
});

test('a line is broken where a device was silent', () => {
  const one = new track.Track();
  for (const time of [0, 1000, 2000, 3000, 60_000, 61_000]) one.add(time, 1);
  const [times, values] = one.columns();
  assert.deepEqual(times, [0, 1000, 2000, 3000, 3001, 60_000, 61_000]);
  assert.equal(values[4], null);
  assert.equal(values.filter((value) => value === null).length, 1);
});

test('trimming keeps the point from which the line comes in', () => {
  const one = new track.Track();
  for (let time = 0; time < 10; time++) one.add(time, time);
  one.trim(5);
  assert.deepEqual(one.times, [4, 5, 6, 7, 8, 9]);
  assert.equal(one.countWithin(5, 7), 3);
});

test('anomalous stretches run from the first verdict to the next normal one', () => {
  const one = new track.Track();
  for (const [time, value] of [[0, false], [10, true], [20, true], [30, false], [40, true]]) one.add(time, value);
  assert.deepEqual(track.anomalousIntervals(one, 45), [[10, 30], [40, 45]]);
  assert.deepEqual(track.anomalousIntervals(new track.Track(), 45), []);
});

test('signals are paired with their reconstructions', () => {
  const found = channels.signals([
    channel('score'), channel('threshold'), channel('anomaly', true), channel('detector', 'fan 12ab'),
    channel('x10'), channel('x2', 1, 'm/s2'), channel('x2/reconstruction'), channel('x2/sensor_fault'),
    channel('unauthenticated/air_temperature', 25.5, 'Cel', false),
  ]);
  assert.deepEqual(found, [
    { name: 'unauthenticated/air_temperature', unit: 'Cel', authenticated: false, reconstruction: null, fault: null },
    { name: 'x2', unit: 'm/s2', authenticated: true, reconstruction: 'x2/reconstruction', fault: 'x2/sensor_fault' },
    { name: 'x10', unit: null, authenticated: true, reconstruction: null, fault: null },
  ]);
});

test('a live chart ends now, or at the last reading of a device long silent or ahead', () => {
  assert.equal(view.liveEnd(1000, null, 100), 1000);
  assert.equal(view.liveEnd(1000, 950, 100), 1000);
  assert.equal(view.liveEnd(1000, 500, 100), 500);
  assert.equal(view.liveEnd(1000, 1500, 100), 1500);
  assert.equal(view.fixedWindow('5', '3'), null);
  assert.equal(view.fixedWindow('x', '3'), null);
  assert.deepEqual(view.fixedWindow('3', '5'), [3, 5]);
});

test('numbers, units and times read well', () => {
  assert.equal(format.quantity(21.3456, 'Cel'), '21.35 °C');
  assert.equal(format.quantity(-0.0421), '−0.04210');
  assert.equal(format.quantity(123456.7), '123457');
  assert.equal(format.quantity(0.00001234), '1.23e−5');
  assert.equal(format.quantity(null), '–');
  assert.equal(format.quantity(3, 'furlong'), '3.000 furlong');
  assert.equal(format.ratio(3.4, 1), '3.4 ×');
  assert.equal(format.ratio(3.4, 0), null);
  assert.equal(format.ago(null, 0), 'never');
  assert.equal(format.ago(0, 75_000), '1 min ago');
  assert.equal(format.duration(7_500_000), '2 h 5 min');
  assert.equal(format.bytes(2_214_000), '2.21 MB');
});

test('a changed alarm keeps its place, a new one comes first', () => {
  const list = [{ id: 3, state: 'open' }, { id: 1, state: 'open' }];
  assert.deepEqual(alarms.withAlarm(list, { id: 1, state: 'cleared' }, false).map(({ state }) => state), ['open', 'cleared']);
  assert.deepEqual(alarms.withAlarm(list, { id: 4, state: 'open' }, true).map(({ id }) => id), [4, 3, 1]);
  assert.deepEqual(alarms.withAlarm(list, { id: 4, state: 'open' }, false), list);
});
