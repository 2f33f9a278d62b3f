// What the browser tests share: starting Chromium, and looking at a page.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium } from 'playwright-core';

/** Longest time for anything that the page does by itself. */
export const PAGE_TIMEOUT_MS = 20_000;

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The browser's full path: CHROMIUM names it, or it is found on PATH. */
function browserPath() {
  const name = process.env.CHROMIUM ?? 'chromium';
  if (name.includes('/')) return name;
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  throw new Error(`No browser "${name}" on PATH. Install Debian's package "chromium", or name one in CHROMIUM.`);
}

export function launch() {
  return chromium.launch({ executablePath: browserPath(), args: ARGUMENTS });
}

let session;

/**
 * The cookie of a session, as `name=value`: by the link that a demo prints (STONECHAT_SIGN_IN_URL), or
 * by setting up a new server (STONECHAT_SET_UP_URL). One session for all tests of a process.
 */
export function sessionCookie(base) {
  const signIn = process.env.STONECHAT_SIGN_IN_URL;
  const setUp = process.env.STONECHAT_SET_UP_URL;
  assert.ok(signIn || setUp, 'STONECHAT_SIGN_IN_URL or STONECHAT_SET_UP_URL must hold the link that the server printed');
  const link = new URL(signIn ?? setUp).hash.slice(1);
  const body = signIn ? { link } : { link, name: 'tester', password: 'correct horse battery' };
  session ??= fetch(`${base}/api/v1/${signIn ? 'session/link' : 'set-up'}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }).then((response) => {
    assert.equal(response.status, 200, `signing in answers ${response.status}`);
    return response.headers.get('set-cookie').split(';')[0];
  });
  return session;
}

/** A page of a browser that is signed in. */
export async function openSignedIn(browser, base, options = {}) {
  const page = await openPage(browser, base, options);
  const [name, value] = (await sessionCookie(base)).split('=');
  await page.context().addCookies([{ name, value, url: base, httpOnly: true, sameSite: 'Strict' }]);
  return page;
}

/**
 * A page that remembers whatever the browser complained about. While `page.complaints.muted` is true
 * (a test that takes the server away), complaints about connections don't count.
 */
export async function openPage(browser, base, options = {}) {
  const context = await browser.newContext({
    baseURL: base,
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PAGE_TIMEOUT_MS);
  const complaints = Object.assign([], { muted: false });
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    const network = message.text().startsWith('Failed to load resource');
    if (['error', 'warning'].includes(message.type()) && !(network && complaints.muted)) {
      complaints.push(`${message.type()}: ${message.text()}`);
    }
  });
  page.complaints = complaints;
  return page;
}

/** Fails if the browser logged an error, a warning or a broken security policy. */
export function assertNoComplaints(page) {
  assert.deepEqual([...page.complaints], [], 'the browser logged errors or warnings');
}

/** Fails if the page is wider than its window. */
export async function assertNoSidewaysScroll(page) {
  const { inner, content } = await page.evaluate(() => ({
    inner: document.documentElement.clientWidth,
    content: document.documentElement.scrollWidth,
  }));
  assert.ok(content <= inner, `${page.url()} is ${content} pixels wide in a window of ${inner}`);
}

/** Number of a chart's points in sight, as the chart itself counts them. */
export async function pointsOf(chart) {
  return Number(await chart.getAttribute('data-points'));
}

/** For each line of a chart, by the name in its key: how many pixels of the canvas have that line's colour. */
export function inkOf(chart) {
  return chart.evaluate((plot) => {
    const canvas = plot.querySelector('canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const keys = [...plot.closest('figure').querySelectorAll('.readout .item')];
    return Object.fromEntries(
      keys.map((key) => {
        const wanted = getComputedStyle(key.querySelector('svg')).stroke.match(/\d+/g).map(Number);
        let pixels = 0;
        for (let i = 0; i < data.length; i += 4) {
          const far = wanted.some((part, c) => Math.abs(data[i + c] - part) > 12);
          if (data[i + 3] > 200 && !far) pixels += 1;
        }
        return [key.querySelector('.label').textContent, pixels];
      }),
    );
  });
}

/** Presses Tab until the focus is on an element with this test id; fails after `limit` steps. */
export async function tabTo(page, testid, limit = 120) {
  for (let step = 0; step < limit; step++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => document.activeElement?.getAttribute('data-testid'));
    if (at === testid) return;
  }
  assert.fail(`${limit} steps of the Tab key did not reach "${testid}" on ${page.url()}`);
}

/** Waits until `look` gives something truthy, and returns it. */
export async function until(what, look, timeout = PAGE_TIMEOUT_MS, pause = 250) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `waited ${Math.round(timeout / 1000)} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Keeps a picture of the page in the folder that STONECHAT_SCREENSHOTS names, if it names one. */
export async function picture(page, name, options = {}) {
  const folder = process.env.STONECHAT_SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: join(folder, `${name}.png`), ...options });
}
