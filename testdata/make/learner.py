"""Writes testdata/learner.json: what the online learner must find, by its definition in double precision.

Needs NumPy of testdata/oracles/requirements.txt. The prediction is textbook recursive least squares (Haykin, Adaptive Filter Theory, table
10.1) with the covariance itself, where the core keeps its square root; the discord compares with every
stretch of the past, where the core gives up early.

Usage: python testdata/make/learner.py [--check]
With --check it writes nothing and fails where the committed file differs.
"""

import json
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "learner.json"
ROWS = 900
WARM_UP, HOLD_LEN, HOLD_FACTOR = 40, 15, 1.1
LEVEL = dict(fast_len=3, slow_len=50, half_life=300.0, other_side=0.25)
PREDICTION = dict(block_len=3, order=4, smoothing_len=2.0, forgetting=0.995, half_life=600.0, other_side=0.5)
DISCORD = dict(block_len=2, pattern_len=6, history_len=90, half_life=400.0)


def signals():
    """A daily curve with noise that loses its shape for a while, and a level with jumps and a spike."""
    rng = np.random.default_rng(20)
    t = np.arange(ROWS)
    a = 20 + 3 * np.sin(2 * np.pi * t / 36) + rng.normal(0, 0.3, ROWS)
    a[600:640] = 20 + rng.normal(0, 0.3, 40)
    a[800:] += 6
    b = 100 + np.cumsum(rng.normal(0, 0.2, ROWS))
    b[450] -= 30
    b[700:] += 12
    return np.round(np.stack([a, b], axis=1), 3)


class Record:
    def __init__(self, half_life, other_side):
        self.fading, self.other_side, self.greatest = 0.5 ** (1 / half_life), other_side, [0.0, 0.0]
        self.known = 0

    def ratio(self, residual):
        side = 0 if residual >= 0 else 1
        reference = max(self.greatest[side], self.other_side * self.greatest[1 - side])
        if self.known < 8:
            result, self.known = 0.0, self.known + 1
        elif reference > 0:
            result = abs(residual) / reference
        else:
            result = 10.0 if residual != 0 else 0.0
        self.greatest = [g * self.fading for g in self.greatest]
        self.greatest[side] = max(self.greatest[side], abs(residual))
        return result


def running_mean(values, length):
    """The mean after each value."""
    means, mean = [], 0.0
    for count, value in enumerate(values, 1):
        mean += (value - mean) / min(count, length)
        means.append(mean)
    return np.array(means)


def level(x, fast_len, slow_len, half_life, other_side):
    fast, slow = running_mean(x, fast_len), running_mean(x, slow_len)
    before = np.concatenate([[fast[0]], slow[:-1]])
    record = Record(half_life, other_side)
    return np.array([record.ratio(r) for r in fast - before])


def spread_over_rows(ratios, block_len):
    out = np.zeros(ROWS)
    out[block_len - 1 : block_len * len(ratios) : block_len] = ratios
    return out


def blocks(x, block_len):
    count = len(x) // block_len
    return x[: count * block_len].reshape(count, block_len).mean(axis=1)


def prediction(x, block_len, order, smoothing_len, forgetting, half_life, other_side):
    v = blocks(x, block_len)
    record = Record(half_life / block_len, other_side)
    width = order + 1
    covariance, weights = 10 * np.eye(width), np.eye(width)[0]
    ratios, smoothed, size, errors = np.zeros(len(v)), 0.0, 0.0, 0
    for i in range(len(v)):
        if i < order:
            continue
        # Mean and variance of all before: fewer than 2,000 blocks.
        mean, deviation = v[:i].mean(), v[:i].std()
        inputs = np.append((v[i - order : i][::-1] - mean) / deviation, 1.0)
        error = (v[i] - mean) / deviation - weights @ inputs
        size += (abs(error) - size) / min(errors + 1, 100)
        limit = 3.0 if errors < 50 else 5 * size
        errors += 1
        gain = covariance @ inputs / (forgetting + inputs @ covariance @ inputs)
        weights = weights + gain * np.clip(error, -limit, limit)
        covariance = (covariance - np.outer(gain, inputs @ covariance)) / forgetting
        if np.trace(covariance) > 1000 * width:
            covariance *= 1000 * width / np.trace(covariance)
        smoothed += (error * deviation - smoothed) / smoothing_len
        ratios[i] = record.ratio(smoothed)
    return spread_over_rows(ratios, block_len)


def discord(x, block_len, pattern_len, history_len, half_life):
    v = blocks(x, block_len)
    record = Record(half_life / block_len, 0.0)
    ratios = np.zeros(len(v))
    for i in range(len(v)):
        known = v[max(0, i + 1 - history_len) : i + 1]
        if len(known) <= 2 * pattern_len:
            continue
        stretches = np.lib.stride_tricks.sliding_window_view(known[:-pattern_len], pattern_len)
        squares = ((stretches - known[-pattern_len:]) ** 2).mean(axis=1)
        ratios[i] = record.ratio(np.sqrt(squares.min()))
    return spread_over_rows(ratios, block_len)


def scores(ratios):
    out, held, left = np.full(ROWS, HOLD_FACTOR), 0.0, 0
    for row in range(WARM_UP, ROWS):
        if left > 0:
            left -= 1
        else:
            held = 0.0
        if ratios[row] > held * HOLD_FACTOR:
            held, left = ratios[row], HOLD_LEN
            out[row] = held
        else:
            out[row] = min(ratios[row], 1.0)
    return out


def main():
    rows = signals()
    experts = [(level, LEVEL), (prediction, PREDICTION), (discord, DISCORD)]
    each = [np.max([find(x, **settings) for x in rows.T], axis=0) for find, settings in experts]
    golden = {
        "rows": rows.tolist(),
        "expert_scores": [np.round(scores(ratios), 5).tolist() for ratios in each],
        "scores": np.round(scores(np.max(each, axis=0)), 5).tolist(),
    }
    text = json.dumps(golden, separators=(",", ":")) + "\n"
    if "--check" in sys.argv[1:]:
        if text != TARGET.read_text():
            sys.exit(f"{TARGET} differs")
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
