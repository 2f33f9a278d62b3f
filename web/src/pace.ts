/** Brings many calls down to a steady pace. */

/**
 * Runs `action` at most once in `interval` milliseconds, and once more after the last call,
 * in step with the display, so that a hidden page does no work.
 */
export function paced(action: () => void, interval: number): { call: () => void; stop: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let frame = 0;
  let last = -Infinity;
  const run = () => {
    frame = 0;
    last = performance.now();
    action();
  };
  const call = () => {
    if (timer !== undefined || frame !== 0) return;
    const wait = Math.max(0, last + interval - performance.now());
    timer = setTimeout(() => {
      timer = undefined;
      frame = requestAnimationFrame(run);
    }, wait);
  };
  const stop = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    timer = undefined;
    frame = 0;
  };
  return { call, stop };
}
