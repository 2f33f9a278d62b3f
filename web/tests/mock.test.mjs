// The dashboard against the mock: what a healthy server seldom does. Needs `npm run build` before.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PASSWORD, startMock } from '../dev/mock.mjs';
import { assertNoComplaints, launch, openPage, picture, pointsOf, tabTo, until } from './browser.mjs';

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Runs a test with a mock and a page of its own. */
function withMock(name, options, run) {
  test(name, async () => {
    const mock = await startMock(options);
    let page;
    try {
      page = await openPage(browser, mock.url);
      await run(page, mock);
      assertNoComplaints(page);
    } finally {
      await page?.context().close();
      await mock.stop();
    }
  });
}

withMock('an empty fleet says what to do next', { devices: 0 }, async (page) => {
  await page.goto('/');
  assert.match(await page.getByTestId('devices-empty').innerText(), /stonechat demo/);
  await page.goto('/alarms');
  await page.getByTestId('alarms-empty').waitFor();
  await picture(page, 'mock-alarms-empty');
});

withMock('a fleet of several pages is turned by keyboard', { devices: 60, history: 60_000 }, async (page) => {
  await page.goto('/');
  await page.getByTestId('device-row').first().waitFor();
  assert.equal(await page.getByTestId('device-range').innerText(), '1–25 of 60');
  await page.getByTestId('page-next').focus();
  await page.keyboard.press('Enter');
  await until('the second page', async () => (await page.getByTestId('device-range').innerText()) === '26–50 of 60');
  await page.getByTestId('page-next').click();
  await until('the last page', async () => (await page.getByTestId('device-row').count()) === 10);
  // A link to a filtered list begins at its first page.
  await page.getByTestId('device-filter-never_seen').check();
  await until('the devices never seen', async () => (await page.getByTestId('device-range').innerText()).startsWith('1–'));
  const states = await page.getByTestId('device-state').evaluateAll((all) => all.map((one) => one.dataset.state));
  assert.ok(states.length > 0 && states.every((state) => state === 'never_seen'), states.join());
});

withMock('readings that nobody made sure of are marked', { devices: 3, history: 30_000 }, async (page, mock) => {
  const forged = mock.device('boiler-01');
  const channels = forged.channels.bind(forged);
  forged.channels = () => channels().map((channel) => ({ ...channel, authenticated: false }));
  await page.goto('/devices/boiler-01');
  await page.locator('figure', { has: page.getByTestId('chart-signal') }).first().getByTestId('unauthenticated').waitFor();
  // One stands beside the device's state, one at each signal.
  assert.equal(await page.getByTestId('unauthenticated').count(), 1 + (await page.getByTestId('chart-signal').count()));
  await page.goto('/');
  const other = page.getByTestId('device-link').filter({ hasNotText: 'boiler-01' }).first();
  await other.click();
  await page.getByTestId('device-facts').waitFor();
  assert.equal(await page.getByTestId('unauthenticated').count(), 0);
});

withMock('a name is shown as text, whatever it holds', { devices: 3, history: 30_000 }, async (page, mock) => {
  const name = '<img src=x onerror=alert(1)>';
  mock.device('boiler-01').id = name;
  await page.goto('/');
  await page.getByTestId('device-link').filter({ hasText: name }).click();
  assert.equal(await page.getByTestId('device-title').innerText(), name);
  await until('points', async () => (await pointsOf(page.getByTestId('chart-score'))) > 5);
});

