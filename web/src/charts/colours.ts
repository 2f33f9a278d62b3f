/** The style sheet's colours for the canvas, which cannot read custom properties itself. */

export type ColourName = 'signal' | 'reconstruction' | 'score' | 'threshold' | 'shade' | 'marker' | 'fault' | 'grid' | 'axis' | 'surface';

export type Colours = Record<ColourName, string>;

const NAMES: ColourName[] = ['signal', 'reconstruction', 'score', 'threshold', 'shade', 'marker', 'fault', 'grid', 'axis', 'surface'];

/** Reads `--chart-NAME` for the current theme; a property's own text would still hold `light-dark()`. */
export function readColours(host: HTMLElement): Colours {
  const probe = document.createElement('span');
  probe.hidden = true;
  host.append(probe);
  const colours = Object.fromEntries(
    NAMES.map((name) => {
      probe.style.color = `var(--chart-${name})`;
      return [name, getComputedStyle(probe).color];
    }),
  );
  probe.remove();
  return colours as Colours;
}
