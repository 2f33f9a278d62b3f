/** How a chart over time is drawn with uPlot. */

import uPlot from 'uplot';
import { axisTimes } from '../format';
import type { ColourName, Colours } from './colours';
import type { Interval, Track } from './track';

/** One line of a chart. */
export interface Line {
  label: string;
  colour: ColourName;
  dashed?: boolean;
  track: Track;
}

/** What the drawing hooks ask the chart for at each redraw. */
export interface ChartState {
  lines: Line[];
  colours: Colours;
  window: Interval;
  intervals: Interval[];
  /** Numbers of rejected samples. */
  faults: Track | null;
  marker: number | null;
  /** From this value on the scale is compressed; null for an even scale. */
  bend: number | null;
  fromZero: boolean;
}

export interface ChartEvents {
  cursor(index: number | null): void;
  select(from: number, to: number): void;
}

const FONT = '12px system-ui, sans-serif';
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** Steps of the time axis. */
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((step) => step * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((step) => step * MINUTE),
  ...[1, 2, 3, 6, 12, 24, 48, 168, 672].map((step) => step * HOUR),
];
/** Drags shorter than this many pixels are clicks. */
const DRAG_SHORTEST = 6;
/** Least distance of two ticks of a bent scale, in pixels. */
const BENT_TICK_SPACE = 26;
/** A line with fewer points than this shows each of them. */
const DOTTED_BELOW = 45;

/** The index of the defined value nearest to `index`: lines of one chart need not share their times. */
export function nearestDefined(values: ArrayLike<number | null | undefined>, index: number, reach = 24): number | null {
  for (let step = 0; step <= reach; step++) {
    if (typeof values[index - step] === 'number') return index - step;
    if (typeof values[index + step] === 'number') return index + step;
  }
  return null;
}

function valueRange(state: ChartState, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  if (state.fromZero) return [Math.min(0, min), max <= 0 ? 1 : max * (state.bend === null ? 1.12 : 1.4)];
  const span = max - min || Math.abs(max) * 0.1 || 1;
  return [min - span * 0.12, max + span * 0.12];
}

function shadeIntervals(u: uPlot, state: ChartState): void {
  const { ctx, bbox } = u;
  const [from, to] = state.window;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = state.colours.shade;
  for (const [start, end] of state.intervals) {
    if (end < from || start > to) continue;
    const left = u.valToPos(Math.max(start, from), 'x', true);
    const right = u.valToPos(Math.min(end, to), 'x', true);
    ctx.fillRect(left, bbox.top, Math.max(right - left, 2 * devicePixelRatio), bbox.height);
  }
  ctx.restore();
}

/** A tick at the bottom for each message that told of rejected samples. */
function drawFaults(u: uPlot, { faults, window, colours }: ChartState): void {
  if (!faults) return;
  const { ctx, bbox } = u;
  const width = 2 * devicePixelRatio;
  const height = 8 * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = colours.fault;
  for (let i = faults.indexFrom(window[0]); i < faults.length && faults.times[i]! <= window[1]; i++) {
    if (faults.values[i]! <= 0) continue;
    const x = u.valToPos(faults.times[i]!, 'x', true);
    ctx.fillRect(x - width / 2, bbox.top + bbox.height - height, width, height);
  }
  ctx.restore();
}

function drawMarker(u: uPlot, state: ChartState): void {
  const { marker, window } = state;
  if (marker === null || marker < window[0] || marker > window[1]) return;
  const { ctx, bbox } = u;
  const x = Math.round(u.valToPos(marker, 'x', true));
  const size = 5 * devicePixelRatio;
  ctx.save();
  ctx.setLineDash([]);
  ctx.strokeStyle = ctx.fillStyle = state.colours.marker;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(x - size, bbox.top);
  ctx.lineTo(x + size, bbox.top);
  ctx.lineTo(x, bbox.top + 1.6 * size);
  ctx.fill();
  ctx.restore();
}

/** Where a value stands on a bent scale: in proportion below the bend, by its logarithm above. */
function bentHeight(value: number, bend: number): number {
  return Math.asinh(value / bend);
}

