// Signing in, roles, tokens and the audit log, against a new `stonechat serve` that nobody set up.
//
//   STONECHAT_URL=http://127.0.0.1:8080 STONECHAT_SET_UP_URL=http://127.0.0.1:8080/set-up#… npm run test:access

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoComplaints, assertNoSidewaysScroll, launch, openPage, picture, tabTo, until } from './browser.mjs';

const BASE = process.env.STONECHAT_URL?.replace(/\/$/, '');
const LINK = process.env.STONECHAT_SET_UP_URL;
const PASSWORD = 'correct horse battery';
const OTHER_PASSWORD = 'staple of another kind';

const LOOKS = [
  { name: 'wide-light', viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  { name: 'wide-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  { name: 'narrow-light', viewport: { width: 390, height: 844 }, colorScheme: 'light' },
  { name: 'narrow-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
];

let browser;
/** The admin's page. */
let page;

before(async () => {
  assert.ok(BASE && LINK, 'STONECHAT_URL and STONECHAT_SET_UP_URL must name a new `stonechat serve`');
  browser = await launch();
  page = await openPage(browser, BASE);
});

after(() => browser?.close());

async function signIn(on, name, password) {
  await on.getByTestId('sign-in-name').fill(name);
  await on.getByTestId('sign-in-password').fill(password);
  await on.getByTestId('sign-in').click();
}

/** A page with a session of its own. */
async function signedIn(name, password, look = {}) {
  const one = await openPage(browser, BASE, look);
  await one.goto('/');
  await signIn(one, name, password);
  await one.getByTestId('nav-overview').waitFor();
  return one;
}

/** Asks the API from within a page, with its session. */
function ask(on, path, init = {}) {
  return on.evaluate(
    async ([path, init]) => {
      const response = await fetch(`/api/v1${path}`, { headers: { 'content-type': 'application/json' }, ...init });
      return response.status;
    },
    [path, init],
  );
}

test('a new server shows nothing, and says how it is set up', async () => {
  await page.goto('/alarms');
  await page.getByTestId('set-up-needed').waitFor();
  assert.equal(new URL(page.url()).pathname, '/sign-in');
  assert.equal(await page.getByTestId('nav-overview').count(), 0);
  await page.goto('/set-up');
  await page.getByTestId('set-up-no-link').waitFor();
});

for (const { name, ...look } of LOOKS) {
  test(`the pages before signing in fit and are kept as pictures: ${name}`, async () => {
    const one = await openPage(browser, BASE, look);
    await one.goto('/');
    await one.getByTestId('set-up-needed').waitFor();
    await assertNoSidewaysScroll(one);
    await picture(one, `sign-in-${name}`);
    await one.goto(LINK);
    await one.getByTestId('set-up-name').waitFor();
    await assertNoSidewaysScroll(one);
    await picture(one, `set-up-${name}`);
    assertNoComplaints(one);
    await one.context().close();
  });
}

test('the set-up link makes the first account, by keyboard alone', async () => {
  await page.goto(LINK);
  await page.getByTestId('set-up-name').waitFor();
  assert.equal(new URL(page.url()).hash, '', 'the secret does not stay in the address bar');
  await tabTo(page, 'set-up-name');
  await page.keyboard.type('Anna');
  await tabTo(page, 'set-up-password');
  await page.keyboard.type(PASSWORD);
  await tabTo(page, 'set-up-again');
  await page.keyboard.type('something else entirely');
  await page.keyboard.press('Enter');
  await until('the complaint', async () => /differ/.test(await page.getByTestId('set-up-error').innerText()));
  const focused = await page.evaluate(() => document.activeElement?.getAttribute('role'));
  assert.equal(focused, 'alert', 'the reason is where the keyboard goes on');
  await tabTo(page, 'set-up-again');
  await page.keyboard.press('Control+A');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByTestId('devices-empty').waitFor();
  await page.getByTestId('nav-settings').click();
  assert.equal(await page.getByTestId('own-name').innerText(), 'anna');
  assert.equal(await page.getByTestId('own-role').innerText(), 'admin');
});

test('the set-up link works once', async () => {
  const one = await openPage(browser, BASE);
  await one.goto(LINK);
  await one.getByTestId('set-up-over').waitFor();
  one.complaints.muted = true;
  const body = JSON.stringify({ link: new URL(LINK).hash.slice(1), name: 'mallory', password: PASSWORD });
  assert.equal(await ask(one, '/set-up', { method: 'POST', body }), 403);
  await one.context().close();
});

test('a wrong password is refused in words, and the right one leads to where one wanted to', async () => {
  const one = await openPage(browser, BASE);
  await one.goto('/settings/audit');
  one.complaints.muted = true;
  await signIn(one, 'anna', 'wrong horse battery');
  await until('the reason', async () => /name or the password is wrong/.test(await one.getByTestId('sign-in-error').innerText()));
  await one.getByTestId('sign-in-password').fill(PASSWORD);
  await one.keyboard.press('Enter');
  await one.getByTestId('audit-table').waitFor();
  assert.equal(new URL(one.url()).pathname, '/settings/audit');
  const { cookies } = await one.context().storageState();
  assert.deepEqual(cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite })), [{ httpOnly: true, sameSite: 'Strict' }]);
  assert.equal(await one.evaluate(() => document.cookie), '', 'no script sees the session');
  assertNoComplaints(one);
  await one.context().close();
});

