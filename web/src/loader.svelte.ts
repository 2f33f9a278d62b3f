/** One value from the server, with its loading and error states and retries that back off. */

import { ApiError } from './api';
import { Backoff } from './backoff';

export class Loader<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(false);

  private abort: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private backoff = new Backoff();
  private load: ((signal: AbortSignal) => Promise<T>) | null = null;

  /** Starts loading; an answer to an earlier call that is still on its way is dropped. */
  run(load: (signal: AbortSignal) => Promise<T>): void {
    this.load = load;
    this.backoff.reset();
    void this.again();
  }

  /** Loads the same once more. */
  async again(): Promise<void> {
    if (!this.load) return;
    clearTimeout(this.timer);
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.loading = true;
    try {
      const value = await this.load(abort.signal);
      if (abort.signal.aborted) return;
      this.value = value;
      this.error = null;
      this.backoff.reset();
    } catch (cause) {
      if (abort.signal.aborted) return;
      this.error = cause instanceof ApiError ? cause : new ApiError(-1, `The answer could not be read: ${cause}`);
      if (this.error.temporary) this.timer = setTimeout(() => void this.again(), this.backoff.next());
    } finally {
      if (this.abort === abort) this.loading = false;
    }
  }

  stop(): void {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.load = null;
  }
}
