/** The colour theme: the system's preference, or the other one when a person chose it. */

export type Theme = 'light' | 'dark';

const KEY = 'stonechat-theme';
const systemDark = window.matchMedia('(prefers-color-scheme: dark)');

function chosen(): Theme | null {
  const value = document.documentElement.dataset.theme;
  return value === 'light' || value === 'dark' ? value : null;
}

function systemTheme(): Theme {
  return systemDark.matches ? 'dark' : 'light';
}

class ThemeSetting {
  current = $state<Theme>(chosen() ?? systemTheme());

  constructor() {
    systemDark.addEventListener('change', () => {
      this.current = chosen() ?? systemTheme();
    });
  }

  toggle(): void {
    this.current = this.current === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = this.current;
    try {
      localStorage.setItem(KEY, this.current);
    } catch {
      // Storage is switched off; the choice lasts until the page is left.
    }
  }
}

export const theme = new ThemeSetting();