test('an admin makes accounts', async () => {
  await page.getByTestId('settings-accounts').click();
  for (const role of ['operator', 'viewer']) {
    await page.getByTestId('account-add').click();
    await page.getByTestId('account-name').fill(`one-${role}`);
    await page.getByTestId(`account-role-${role}`).check();
    const dialog = page.getByTestId('account-dialog');
    page.complaints.muted = true;
    await dialog.getByTestId('account-new-password').fill('short');
    await dialog.getByTestId('dialog-confirm').click();
    await until('the reason', async () => /at least 12/.test(await dialog.getByTestId('dialog-error').innerText()));
    page.complaints.muted = false;
    await dialog.getByTestId('account-new-password').fill(OTHER_PASSWORD);
    await dialog.getByTestId('dialog-confirm').click();
    await page.locator(`[data-testid=account-row][data-account=one-${role}]`).waitFor();
  }
  assert.equal(await page.getByTestId('account-row').count(), 3);
  // Nobody takes the last admin's rights away, not even himself.
  page.complaints.muted = true;
  await page.locator('[data-account=anna]').getByTestId('account-role').selectOption('viewer');
  await until('the reason', async () => /last admin/.test(await page.getByTestId('accounts-error').innerText()));
  page.complaints.muted = false;
  assert.equal(await ask(page, '/accounts'), 200, 'still an admin');
});

test('what a role may not do is not offered, and refused by the server', async () => {
  for (const [name, act] of [['one-viewer', 403], ['one-operator', 404]]) {
    const one = await signedIn(name, OTHER_PASSWORD);
    await one.getByTestId('nav-settings').click();
    assert.equal(await one.getByTestId('own-name').innerText(), name);
    for (const part of ['accounts', 'tokens', 'audit']) {
      assert.equal(await one.getByTestId(`settings-${part}`).count(), 0, `${part} for ${name}`);
    }
    await one.goto('/settings/accounts');
    await one.getByTestId('not-allowed').waitFor();
    one.complaints.muted = true;
    assert.equal(await ask(one, '/devices'), 200);
    assert.equal(await ask(one, '/alarms/7/acknowledge', { method: 'POST', body: '{}' }), act, name);
    for (const path of ['/accounts', '/tokens', '/audit']) assert.equal(await ask(one, path), 403, `${path} for ${name}`);
    await one.context().close();
  }
});

