// The dashboard against a running `stonechat demo`: from the fleet to an acknowledged alarm.
//
//   STONECHAT_URL=http://127.0.0.1:8080 STONECHAT_SIGN_IN_URL=http://127.0.0.1:8080/sign-in#… [STONECHAT_SCREENSHOTS=folder] npm run test:server
//
// STONECHAT_ALARM_TIMEOUT_S: how long to wait for the demo's first alarm (default 120).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoComplaints, assertNoSidewaysScroll, inkOf, launch, openPage, openSignedIn, picture, pointsOf, sessionCookie, tabTo, until } from './browser.mjs';

const BASE = process.env.STONECHAT_URL?.replace(/\/$/, '');
const ALARM_TIMEOUT_MS = Number(process.env.STONECHAT_ALARM_TIMEOUT_S ?? 120) * 1000;

const LOOKS = [
  { name: 'wide-light', viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  { name: 'wide-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  { name: 'narrow-light', viewport: { width: 390, height: 844 }, colorScheme: 'light' },
  { name: 'narrow-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
];

let browser;
let page;
/** The alarm that the tests follow. */
let alarm;

async function api(path) {
  const response = await fetch(`${BASE}/api/v1${path}`, { headers: { cookie: await sessionCookie(BASE) } });
  assert.equal(response.status, 200, `${path} answers ${response.status}`);
  return response.json();
}

/** Waits for a device page's charts, all with points. */
async function chartsWithData(on) {
  await on.getByTestId('chart-score').waitFor();
  await on.getByTestId('chart-signal').first().waitFor();
  const charts = [...(await on.getByTestId('chart-signal').all()), on.getByTestId('chart-score')];
  for (const chart of charts) {
    await until('points in a chart', async () => (await pointsOf(chart)) > 10, 60_000);
  }
  return charts;
}

before(async () => {
  assert.ok(BASE, 'STONECHAT_URL must name the address of a running `stonechat demo`');
  browser = await launch();
  page = await openSignedIn(browser, BASE);
});

after(() => browser?.close());

test('the link that the demo prints signs in', { skip: !process.env.STONECHAT_SIGN_IN_URL && 'no demo' }, async () => {
  const one = await openPage(browser, BASE);
  await one.goto('/');
  await one.getByTestId('sign-in').waitFor();
  await one.goto(process.env.STONECHAT_SIGN_IN_URL);
  await one.getByTestId('device-row').first().waitFor();
  assert.equal(one.url(), `${BASE}/`, 'the secret does not stay in the address bar');
  await one.getByTestId('nav-settings').click();
  assert.equal(await one.getByTestId('own-name').innerText(), 'demo');
  assertNoComplaints(one);
  await one.context().close();
});

test('the overview lists the fleet with its numbers', async () => {
  await page.goto('/');
  await page.getByTestId('device-row').first().waitFor();
  const { total, devices } = await api('/devices?limit=25');
  assert.ok(total > 0);
  await until('every device of the first page', async () => (await page.getByTestId('device-row').count()) === devices.length);
  await until('the number of devices', async () => Number(await page.getByTestId('tile-devices').textContent()) === total);
  assert.match(await page.getByTestId('tile-readings').innerText(), /^[\d.,]+[KMB]?$/);
});

test('the overview is live', async () => {
  await until('the stream', async () => (await page.getByTestId('connection').getAttribute('data-state')) === 'open');
  const first = page.getByTestId('sparkline').first();
  await first.waitFor();
  const drawn = await first.innerHTML();
  await until('a sparkline to move on', async () => (await first.innerHTML()) !== drawn, 60_000);
});

test('the search finds a device by its name', async () => {
  const { devices } = await api('/devices?limit=25');
  const wanted = devices.at(-1).id;
  await page.getByTestId('device-search').fill(wanted);
  await until('the found device', async () => {
    const rows = await page.getByTestId('device-row').all();
    const ids = await Promise.all(rows.map((row) => row.getAttribute('data-device')));
    return ids.includes(wanted) && ids.every((id) => id?.includes(wanted));
  });
  await page.getByTestId('device-search').fill('no-such-device-anywhere');
  await page.getByTestId('devices-empty').waitFor();
  await page.getByTestId('device-search').fill('');
  await page.getByTestId('device-row').first().waitFor();
});

test('an open alarm appears on the alarms page', async () => {
  await page.getByTestId('nav-alarms').click();
  const item = page.locator('[data-testid=alarm-item][data-alarm-state=open]').first();
  await item.waitFor({ timeout: ALARM_TIMEOUT_MS });
  alarm = await api(`/alarms/${await item.getAttribute('data-alarm-id')}`);
  assert.equal(alarm.state, 'open');
  await item.getByTestId('alarm-link').click();
  await page.waitForURL(`**/devices/${alarm.device}?alarm=${alarm.id}*`);
});

test("the device page draws signal, reconstruction, score and threshold, and shows the open alarm", async () => {
  await page.getByTestId('live-toggle').click();
  await until('live charts', async () => (await page.getByTestId('live-toggle').getAttribute('data-live')) === 'true');
  for (const chart of await chartsWithData(page)) {
    const ink = await inkOf(chart);
    assert.ok(Object.keys(ink).length > 0);
    for (const [line, pixels] of Object.entries(ink)) {
      assert.ok(pixels > 20, `the ${line} has only ${pixels} pixels in a chart`);
    }
  }
  const { channels } = await api(`/devices/${alarm.device}`);
  const names = channels.map(({ name }) => name);
  assert.ok(names.some((name) => names.includes(`${name}/reconstruction`)), 'the device sends no reconstruction');
  assert.ok((await page.getByText('reconstruction', { exact: true }).count()) > 0);
  await page.locator(`[data-alarm-id="${alarm.id}"][data-alarm-state=open]`).waitFor();
});

test('the charts go on by themselves, and stop on request', async () => {
  const chart = page.getByTestId('chart-score');
  await page.getByTestId('range-all').check();
  await until('points over all time', async () => (await pointsOf(chart)) > 10);
  const count = await pointsOf(chart);
  await until('more points', async () => (await pointsOf(chart)) > count, 60_000);
  await page.getByTestId('live-toggle').click();
  assert.equal(await page.getByTestId('live-toggle').getAttribute('data-live'), 'false');
  await page.getByTestId('range-5m').check();
  assert.equal(await page.getByTestId('live-toggle').getAttribute('data-live'), 'true');
});

test('the cursor moves by keyboard and reads the values out', async () => {
  const chart = page.getByTestId('chart-score');
  await until('points', async () => (await pointsOf(chart)) > 10);
  await chart.focus();
  await page.keyboard.press('ArrowLeft');
  await until('a read-out with a time', async () => /score .* at \d\d:\d\d:\d\d$/.test((await chart.getAttribute('aria-valuetext')) ?? ''));
  await page.keyboard.press('Escape');
});

for (const { name, ...look } of LOOKS) {
  test(`every page fits and is kept as a picture: ${name}`, async () => {
    const one = await openSignedIn(browser, BASE, look);
    await one.goto('/');
    await one.getByTestId('sparkline').first().waitFor();
    await assertNoSidewaysScroll(one);
    await picture(one, `overview-${name}`);

    await one.goto(`/devices/${alarm.device}?alarm=${alarm.id}&from=${alarm.opened_ms - 120_000}&to=${alarm.opened_ms + 180_000}`);
    await chartsWithData(one);
    await picture(one, `alarm-${name}`, { fullPage: true });
    await one.getByTestId('live-toggle').click();
    await chartsWithData(one);
    await one.locator(`[data-alarm-id="${alarm.id}"]`).waitFor();
    await assertNoSidewaysScroll(one);
    await picture(one, `device-${name}`);
    await picture(one, `device-${name}-whole`, { fullPage: true });

    await one.goto('/alarms');
    await one.getByTestId('alarm-item').first().waitFor();
    await assertNoSidewaysScroll(one);
    await picture(one, `alarms-${name}`);
    assertNoComplaints(one);
    await one.context().close();
  });
}

test('an alarm is acknowledged by keyboard, and the server knows', async () => {
  await page.goto(`/devices/${alarm.device}`);
  const item = page.locator(`[data-alarm-id="${alarm.id}"]`);
  await item.waitFor();
  assert.equal(await item.getAttribute('data-alarm-state'), 'open');
  // From the top of the page by Tab alone to the first Acknowledge button: the newest open alarm's.
  await tabTo(page, 'alarm-acknowledge');
  const focused = await page.evaluate(() => document.activeElement.closest('[data-alarm-id]').dataset.alarmId);
  await page.keyboard.press('Enter');
  const acknowledged = page.locator(`[data-alarm-id="${focused}"]`);
  await until('the new state', async () => (await acknowledged.getAttribute('data-alarm-state')) !== 'open');
  const known = await api(`/alarms/${focused}`);
  // An alarm whose condition is over is cleared as soon as somebody has seen it.
  assert.ok(['acknowledged', 'cleared'].includes(known.state), `the server says ${known.state}`);
  assert.ok(Number.isInteger(known.acknowledged_ms), 'the server has no time of acknowledgement');
  await picture(page, 'device-acknowledged');
});

test('the theme is switched by hand and kept', async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await ground();
  await page.getByTestId('theme-toggle').click();
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  await page.getByTestId('device-title').waitFor();
  assert.equal(await ground(), dark);
  await page.getByTestId('theme-toggle').click();
  assert.equal(await ground(), light);
});

test('the browser has nothing to complain about', () => assertNoComplaints(page));
