"""Times PyTorch on the fit of benches/fit.rs: same rows, same first weights, same order.

usage: bench_fit.py ROWS.f32 COUNT EPOCHS BATCH SEED WIDTH...

Prints one JSON object: the seconds of each run and the training loss of each epoch. PyTorch
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
    """PCG-XSH-RR 64/32, as crates/train/src/random.rs."""

    def __init__(self, seed):
        self.state = 0
        self.next()
        self.state = (self.state + seed) & MASK
        self.next()

    def next(self):
        old = self.state
        self.state = (old * 6364136223846793005 + 1) & MASK
        mixed = (((old >> 18) ^ old) >> 27) & 0xFFFFFFFF
        turn = old >> 59
        return ((mixed >> turn) | (mixed << (32 - turn))) & 0xFFFFFFFF

    def below(self, bound):
        return (self.next() * bound) >> 32

    def symmetric(self):
        return np.float32(self.next() >> 8) / np.float32(8388608) - np.float32(1)

    def shuffle(self, order):
        for index in range(1, len(order)):
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
    losses = []
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
        losses.append(total)
    seconds = time.perf_counter() - start
    return seconds, [float(total) / len(rows) for total in losses]


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
    print(json.dumps({"torch": torch.__version__, "seconds": seconds, "losses": runs[0][1]}))


if __name__ == "__main__":
    main()
