/** A router over the history API: the address is the state. */

/** The pages under Settings; all but the first are for admins. */
export const SETTINGS_PARTS = ['account', 'accounts', 'tokens', 'audit'] as const;
export type SettingsPart = (typeof SETTINGS_PARTS)[number];

export type Route =
  | { page: 'overview' }
  | { page: 'device'; id: string }
  | { page: 'alarms' }
  | { page: 'sign-in' }
  | { page: 'set-up' }
  | { page: 'settings'; part: SettingsPart }
  | { page: 'missing' };

let url = $state.raw(new URL(window.location.href));

window.addEventListener('popstate', () => {
  url = new URL(window.location.href);
});

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function route(): Route {
  const parts = url.pathname.split('/').filter(Boolean);
  if (parts.length === 0) return { page: 'overview' };
  if (parts.length === 1 && parts[0] === 'alarms') return { page: 'alarms' };
  if (parts.length === 1 && (parts[0] === 'sign-in' || parts[0] === 'set-up')) return { page: parts[0] };
  if (parts[0] === 'settings' && parts.length <= 2) {
    const part = SETTINGS_PARTS.find((known) => known === (parts[1] ?? 'account'));
    if (part) return { page: 'settings', part };
  }
  if (parts.length === 2 && parts[0] === 'devices' && parts[1]) return { page: 'device', id: decode(parts[1]) };
  return { page: 'missing' };
}

export function path(): string {
  return url.pathname;
}

/** One value of the address's query. */
export function query(name: string): string | null {
  return url.searchParams.get(name);
}

/** Takes the secret out of a link's fragment: it is not left in the address bar or the history. */
export function takeSecret(): string | null {
  const secret = url.hash.slice(1);
  if (!secret) return null;
  replace(url.pathname + url.search);
  return secret;
}

/** The address from the path on. */
export function here(): string {
  return url.pathname + url.search;
}

/** Goes to a page in the place of the present one. */
export function replace(href: string): void {
  history.replaceState(null, '', href);
  url = new URL(window.location.href);
}

export function navigate(href: string): void {
  history.pushState(null, '', href);
  url = new URL(window.location.href);
  window.scrollTo(0, 0);
}

/** Changes values of the query in place, without a new step in the history. A null removes one. */
export function setQuery(values: Record<string, string | null>): void {
  const next = new URL(window.location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === '') next.searchParams.delete(name);
    else next.searchParams.set(name, value);
  }
  history.replaceState(null, '', next);
  url = next;
}

/** Takes clicks on links of this site over from the browser; everything else is left to it. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest('a');
  if (!link || link.target || link.hasAttribute('download') || link.dataset.external !== undefined) return;
  const target = new URL(link.href);
  if (target.origin !== window.location.origin) return;
  if (target.hash && target.pathname === window.location.pathname) return;
  event.preventDefault();
  navigate(target.pathname + target.search);
}
