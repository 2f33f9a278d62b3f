/** Who is signed in, and what that person may do. */

import * as api from './api';
import type { Role, SessionState } from './api';
import { Backoff } from './backoff';
import { fleet } from './fleet.svelte';
import { live } from './live.svelte';
import { here, replace } from './router.svelte';

const RANKS: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

export const ROLES: Record<Role, string> = { viewer: 'Viewer', operator: 'Operator', admin: 'Admin' };

class Session {
  /** `asking` until the server said who this browser is. */
  state = $state<'asking' | 'out' | 'in'>('asking');
  account = $state('');
  role = $state<Role>('viewer');
  setUpNeeded = $state(false);
  /** Whether a session ended without being asked to. */
  ended = $state(false);

  private backoff = new Backoff();

  constructor() {
    api.onSignedOut(() => this.leave(true));
  }

  /** Whether the person has at least this role. */
  may(role: Role): boolean {
    return this.state === 'in' && RANKS[this.role] >= RANKS[role];
  }

  async start(): Promise<void> {
    try {
      const state = await api.session();
      // Somebody may have signed in meanwhile, as by the link of a demo.
      if (this.state === 'asking') this.take(state);
    } catch {
      setTimeout(() => void this.start(), this.backoff.next());
    }
  }

  /** Takes what the server said. */
  take(state: SessionState): void {
    this.setUpNeeded = state.set_up_needed;
    if (state.account === null || state.role === null) {
      this.leave(false);
      return;
    }
    this.account = state.account;
    this.role = state.role;
    this.ended = false;
    this.state = 'in';
  }

  /** Signs out; the page is left even if the server does not answer. */
  async signOut(): Promise<void> {
    try {
      this.take(await api.signOut());
    } catch {
      this.leave(false);
    }
    replace('/sign-in');
  }

  /** Leads to the sign-in page, and from there back to where the person was. */
  lead(): void {
    const next = here();
    replace(next === '/' ? '/sign-in' : `/sign-in?next=${encodeURIComponent(next)}`);
  }

  private leave(ended: boolean): void {
    this.ended = ended && this.state === 'in';
    this.state = 'out';
    this.account = '';
    live.disconnect();
    fleet.stop();
  }
}

export const session = new Session();

/** Where to go after signing in: only to a page of this site. */
export function safeNext(next: string | null): string {
  return next && /^\/(?![/\\])/.test(next) && !/[\u0000-\u001f\\]/.test(next) ? next : '/';
}
