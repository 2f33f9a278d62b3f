"""Times PyTorch on the fit of benches/recurrent.rs: same windows, same first weights, same order.

usage: bench_recurrent.py ROWS.f32 WEIGHTS.f32 lstm|gru WINDOWS STEPS AXES EPOCHS BATCH SEED UNITS...

UNITS are the encoder's layers; the decoder mirrors them. WEIGHTS holds of each layer input weights,
recurrent weights, input biases and, of a GRU, recurrent biases; then the output's weights and
biases. Prints one JSON object: the seconds of each run of the fastest setting and the training
loss of each epoch.

PyTorch runs on one thread with fused Adam, one gather an epoch, and no transfer of the loss out
of PyTorch before the epoch's end; whether batches are laid out time-major or batch-major, and
whether oneDNN may run the layers, is tried, and the fastest counts. PyTorch's cells have a second
bias that adds to the first; it is held at zero, so that both fits have the same parameters.
"""

import itertools
import json
import sys
import time
import warnings

import numpy as np
import torch

MASK = (1 << 64) - 1
RUNS = 5


class Random:
    """PCG-XSH-RR 64/32, as crates/train/src/random.rs."""

    def __init__(self, seed, stream):
        self.state = 0
        self.increment = (stream << 1) | 1
        self.next()
        self.state = (self.state + seed) & MASK
        self.next()

    def next(self):
        old = self.state
        self.state = (old * 6364136223846793005 + self.increment) & MASK
        mixed = (((old >> 18) ^ old) >> 27) & 0xFFFFFFFF
        turn = old >> 59
        return ((mixed >> turn) | (mixed << (32 - turn))) & 0xFFFFFFFF

    def below(self, bound):
        return (self.next() * bound) >> 32

    def shuffle(self, order):
        for index in range(1, len(order)):
            other = self.below(index + 1)
            order[index], order[other] = order[other], order[index]


class Autoencoder(torch.nn.Module):
    def __init__(self, cell, axes, units, batch_first):
        super().__init__()
        layer = torch.nn.LSTM if cell == "lstm" else torch.nn.GRU
        mirrored = units[::-1]

        def stack(inputs, widths):
            pairs = zip([inputs, *widths], widths)
            return torch.nn.ModuleList(layer(a, b, batch_first=batch_first) for a, b in pairs)

        self.time = 1 if batch_first else 0
        self.encoder = stack(axes, units)
        self.decoder = stack(units[-1], mirrored)
        self.output = torch.nn.Linear(mirrored[-1], axes)

    def forward(self, x):
        steps = x.shape[self.time]
        for layer in self.encoder:
            x, _ = layer(x)
        code = x.select(self.time, steps - 1).unsqueeze(self.time)
        shape = [-1, -1, -1]
        shape[self.time] = steps
        x = code.expand(shape)
        for layer in self.decoder:
            x, _ = layer(x)
        return self.output(x)


def build(cell, axes, units, batch_first, weights):
    model = Autoencoder(cell, axes, units, batch_first)
    values = torch.from_numpy(weights)
    at = 0

    def take(tensor):
        nonlocal at
        size = tensor.numel()
        tensor.copy_(values[at : at + size].reshape(tensor.shape))
        at += size

    with torch.no_grad():
        for layer in [*model.encoder, *model.decoder]:
            take(layer.weight_ih_l0)
            take(layer.weight_hh_l0)
            take(layer.bias_ih_l0)
            if cell == "gru":
                take(layer.bias_hh_l0)
            else:
                layer.bias_hh_l0.zero_()
        take(model.output.weight)
        take(model.output.bias)
    assert at == len(values), (at, len(values))
    for layer in [*model.encoder, *model.decoder]:
        hold_second_bias(cell, layer)
    return model


def hold_second_bias(cell, layer):
    """Keeps the bias that only adds to another at zero, by its gradient."""
    if cell == "lstm":
        layer.bias_hh_l0.requires_grad_(False)
        return
    # Of a GRU the candidate's part is a parameter of its own; the hook is cheap beside the layer.
    mask = torch.ones_like(layer.bias_hh_l0)
    mask[: 2 * layer.hidden_size] = 0
    layer.bias_hh_l0.register_hook(lambda gradient: gradient * mask)


def fit(model, windows, orders, batch):
    time_dim = model.time
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    loss_of = torch.nn.MSELoss()
    losses = []
    start = time.perf_counter()
    for order in orders:
        shuffled = windows.index_select(1 - time_dim, order)
        total = torch.zeros(())
        for chunk in shuffled.split(batch, dim=1 - time_dim):
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(model(chunk), chunk)
            loss.backward()
            optimiser.step()
            total += loss.detach() * chunk.shape[1 - time_dim]
        losses.append(total)
    seconds = time.perf_counter() - start
    return seconds, [float(total) / len(orders[0]) for total in losses]


def main():
    rows_path, weights_path, cell, *numbers = sys.argv[1:]
    count, steps, axes, epochs, batch, seed, *units = (int(number) for number in numbers)
    torch.set_num_threads(1)
    windows = torch.from_numpy(np.fromfile(rows_path, "<f4").reshape(count, steps, axes))
    weights = np.fromfile(weights_path, "<f4")
    random = Random(seed, 1)
    order = list(range(count))
    orders = []
    for _ in range(epochs):
        random.shuffle(order)
        orders.append(torch.tensor(order))
    def run(setting):
        batch_first, onednn = setting
        laid_out = windows if batch_first else windows.transpose(0, 1).contiguous()
        with warnings.catch_warnings():
            # Switching oneDNN warns of GPUs that nobody asked for.
            warnings.simplefilter("ignore")
            with torch.backends.mkldnn.flags(enabled=onednn):
                return fit(build(cell, axes, units, batch_first, weights), laid_out, orders, batch)

    # The first run of each setting warms up and does not count.
    settings = list(itertools.product([False, True], [True, False]))
    tried = [min(run(setting)[0] for _ in range(2)) for setting in settings]
    fastest = settings[tried.index(min(tried))]
    layout = "batch-major" if fastest[0] else "time-major"
    setting = f"fused Adam, {layout}, oneDNN {'on' if fastest[1] else 'off'}"
    runs = [run(fastest) for _ in range(RUNS)]
    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "setting": setting,
                "seconds": [each[0] for each in runs],
                "losses": runs[0][1],
            }
        )
    )


if __name__ == "__main__":
    main()