test('a token is shown once, works, and stops working when it is revoked', async () => {
  await page.getByTestId('settings-tokens').click();
  await page.getByTestId('tokens-empty').waitFor();
  await page.getByTestId('token-add').click();
  await page.getByTestId('token-name').fill('report');
  await page.getByTestId('token-dialog').getByTestId('dialog-confirm').click();
  const token = await page.getByTestId('token-text').innerText();
  const status = async () => (await fetch(`${BASE}/api/v1/status`, { headers: { authorization: `Bearer ${token}` } })).status;
  assert.equal(await status(), 200);
  await page.reload();
  const row = page.locator('[data-testid=token-row][data-token=report]');
  await row.waitFor();
  assert.ok(!(await page.content()).includes(token), 'the token is not shown again');
  await row.getByTestId('token-revoke').click();
  await page.getByTestId('token-revoke-dialog').getByTestId('dialog-confirm').click();
  await page.getByTestId('tokens-empty').waitFor();
  assert.equal(await status(), 401);
});

test('a session that is ended elsewhere leads to the sign-in page, and back', async () => {
  const other = await signedIn('anna', PASSWORD);
  await other.goto('/settings/tokens');
  await other.getByTestId('tokens-empty').waitFor();
  await page.getByTestId('settings-account').click();
  const ends = page.getByTestId('session-end');
  await ends.first().waitFor();
  other.complaints.muted = true;
  while ((await ends.count()) > 0) {
    const left = await ends.count();
    await ends.first().click();
    await until('the session to end', async () => (await ends.count()) < left);
  }
  await other.getByTestId('session-ended').waitFor();
  await signIn(other, 'anna', PASSWORD);
  await other.getByTestId('tokens-empty').waitFor();
  assert.equal(new URL(other.url()).pathname, '/settings/tokens');
  assertNoComplaints(other);
  await other.context().close();
});

test('the audit log shows what happened, and is intact', async () => {
  await page.getByTestId('settings-audit').click();
  await page.getByTestId('audit-row').first().waitFor();
  const seen = await page.getByTestId('audit-row').evaluateAll((rows) => rows.map(({ dataset }) => `${dataset.act} ${dataset.ending}`));
  for (const wanted of ['set-up refused', 'session.begin refused', 'session.begin done', 'account.add done', 'token.add done', 'token.revoke done', 'session.end done', 'alarm.acknowledge refused', 'alarm.acknowledge failed']) {
    assert.ok(seen.includes(wanted), `${wanted} is not among ${seen.join(', ')}`);
  }
  const whole = await page.getByTestId('audit-table').innerText();
  for (const secret of [PASSWORD, OTHER_PASSWORD, 'wrong horse']) assert.ok(!whole.includes(secret));
  await page.getByTestId('audit-verify').click();
  await until('the result', async () => /^Intact: \d+ entries/.test(await page.getByTestId('audit-found').innerText()));
});

for (const { name, ...look } of LOOKS) {
  test(`the settings fit and are kept as pictures: ${name}`, async () => {
    const one = await signedIn('anna', PASSWORD, look);
    for (const [part, testid] of [['account', 'session-item'], ['accounts', 'account-row'], ['tokens', 'tokens-empty'], ['audit', 'audit-row']]) {
      await one.goto(part === 'account' ? '/settings' : `/settings/${part}`);
      await one.getByTestId(testid).first().waitFor();
      await assertNoSidewaysScroll(one);
      await picture(one, `settings-${part}-${name}`, { fullPage: true });
    }
    await one.goto('/settings/accounts');
    await one.getByTestId('account-add').click();
    await picture(one, `settings-account-dialog-${name}`);
    assertNoComplaints(one);
    await one.context().close();
  });
}

test('signing out ends the session', async () => {
  await page.getByTestId('header-sign-out').click();
  await page.getByTestId('sign-in').waitFor();
  page.complaints.muted = true;
  assert.equal(await ask(page, '/account'), 401);
  await page.goBack();
  await page.getByTestId('sign-in').waitFor();
  assertNoComplaints(page);
});
