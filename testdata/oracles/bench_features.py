"""Times NumPy and SciPy on a feature of benches/features.rs, vectorised over all windows.

usage: bench_features.py SAMPLES.f32 WINDOW_LEN RATE_HZ SPELLING

Prints one JSON object: the shortest time in seconds and the mean of the results. Everything stays in
single precision, transforms are SciPy's (which vectorise over windows in single precision), and what
does not depend on the samples (tapers, mel filters) is made beforehand.
"""

import json
import sys
import time

import numpy as np
import scipy
import scipy.fft

RUNS = 80


def centred(x):
    return x - x.mean(axis=1, keepdims=True)


def hann(length):
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def fft_len(length):
    return max(8, 1 << (length - 1).bit_length())


def power_of(spectrum):
    return spectrum.real**2 + spectrum.imag**2


def power(x, taper):
    return power_of(scipy.fft.rfft(centred(x) * taper, fft_len(x.shape[1]), axis=1))


def skewness(x):
    d = centred(x)
    square = d * d
    return (square * d).mean(axis=1) / square.mean(axis=1) ** 1.5


def kurtosis(x):
    d = centred(x)
    square = d * d
    return (square * square).mean(axis=1) / square.mean(axis=1) ** 2 - 3


def crest_factor(x):
    d = centred(x)
    return np.abs(d).max(axis=1) / np.sqrt((d * d).mean(axis=1))


def slope(x, rate):
    place = (np.arange(x.shape[1]) - (x.shape[1] - 1) / 2).astype(np.float32)
    place /= np.float32((place.astype(np.float64) ** 2).sum() / rate)
    return lambda: (x - x.mean(axis=1, keepdims=True)) @ place


def crossing_rate(x, rate):
    below = x < x.mean(axis=1, keepdims=True)
    return np.count_nonzero(below[:, 1:] != below[:, :-1], axis=1) * (rate / (x.shape[1] - 1))


def median_abs_deviation(x):
    middle = np.median(x, axis=1, keepdims=True)
    return np.median(np.abs(x - middle), axis=1)


