"""Writes testdata/recurrent.json: what recurrent networks give for streams of vectors, in NumPy and double precision.

The cells are written as PyTorch's documentation of nn.LSTM and nn.GRU has them (gates i, f, g, o and r, z, n; the reset
gate after the product). Needs the packages of testdata/oracles/requirements.txt.

Usage: python testdata/make/recurrent.py [--check]
With --check it writes nothing and fails where the committed file differs by more than rounding.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "recurrent.json"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numbers(source, *shape, spread=0.9):
    count = int(np.prod(shape))
    return np.array([round(source.uniform(-spread, spread), 3) for _ in range(count)]).reshape(shape)


def make_layer(source, cell, inputs, units):
    rows = {"lstm": 4, "gru": 3}[cell] * units
    return {
        "inputs": inputs,
        "units": units,
        "input_weights": numbers(source, rows, inputs),
        "recurrent_weights": numbers(source, rows, units),
        "input_bias": numbers(source, rows),
        "recurrent_bias": numbers(source, rows) if cell == "gru" else np.zeros(0),
    }


class Stack:
    def __init__(self, cell, layers):
        self.cell, self.layers = cell, layers
        self.h = [np.zeros(layer["units"]) for layer in layers]
        self.c = [np.zeros(layer["units"]) for layer in layers]

    def step(self, x):
        for k, layer in enumerate(self.layers):
            of_input = layer["input_weights"] @ x + layer["input_bias"]
            of_state = layer["recurrent_weights"] @ self.h[k]
            if self.cell == "lstm":
                i, f, g, o = np.split(of_input + of_state, 4)
                self.c[k] = sigmoid(f) * self.c[k] + sigmoid(i) * np.tanh(g)
                self.h[k] = sigmoid(o) * np.tanh(self.c[k])
            else:
                ri, zi, ni = np.split(of_input, 3)
                rh, zh, nh = np.split(of_state + layer["recurrent_bias"], 3)
                r, z = sigmoid(ri + rh), sigmoid(zi + zh)
                n = np.tanh(ni + r * nh)
                self.h[k] = (1 - z) * n + z * self.h[k]
            x = self.h[k]
        return x


def reconstruct(case, window):
    encoder = Stack(case["cell"], case["encoder"])
    for vector in window:
        code = encoder.step(vector)
    decoder = Stack(case["cell"], case["decoder"])
    return np.array([case["output_weights"] @ decoder.step(code) + case["output_bias"] for _ in window])


def staggered(case, stream):
    steps, hop, verdicts = case["steps"], case["hop"], []
    for first in range(0, len(stream) - 2 * steps + 1, hop):
        window = stream[first : first + steps]
        output = reconstruct(case, window)
        residuals = np.sqrt(np.mean((window - output) ** 2, axis=0))
        # The decoder's last step runs with the last vector of the window behind.
        verdicts.append((first + 2 * steps - 1, residuals, output[-1], window[-1]))
    return verdicts


def stateful(case, stream):
    stack, forecasts, verdicts = Stack(case["cell"], case["encoder"]), [np.zeros(stream.shape[1])], []
    for vector in stream:
        forecasts.append(case["output_weights"] @ stack.step(vector) + case["output_bias"])
    missed = stream - np.array(forecasts[:-1])
    for end in range(case["steps"] + case["hop"], len(stream) + 1, case["hop"]):
        residuals = np.sqrt(np.mean(missed[end - case["hop"] : end] ** 2, axis=0))
        verdicts.append((end - 1, residuals, forecasts[end - 1], stream[end - 1]))
    return verdicts


def make_case(seed, form, cell, width, encoder, decoder, steps, hop):
    source = random.Random(seed)
    case = {"form": form, "cell": cell, "steps": steps, "hop": hop}
    below = width
    for name, units in (("encoder", encoder), ("decoder", decoder)):
        case[name] = []
        for count in units:
            case[name].append(make_layer(source, cell, below, count))
            below = count
    case["output_weights"] = numbers(source, width, below)
    case["output_bias"] = numbers(source, width)
    stream = numbers(source, 5 * steps, width, spread=2.5)
    case["stream"] = stream
    verdicts = {"staggered": staggered, "stateful": stateful}[form](case, stream)
    case["verdicts"] = [
        {"at": at, "residuals": residuals, "reconstruction": reconstruction, "source": source}
        for at, residuals, reconstruction, source in verdicts
    ]
    return case


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [round(float(x), 12) for x in value.ravel()]
    return value


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return abs(a - b) < 1e-9 if isinstance(a, float) else a == b


def main():
    cases = [
        make_case(1, "staggered", "lstm", 3, [5, 4], [4, 5], 6, 6),
        make_case(2, "staggered", "gru", 2, [6], [3], 6, 2),
        make_case(3, "staggered", "lstm", 1, [1], [2], 4, 1),
        make_case(4, "stateful", "lstm", 3, [5], [], 5, 3),
        make_case(5, "stateful", "gru", 2, [3, 2], [], 3, 4),
    ]
    found = plain(cases)
    if "--check" in sys.argv:
        if not close(json.loads(TARGET.read_text()), found):
            sys.exit("testdata/recurrent.json differs from what this script computes")
        return
    TARGET.write_text(json.dumps(found, separators=(",", ":")).replace('{"form"', '\n{"form"') + "\n")


if __name__ == "__main__":
    main()
