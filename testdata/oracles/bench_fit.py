"""Times PyTorch on the fit of benches/fit.rs: same rows, same first weights, same order.

usage: bench_fit.py ROWS.f32 COUNT EPOCHS BATCH SEED WIDTH...

Prints one JSON object: the seconds of each run and the training loss of the last epoch. PyTorch
runs in the way that is fastest at this size: one thread, fused Adam, one gather an epoch, and no
transfer of the loss out of PyTorch before the epoch's end.
"""

import json
import sys
import time

import numpy as np
import torch

MASK = (1 << 64) - 1
RUNS = 3


class Random:
    """xoshiro256** seeded through SplitMix64, as crates/train/src/fit/random.rs."""

    def __init__(self, seed):
        self.state = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & MASK
            z = seed
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
            self.state.append(z ^ (z >> 31))

    @staticmethod
    def _left(x, by):
        return ((x << by) | (x >> (64 - by))) & MASK

    def next(self):
        a, b, c, d = self.state
        result = (self._left((b * 5) & MASK, 7) * 9) & MASK
        shifted = (b << 17) & MASK
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        self.state = [a, b, c, self._left(d, 45)]
        return result

    def below(self, end):
        threshold = ((1 << 32) - end) % end
        while True:
            product = (self.next() >> 32) * end
            if product & 0xFFFFFFFF >= threshold:
                return product >> 32

    def symmetric(self):
        return np.float32(self.next() >> 40) * np.float32(1 / 8388608) - np.float32(1)

    def shuffle(self, order):
        for index in range(len(order) - 1, 0, -1):
            other = self.below(index + 1)
            order[index], order[other] = order[other], order[index]


def first_weights(widths, random):
    weights = []
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        last = index + 2 == len(widths)
        fan = inputs + outputs if last else inputs
        bound = np.sqrt(np.float32(6) / np.float32(fan))
        drawn = [bound * random.symmetric() for _ in range(inputs * outputs)]
        # Drawn input by input; PyTorch holds [outputs][inputs].
        weights.append(np.array(drawn, np.float32).reshape(inputs, outputs).T.copy())
    return weights


def build(widths, weights):
    layers = []
    for inputs, outputs, weight in zip(widths, widths[1:], weights):
        layer = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def fit(model, rows, orders, batch):
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    loss_of = torch.nn.MSELoss()
    start = time.perf_counter()
    for order in orders:
        shuffled = rows[order]
        total = torch.zeros(())
        for chunk in shuffled.split(batch):
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(model(chunk), chunk)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(chunk)
    seconds = time.perf_counter() - start
    return seconds, float(total) / len(rows)


def main():
    path, count, epochs, batch, seed, *widths = sys.argv[1:]
    count, epochs, batch, seed = int(count), int(epochs), int(batch), int(seed)
    widths = [int(width) for width in widths]
    torch.set_num_threads(1)
    rows = torch.from_numpy(np.fromfile(path, "<f4").reshape(count, widths[0]))
    random = Random(seed)
    weights = first_weights(widths, random)
    order = list(range(count))
    orders = []
    for _ in range(epochs):
        random.shuffle(order)
        orders.append(torch.tensor(order))
    # The first run warms up and does not count.
    runs = [fit(build(widths, weights), rows, orders, batch) for _ in range(RUNS + 1)][1:]
    seconds = [run[0] for run in runs]
    print(json.dumps({"torch": torch.__version__, "seconds": seconds, "loss": runs[0][1]}))


if __name__ == "__main__":
    main()
