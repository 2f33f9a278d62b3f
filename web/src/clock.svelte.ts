/** The server's time, once a second, for everything that says how long ago something was. */

import { serverNow } from './api';

class Clock {
  now = $state(serverNow());

  constructor() {
    setInterval(() => (this.now = serverNow()), 1000);
  }
}

export const clock = new Clock();