def autocorrelation_peak(x):
    points = fft_len(x.shape[1] + x.shape[1] // 2)
    r = scipy.fft.irfft(power_of(scipy.fft.rfft(centred(x), points, axis=1)), points, axis=1)
    r = r[:, : x.shape[1] // 2 + 1]
    fallen = np.logical_or.accumulate(r <= 0, axis=1)
    return np.maximum(np.where(fallen, r, 0).max(axis=1), 0) / r[:, 0]


def band_energy(x, count):
    taper = hann(x.shape[1])
    half = fft_len(x.shape[1]) // 2
    edges = [(half + 1) * band // count for band in range(count)]
    scale = np.float32(2 / (2 * half * (taper.astype(np.float64) ** 2).sum()))

    def run():
        p = power(x, taper)
        p[:, 0] *= 0.5
        p[:, -1] *= 0.5
        return np.add.reduceat(p, edges, axis=1) * scale

    return run


def spectral(x, rate, name):
    taper = hann(x.shape[1])
    frequency = (np.arange(1, fft_len(x.shape[1]) // 2 + 1) * (rate / fft_len(x.shape[1]))).astype(np.float32)
    step = frequency[0]

    def centroid():
        p = power(x, taper)[:, 1:]
        return (p @ frequency) / p.sum(axis=1)

    def rolloff():
        total = np.cumsum(power(x, taper)[:, 1:], axis=1)
        return frequency[(total >= np.float32(0.85) * total[:, -1:]).argmax(axis=1)]

    def flatness():
        p = np.maximum(power(x, taper)[:, 1:], np.float32(1e-10))
        return np.exp(np.log(p).mean(axis=1)) / p.mean(axis=1)

    def dominant():
        p = power(x, taper)
        top = 1 + p[:, 1:].argmax(axis=1)
        rows = np.arange(len(p))
        a, b, c = (np.log(p[rows, np.minimum(top + k, p.shape[1] - 1)]) for k in (-1, 0, 1))
        return (top + 0.5 * (a - c) / (a - 2 * b + c)) * step

    return {"spectral_centroid": centroid, "spectral_rolloff": rolloff, "spectral_flatness": flatness, "dominant_frequency": dominant}[name]


def envelope_band_energy(x, count):
    points = fft_len(x.shape[1])
    half = points // 2
    taper = hann(half)
    edges = [(half // 2 + 1) * band // count for band in range(count)]
    scale = np.float32(2 / (half * (taper.astype(np.float64) ** 2).sum()))

    def run():
        spectrum = scipy.fft.rfft(centred(x), points, axis=1)[:, :half]
        spectrum[:, 0] = 0
        squared = power_of(scipy.fft.ifft(spectrum, axis=1))
        p = power_of(scipy.fft.rfft((squared / squared.mean(axis=1, keepdims=True) - 1) * taper, axis=1))
        p[:, 0] *= 0.5
        p[:, -1] *= 0.5
        return np.add.reduceat(p, edges, axis=1) * scale

    return run


def mel(x, rate, coefficients, bands, frame, hop):
    import librosa

    taper = hann(frame)
    filters = librosa.filters.mel(sr=rate, n_fft=frame, n_mels=bands, fmax=rate / 2).T.astype(np.float32)
    offset = np.float32(sys.float_info.epsilon)

    def run():
        frames = np.lib.stride_tricks.sliding_window_view(x, frame, axis=1)[:, ::hop]
        log_mel = 10 * np.log10(power_of(scipy.fft.rfft(frames * taper, axis=2)) @ filters + offset)
        return scipy.fft.dct(log_mel, axis=2, norm="ortho")[:, :, :coefficients] if coefficients else log_mel

    return run


def fundamental(x, rate):
    """The strongest bin of the first 4,096 points from 45 to 65 Hz, bettered by a parabola."""
    points = 4 * fft_len(x.shape[1])
    step = rate / points
    first, end = int(45 / step), int(65 / step) + 2
    p = np.log(power_of(scipy.fft.rfft(centred(x) * hann(x.shape[1]), points, axis=1)[:, first - 1 : end + 1]))
    top = 1 + p[:, 1:-1].argmax(axis=1)
    rows = np.arange(len(p))
    a, b, c = p[rows, top - 1], p[rows, top], p[rows, top + 1]
    return (first - 1 + top + 0.5 * (a - c) / (a - 2 * b + c)) * step


def harmonics(x, rate, orders):
    """Projections on the harmonics of each window's own frequency, over its last whole cycles."""
    hz = fundamental(x, rate)
    length = np.floor(x.shape[1] * hz / rate) / hz * rate
    place = (np.arange(x.shape[1])[None] - (x.shape[1] - length / 2)[:, None]) + 0.5
    inside = np.abs(place) < (length / 2)[:, None]
    weighted = x * np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * place / length[:, None]), 0).astype(np.float32)
    # The powers of the first harmonic's wave are those of the others.
    wave = np.exp(-2j * np.pi * hz[:, None] / rate * place).astype(np.complex64)
    turned = weighted.astype(np.complex64)
    found = np.empty((len(x), orders), np.float32)
    for order in range(orders):
        turned *= wave
        found[:, order] = np.abs(turned.sum(axis=1))
    return found * (2 * np.sqrt(2) / length)[:, None]


def distortion(x, rate, orders):
    found = harmonics(x, rate, orders)
    return 100 * np.sqrt((found[:, 1:] ** 2).sum(axis=1)) / found[:, 0]


def mains_rms(x, rate):
    hz = fundamental(x, rate)
    length = np.floor(x.shape[1] * hz / rate) / hz * rate
    place = (np.arange(x.shape[1])[None] - (x.shape[1] - length / 2)[:, None]) + 0.5
    inside = np.abs(place) < (length / 2)[:, None]
    weights = np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * place / length[:, None]), 0)
    return np.sqrt((weights * x * x).sum(axis=1) / (length / 2))


def chosen(x, rate, spelling):
    name, *numbers = spelling.split(":")
    numbers = [int(number) for number in numbers]
    if name in ("spectral_centroid", "spectral_rolloff", "spectral_flatness", "dominant_frequency"):
        return spectral(x, rate, name)
    return {
        "mean": lambda: lambda: x.mean(axis=1),
        "variance": lambda: lambda: x.var(axis=1),
        "standard_deviation": lambda: lambda: x.std(axis=1),
        "rms": lambda: lambda: np.sqrt(np.einsum("ij,ij->i", x, x) / x.shape[1]),
        "minimum": lambda: lambda: x.min(axis=1),
        "peak_to_peak": lambda: lambda: x.max(axis=1) - x.min(axis=1),
        "slope": lambda: slope(x, rate),
        "skewness": lambda: lambda: skewness(x),
        "kurtosis": lambda: lambda: kurtosis(x),
        "crest_factor": lambda: lambda: crest_factor(x),
        "zero_crossing_rate": lambda: lambda: crossing_rate(x, rate),
        "median_abs_deviation": lambda: lambda: median_abs_deviation(x),
        "autocorrelation_peak": lambda: lambda: autocorrelation_peak(x),
        "maximum_difference": lambda: lambda: np.abs(x[:, 1:] - x[:, :-1]).max(axis=1),
        "band_energy": lambda: band_energy(x, *numbers),
        "envelope_band_energy": lambda: envelope_band_energy(x, *numbers),
        "log_mel": lambda: mel(x, rate, 0, *numbers),
        "mfcc": lambda: mel(x, rate, *numbers),
        "thd": lambda: lambda: distortion(x, rate, *numbers),
        "harmonics": lambda: lambda: harmonics(x, rate, *numbers),
        "fundamental_frequency": lambda: lambda: fundamental(x, rate),
        "mains_rms": lambda: lambda: mains_rms(x, rate),
    }[name]()


def main():
    path, window_len, rate, spelling = sys.argv[1:]
    x = np.fromfile(path, "<f4").reshape(-1, int(window_len))
    run = chosen(x, float(rate), spelling)
    # The first run warms up and does not count.
    result, best = run(), float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    name = f"NumPy {np.__version__}, SciPy {scipy.__version__}, float32, 1 thread"
    print(json.dumps({"peer": name, "seconds": best, "mean": float(np.mean(result, dtype=np.float64))}))


if __name__ == "__main__":
    main()