/** Round values on a bent scale, as many as have room. */
function bentTicks(u: uPlot, bend: number, min: number, max: number): number[] {
  const pixels = u.bbox ? u.bbox.height / devicePixelRatio : 150;
  const span = bentHeight(max, bend) - bentHeight(min, bend);
  const ticks = min <= 0 ? [0] : [];
  for (let power = Math.floor(Math.log10(bend)) - 1; 10 ** power <= max; power++) {
    for (const tick of [1, 2, 5].map((factor) => factor * 10 ** power)) {
      const last = ticks[ticks.length - 1];
      const room = last === undefined ? Infinity : ((bentHeight(tick, bend) - bentHeight(last, bend)) / span) * pixels;
      if (tick >= min && tick <= max && room >= BENT_TICK_SPACE) ticks.push(tick);
    }
  }
  return ticks.length > 0 ? ticks : [min];
}

function axes(unit: string, state: () => ChartState): uPlot.Axis[] {
  const stroke = () => state().colours.axis;
  const grid = { stroke: () => state().colours.grid, width: 1 };
  const ticks = { show: false };
  return [
    {
      stroke,
      grid,
      ticks,
      font: FONT,
      size: (_u, values) => (values?.some((text) => text?.includes("\n")) ? 42 : 30),
      gap: 8,
      space: 80,
      incrs: TIME_STEPS,
      values: (_u, splits, _axis, _space, step) => axisTimes(splits, step),
    },
    {
      stroke,
      grid,
      ticks,
      font: FONT,
      labelFont: FONT,
      label: unit,
      labelSize: 18,
      labelGap: 0,
      space: 30,
      gap: 6,
      size: (_u, values) => 14 + 7 * Math.max(4, ...(values ?? []).map((text) => text.length)),
      splits: (u, _axis, min, max, step) => {
        const { bend } = state();
        if (bend !== null) return bentTicks(u, bend, min, max);
        const first = Math.ceil(min / step) * step;
        const count = Math.floor((max - first) / step + 1e-9);
        return Array.from({ length: count + 1 }, (_, i) => first + i * step);
      },
      // uPlot's own filter for such scales drops labels; these ticks have room for theirs.
      filter: (_u, splits) => splits,
      values: (_u, splits) => axisValues(splits),
    },
  ];
}

/** Labels with as many decimals as tell the ticks apart. */
function axisValues(splits: number[]): string[] {
  const step = splits.length > 1 ? Math.abs(splits[1]! - splits[0]!) : 1;
  const even = splits.every((tick, i) => i === 0 || Math.abs(tick - splits[i - 1]! - step) < step * 1e-6);
  if (!even || step >= 1e6 || step < 1e-5) return splits.map((tick) => String(Number(tick.toPrecision(3))).replace('-', '−'));
  let decimals = 0;
  while (decimals < 6 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals += 1;
  return splits.map((tick) => tick.toFixed(decimals).replace('-', '−'));
}

/** Options of a chart of `lines` whose changing parts are read through `state` at each redraw. */
export function chartOptions(
  size: { width: number; height: number },
  unit: string,
  syncKey: string,
  state: () => ChartState,
  events: ChartEvents,
): uPlot.Options {
  return {
    ...size,
    ms: 1,
    padding: [10, 12, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      sync: { key: syncKey, setSeries: false, scales: ['x', null] },
      dataIdx: (u, series, index) => (series === 0 ? index : nearestDefined(u.data[series] ?? [], index)),
      points: { size: 8, width: 2, stroke: () => state().colours.surface },
    },
    scales: {
      x: { time: true, auto: false, range: () => state().window },
      y: {
        distr: state().bend === null ? 1 : 4,
        asinh: state().bend ?? 1,
        range: (_u, min, max) => valueRange(state(), min, max),
      },
    },
    axes: axes(unit, state),
    series: [
      {},
      ...state().lines.map(
        (line): uPlot.Series => ({
          label: line.label,
          stroke: () => state().colours[line.colour],
          width: line.colour === 'reconstruction' || line.dashed ? 1.4 : 1.75,
          dash: line.dashed ? [6, 4] : undefined,
          points: {
            size: 5,
            show: (_u, _series, from, to) => !line.dashed && to - from < DOTTED_BELOW,
          },
        }),
      ),
    ],
    hooks: {
      drawClear: [(u) => shadeIntervals(u, state())],
      draw: [(u) => drawFaults(u, state()), (u) => drawMarker(u, state())],
      setCursor: [(u) => events.cursor(u.cursor.idx ?? null)],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < DRAG_SHORTEST) return;
          events.select(u.posToVal(left, 'x'), u.posToVal(left + width, 'x'));
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}