withMock('a new alarm is announced, and cleared with a note by keyboard', { devices: 12, history: 60_000 }, async (page, mock) => {
  await page.goto('/');
  await until('the stream', async () => (await page.getByTestId('connection').getAttribute('data-state')) === 'open');
  mock.device('fan-03').forced = 1;
  const announcements = page.getByTestId('announcements');
  await until('the announcement', async () => (await announcements.innerText()).includes('fan-03'));
  assert.equal(await announcements.getAttribute('aria-live'), 'polite');
  await until('the red row', async () => (await page.locator('[data-device=fan-03][data-state=anomaly]').count()) === 1);
  const { id } = mock.alarms.find(({ device }) => device === 'fan-03');

  await page.goto('/devices/fan-03');
  await page.locator(`[data-alarm-id="${id}"]`).waitFor();
  await tabTo(page, 'alarm-clear');
  await page.keyboard.press('Enter');
  await page.keyboard.type('Test run on the bench');
  await picture(page, 'mock-note-dialog');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator(`[data-alarm-id="${id}"][data-alarm-state=cleared]`).waitFor();
  const alarm = mock.alarms.find((one) => one.id === id);
  assert.equal(alarm.state, 'cleared');
  assert.equal(alarm.note, 'Test run on the bench');
  assert.equal(await page.locator(`[data-alarm-id="${id}"]`).getByTestId('alarm-note').innerText(), 'Test run on the bench');
});

withMock('who may not act on alarms is not offered to', { devices: 12, history: 120_000 }, async (page, mock) => {
  mock.device('fan-03').forced = 1;
  await page.goto('/alarms');
  await page.getByTestId('alarm-item').first().waitFor();
  await page.getByTestId('alarm-acknowledge').first().waitFor();
  Object.assign(mock.who, { account: 'wall', role: 'viewer' });
  await page.reload();
  await page.getByTestId('alarm-item').first().waitFor();
  assert.equal(await page.getByTestId('alarm-acknowledge').count(), 0);
  assert.equal(await page.getByTestId('alarm-clear').count(), 0);
  await page.getByTestId('nav-settings').click();
  assert.equal(await page.getByTestId('own-role').innerText(), 'viewer');
  assert.equal(await page.getByTestId('settings-audit').count(), 0);
  await page.goto('/settings/audit');
  await page.getByTestId('not-allowed').waitFor();
  assert.equal(await page.getByTestId('audit-table').count(), 0);
});

