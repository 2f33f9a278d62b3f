// Runs before the first paint, so that a stored theme does not flash in the other one.
try {
  const theme = localStorage.getItem('stonechat-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off; the system's preference applies.
}
