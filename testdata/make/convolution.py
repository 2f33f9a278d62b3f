"""Writes testdata/convolution.json: what small convolutional autoencoders make of some rows.

Computed with NumPy in double precision straight from the definition: each layer repeats its input,
pads it as TensorFlow's SAME does, and correlates it with its kernels. Rows are [channels][length].

Needs NumPy as in testdata/oracles/requirements.txt.

Usage: python testdata/make/convolution.py [--check]
With --check it writes nothing and fails where the committed file differs.
"""

import json
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "convolution.json"
DIGITS = 9


def layer_shapes(channels, length, filters):
    """Channels, filters, stride, repetitions and length after repetition of each layer."""
    shapes, lengths = [], []
    for count in filters:
        shapes.append((channels, count, 2, 1, length))
        lengths.append((channels, length))
        channels, length = count, -(-length // 2)
    for count, length in reversed(lengths):
        shapes.append((channels, count, 1, 2, length))
        channels = count
    return shapes


def convolve(x, weights, bias, stride, repeat, length):
    """x is [length][channels], weights are [filters][width][channels]."""
    width = weights.shape[1]
    x = np.repeat(x, repeat, axis=0)[:length]
    outputs = -(-length // stride)
    lack = max((outputs - 1) * stride + width - length, 0)
    x = np.pad(x, ((lack // 2, lack - lack // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, width, axis=0)[::stride][:outputs]
    return np.einsum("pcw,fwc->pf", windows, weights) + bias


def case(seed, channels, length, filters, width):
    draw = np.random.default_rng(seed)
    rows = np.round(draw.normal(size=(4, channels, length)), 4).astype(np.float32)
    shapes = layer_shapes(channels, length, filters)
    layers = []
    for index, (inputs, outputs, stride, repeat, _) in enumerate(shapes):
        scale = np.sqrt(2 / (inputs * width))
        weights = np.round(scale * draw.normal(size=(outputs, width, inputs)), 4).astype(np.float32)
        bias = np.round(0.1 * draw.normal(size=outputs), 4).astype(np.float32)
        layers.append((weights, bias, stride, repeat, shapes[index][4]))
    reconstructions = []
    for row in rows:
        x = row.T.astype(np.float64)
        for index, (weights, bias, stride, repeat, kept) in enumerate(layers):
            x = convolve(x, weights.astype(np.float64), bias, stride, repeat, kept)
            if index + 1 < len(layers):
                x = np.maximum(x, 0)
        reconstructions.append(np.round(x.T.ravel(), DIGITS).tolist())

    def numbers(array):
        return [float(str(value)) for value in array.ravel()]

    return {
        "channels": channels,
        "length": length,
        "filters": filters,
        "kernel_width": width,
        "weights": [numbers(weights) for weights, *_ in layers],
        "biases": [numbers(layer[1]) for layer in layers],
        "rows": [numbers(row) for row in rows],
        "reconstructions": reconstructions,
    }


def main():
    cases = [
        case(1, 1, 16, [4], 3),
        case(2, 3, 13, [5, 3], 5),
        case(3, 2, 10, [3], 4),
        case(4, 1, 9, [4, 3, 2], 7),
        case(5, 6, 4, [9], 1),
    ]
    text = json.dumps(cases, separators=(",", ":")).replace('},{"channels"', '},\n{"channels"') + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if text == TARGET.read_text(encoding="utf-8"):
        return 0
    print(f"{TARGET} differs from what this script computes")
    return 1


if __name__ == "__main__":
    sys.exit(main())