withMock('a session that ends leads to the sign-in page and back', { devices: 3, history: 60_000 }, async (page, mock) => {
  await page.goto('/devices/boiler-01?range=1m');
  await until('points', async () => (await pointsOf(page.getByTestId('chart-score'))) > 5);
  page.complaints.muted = true;
  Object.assign(mock.who, { account: null, role: null });
  await page.getByTestId('session-ended').waitFor();
  assert.equal(new URL(page.url()).pathname, '/sign-in');
  assert.equal(await page.getByTestId('nav-overview').count(), 0, 'nothing of the inside is offered');
  await picture(page, 'mock-session-ended');
  await page.getByTestId('sign-in-name').fill('anna');
  await page.getByTestId('sign-in-password').fill('wrong');
  await page.keyboard.press('Enter');
  await page.getByTestId('sign-in-error').waitFor();
  assert.equal(await page.getByTestId('sign-in-error').getAttribute('role'), 'alert');
  await page.getByTestId('sign-in-password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByTestId('device-title').waitFor();
  assert.equal(page.url(), `${mock.url}/devices/boiler-01?range=1m`);
  await until('the stream', async () => (await page.getByTestId('connection').getAttribute('data-state')) === 'open');
});

withMock('nobody is led to another site by signing in', { devices: 3, history: 30_000 }, async (page, mock) => {
  for (const next of ['//evil.example/', 'https://evil.example/', '/\\evil.example', 'javascript:alert(1)']) {
    // The page before must not ask with a session that has ended.
    await page.goto('about:blank');
    Object.assign(mock.who, { account: null, role: null });
    await page.goto(`/sign-in?next=${encodeURIComponent(next)}`);
    await page.getByTestId('sign-in-name').fill('anna');
    await page.getByTestId('sign-in-password').fill(PASSWORD);
    await page.getByTestId('sign-in').click();
    await page.getByTestId('device-row').first().waitFor();
    assert.equal(page.url(), `${mock.url}/`, next);
  }
});

withMock('the charts fetch again what the stream lost', { devices: 3, history: 120_000 }, async (page, mock) => {
  await page.goto('/devices/boiler-01?range=1m');
  await until('points', async () => (await pointsOf(page.getByTestId('chart-score'))) > 10);
  const asked = page.waitForRequest((request) => request.url().includes('/readings?'));
  mock.send('lagged', { missed: 7 }, 'boiler-01');
  await asked;
});

withMock('many events a second are drawn at a steady pace', { devices: 3, history: 60_000 }, async (page, mock) => {
  await page.goto('/devices/boiler-01?range=1m');
  const chart = page.getByTestId('chart-score');
  await until('points', async () => (await pointsOf(chart)) > 10);
  // Each draw shades the background anew, so that clearing the canvas counts the draws.
  await chart.locator('canvas').evaluate((canvas) => {
    const context = canvas.getContext('2d');
    const clear = context.clearRect;
    window.draws = 0;
    context.clearRect = function (...rest) {
      window.draws += 1;
      return clear.apply(this, rest);
    };
  });
  const events = 400;
  const before = await pointsOf(chart);
  const started = Date.now();
  for (let i = 0; i < events; i++) {
    const reading = { channel: 'score', unit: null, time_ms: started + i, value: 0.2 };
    mock.send('readings', { device: 'boiler-01', readings: [reading] }, 'boiler-01');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await until('all points', async () => (await pointsOf(chart)) >= before + events - 5);
  const draws = await page.evaluate(() => window.draws);
  const seconds = (Date.now() - started) / 1000;
  assert.ok(draws > 0, 'nothing was drawn');
  assert.ok(draws <= 11 * seconds + 5, `${draws} draws in ${seconds} s`);
});

withMock('a stretch is chosen by dragging, and left by one button', { devices: 3, history: 300_000 }, async (page) => {
  await page.goto('/devices/boiler-01');
  const chart = page.getByTestId('chart-score');
  await until('points', async () => (await pointsOf(chart)) > 100);
  const box = await chart.locator('.u-over').boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await page.waitForURL('**from=*');
  const query = new URL(page.url()).searchParams;
  const span = Number(query.get('to')) - Number(query.get('from'));
  assert.ok(Math.abs(span - 60_000) < 3000, `a fifth of 5 minutes was chosen as ${span} ms`);
  await until('the shorter stretch', async () => (await pointsOf(chart)) < 150);
  await page.getByTestId('live-toggle').click();
  assert.equal(new URL(page.url()).searchParams.get('from'), null);
});

withMock('an unknown device and an unknown page lead back', { devices: 3, history: 30_000 }, async (page) => {
  page.complaints.muted = true;
  await page.goto('/devices/nobody');
  await page.getByTestId('device-missing').waitFor();
  await page.goto('/nothing/here');
  await page.getByRole('link', { name: 'Go to the overview' }).click();
  await page.getByTestId('device-row').first().waitFor();
});

test('a server that goes away is named, and found again', async () => {
  const first = await startMock({ devices: 3, history: 60_000 });
  const page = await openPage(browser, first.url);
  let second;
  try {
    await page.goto('/devices/boiler-01?range=1m');
    await until('points', async () => (await pointsOf(page.getByTestId('chart-score'))) > 10);
    page.complaints.muted = true;
    await first.stop();
    await page.getByTestId('connection-lost').waitFor();
    await until('what to do', async () =>
      /does not answer[\s\S]*Check that it is running/.test(await page.getByTestId('connection-lost').innerText()),
    );
    await picture(page, 'mock-connection-lost');
    second = await startMock({ devices: 3, history: 60_000, port: first.port });
    await page.getByTestId('connection-lost').waitFor({ state: 'detached', timeout: 60_000 });
    await until('the stream', async () => (await page.getByTestId('connection').getAttribute('data-state')) === 'open');
    assertNoComplaints(page);
  } finally {
    await page.context().close();
    await second?.stop();
  }
});
