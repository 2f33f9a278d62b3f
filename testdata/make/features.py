"""Writes testdata/features.json: features of small recordings as NumPy, SciPy and librosa compute them.

Made with Python 3.11, numpy 2.4.6, scipy 1.17.1 and librosa 0.11.0 (testdata/oracles/requirements-features.txt).

Usage: python testdata/make/features.py [--check]
With --check it writes nothing and fails where the committed file differs.

Each case holds its channels (the numbers are exact in single precision) and a list of
[spelling, channel, expected numbers, tolerance]: a number may differ from the expected one by the
tolerance times the greatest expected magnitude, or times 1 where that is smaller.
"""

import json
import sys
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import scipy.signal
import scipy.stats

TARGET = Path(__file__).resolve().parent.parent / "features.json"
DECIMALS = 4


def single(values):
    """Rounds to few decimals that single precision holds, and returns what the core will read."""
    return np.float32(np.round(values, DECIMALS)).astype(np.float64)


# --- time ---------------------------------------------------------------------------------------


def slope(x, rate):
    return scipy.stats.linregress(np.arange(len(x)) / rate, x).slope


def crossing_rate(x, rate):
    return librosa.zero_crossings(x - x.mean(), pad=False, zero_pos=True).sum() / (len(x) - 1) * rate


def autocorrelation_peak(x):
    centred = x - x.mean()
    full = np.correlate(centred, centred, "full")[len(x) - 1 :]
    r = full[: len(x) // 2 + 1] / full[0]
    below = np.flatnonzero(r <= 0)
    return max(0.0, r[below[0] :].max()) if len(below) else 0.0


def time_features(x, rate):
    centred = x - x.mean()
    yield "mean", x.mean(), 1e-6
    yield "variance", x.var(), 1e-5
    yield "standard_deviation", x.std(), 1e-5
    yield "rms", np.sqrt(np.mean(x**2)), 1e-5
    yield "minimum", x.min(), 0
    yield "maximum", x.max(), 0
    yield "peak_to_peak", np.ptp(x), 1e-6
    yield "slope", slope(x, rate), 1e-4
    yield "rolling_mean:7", x[-7:].mean(), 1e-6
    yield "skewness", scipy.stats.skew(x), 2e-5
    yield "kurtosis", scipy.stats.kurtosis(x), 2e-5
    yield "crest_factor", np.abs(centred).max() / x.std(), 1e-5
    yield "zero_crossing_rate", crossing_rate(x, rate), 1e-6
    yield "median_abs_deviation", scipy.stats.median_abs_deviation(x), 1e-6
    yield "autocorrelation_peak", autocorrelation_peak(x), 1e-5
    yield "maximum_difference", np.abs(np.diff(x)).max(), 1e-6


# --- spectrum -----------------------------------------------------------------------------------


def fft_len(length):
    return max(8, 1 << (length - 1).bit_length())


def periodogram(x, rate):
    return scipy.signal.periodogram(x, rate, "hann", nfft=fft_len(len(x)), detrend="constant")


def bin_edges(half, low, high, count):
    first, end = low * half // 100, high * half // 100 + (high == 100)
    return [first + (end - first) * band // count for band in range(count + 1)]


def band_energy(x, rate, count, low=0, high=100):
    frequency, density = periodogram(x, rate)
    edges = bin_edges(len(density) - 1, low, high, count)
    step = frequency[1]
    return [density[a:b].sum() * step for a, b in zip(edges, edges[1:])]


def spectral_features(x, rate):
    points = fft_len(len(x))
    taper = scipy.signal.get_window("hann", len(x))
    power = np.abs(np.fft.rfft((x - x.mean()) * taper, points)) ** 2
    frequency = np.fft.rfftfreq(points, 1 / rate)
    # librosa takes any spectrogram [bins, frames]; the bin of the mean is left out.
    s, f = power[1:, None], frequency[1:]
    yield "band_energy:8", band_energy(x, rate, 8), 1e-5
    yield "band_energy:5:10-50", band_energy(x, rate, 5, 10, 50), 1e-5
    yield "spectral_centroid", librosa.feature.spectral_centroid(S=s, freq=f)[0, 0], 1e-5
    yield "spectral_rolloff", librosa.feature.spectral_rolloff(S=s, freq=f, roll_percent=0.85)[0, 0], 1e-6
    yield "spectral_rolloff:50", librosa.feature.spectral_rolloff(S=s, freq=f, roll_percent=0.5)[0, 0], 1e-6
    # librosa squares unless told that the spectrum is one of powers.
    yield "spectral_flatness", librosa.feature.spectral_flatness(S=s, power=1.0)[0, 0], 1e-4
    top = 1 + int(np.argmax(power[1:]))
    # The parabola through three logarithms, fitted by numpy.
    a, b, _ = np.polyfit([-1, 0, 1], np.log(power[top - 1 : top + 2]), 2)
    yield "dominant_frequency", (top - b / (2 * a)) * frequency[1], 1e-5


def mel_features(x, rate, bands, frame, hop, coefficients):
    s = librosa.feature.melspectrogram(
        y=x, sr=rate, n_fft=frame, hop_length=hop, n_mels=bands, power=2.0, center=False, window="hann", fmin=0.0, fmax=rate / 2
    )
    log_mel = 20.0 / 2.0 * np.log10(s + sys.float_info.epsilon)
    yield f"log_mel:{bands}:{frame}:{hop}", log_mel.T.ravel(), 2e-5
    if coefficients:
        mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=coefficients, dct_type=2, norm="ortho")
        yield f"mfcc:{coefficients}:{bands}:{frame}:{hop}", mfcc.T.ravel(), 2e-5


# --- envelope -----------------------------------------------------------------------------------


def envelope_spectrum(x, rate, low, high):
    """The squared envelope at half the rate over its mean, less 1; tapered, as a periodogram."""
    points = fft_len(len(x))
    half = points // 2
    bins = np.fft.rfft(x - x.mean(), points)
    first, end = low * half // 100, high * half // 100 + (high == 100)
    keep = np.zeros(half + 1)
    keep[max(first, 1) : min(end, half)] = 1
    passed = np.fft.irfft(bins * keep, points)
    analytic = scipy.signal.hilbert(passed)[: len(x)]
    squared = np.abs(analytic[::2]) ** 2
    modulation = squared / squared.mean() - 1
    # Every other weight of the window's taper.
    taper = scipy.signal.get_window("hann", len(x))[::2]
    spectrum = np.fft.rfft(modulation * taper, half)
    return spectrum, taper


def envelope_features(x, rate):
    for low, high in ((0, 100), (20, 80)):
        spectrum, taper = envelope_spectrum(x, rate, low, high)
        power = np.abs(spectrum) ** 2
        power[1:-1] *= 2
        edges = bin_edges(len(power) - 1, 0, 100, 6)
        # Σw² of a Hann window of half the length.
        energy = [power[a:b].sum() / (2 * (len(power) - 1) * 0.375 * len(taper)) for a, b in zip(edges, edges[1:])]
        suffix = "" if (low, high) == (0, 100) else f":{low}-{high}"
        yield f"envelope_band_energy:6{suffix}", energy, 5e-5
        amplitude = 2 * np.abs(spectrum) / (0.5 * len(taper))
        step = rate / fft_len(len(x))
        lines = []
        for multiple in (1, 2, 3):
            middle = round(multiple * 107.3 / step)
            lines.append(amplitude[max(middle - 1, 1) : middle + 2].max())
        yield f"envelope_amplitude:107.3:3{suffix or ':0-100'}", lines, 5e-5


# --- mains --------------------------------------------------------------------------------------


def mains(rng, fundamental, length, rate, voltages, currents):
    """Voltage and current as sums of (order, rms, phase), and what follows from the sums themselves."""
    t = np.arange(length) / rate
    wave = lambda parts: sum(
        np.sqrt(2) * rms * np.cos(2 * np.pi * order * fundamental * t + phase) for order, rms, phase in parts
    )
    u, i = wave(voltages), wave(currents)
    harmonics = [sum(rms for order, rms, _ in voltages if order == h) for h in range(1, 41)]
    rms_of = lambda parts: np.sqrt(sum(rms**2 for _, rms, _ in parts))
    thd_of = lambda parts: 100 * rms_of(parts[1:]) / parts[0][1]
    pairs = [(a, b) for a in voltages for b in currents if a[0] == b[0]]
    active = sum(a[1] * b[1] * np.cos(a[2] - b[2]) for a, b in pairs)
    reactive = voltages[0][1] * currents[0][1] * np.sin(voltages[0][2] - currents[0][2])
    apparent = rms_of(voltages) * rms_of(currents)
    # THD to 0.005 points, powers and harmonics to 1e-4 of the greatest.
    features = [
        ["fundamental_frequency", 0, fundamental, 1e-4],
        ["harmonics:40", 0, harmonics, 3e-5],
        ["thd:40", 0, thd_of(voltages), 0.005 / max(1.0, thd_of(voltages))],
        ["thd:40", 1, thd_of(currents), 0.005 / max(1.0, thd_of(currents))],
        ["mains_rms", 0, rms_of(voltages), 3e-5],
        ["mains_rms", 1, rms_of(currents), 3e-5],
        ["active_power:1", 0, active, 1e-4],
        ["reactive_power:1", 0, reactive, 2e-4],
        ["apparent_power:1", 0, apparent, 1e-4],
        ["power_factor:1", 0, active / apparent, 1e-4],
    ]
    return u, i, features


def mains_case(name, rng, fundamental, length, distortion):
    rate = 6400.0
    phase = lambda: rng.uniform(-np.pi, np.pi)
    orders = [h for h in range(2, 41) if h * fundamental < 0.48 * rate]
    voltages = [(1, 230.0, phase())] + [(h, 230 * distortion * rng.uniform(0, 1) / h, phase()) for h in orders]
    lag = rng.uniform(-1.2, 1.2)
    currents = [(1, 4.5, voltages[0][2] - lag)] + [(h, 4.5 * 4 * distortion * rng.uniform(0, 1) / h, phase()) for h in orders]
    u, i, features = mains(rng, fundamental, length, rate, voltages, currents)
    return case(name, rate, [u, i], features)


# --- cases --------------------------------------------------------------------------------------


def case(name, rate, channels, features):
    flat = lambda value: [float(f"{number:.9g}") for number in np.atleast_1d(value).astype(float)]
    return {
        "name": name,
        "rate_hz": rate,
        "channels": [[round(float(v), DECIMALS) for v in channel] for channel in channels],
        "features": [[text, channel, flat(expected), tolerance] for text, channel, expected, tolerance in features],
    }


def on_channel(found):
    return [[text, 0, expected, tolerance] for text, expected, tolerance in found]


def cases():
    rng = np.random.default_rng(20261121)
    rate = 6600.0
    t = np.arange(512) / rate
    vibration = single(9.81 + np.sin(2 * np.pi * 49.7 * t) + 0.3 * np.sin(2 * np.pi * 811 * t + 1) + 0.2 * rng.standard_normal(512))
    yield case("vibration", rate, [vibration], on_channel([*time_features(vibration, rate), *spectral_features(vibration, rate)]))

    skewed = single(rng.gamma(2.0, 3.0, 333) - 40)
    yield case("skewed, odd length", 10.0, [skewed], on_channel([*time_features(skewed, 10.0), *spectral_features(skewed, 10.0)]))

    room = single(np.round(21 + 2 * np.sin(np.arange(90) / 9) + 0.3 * rng.standard_normal(90)))
    yield case("room, whole degrees", 1.0, [room], on_channel([*time_features(room, 1.0), *spectral_features(room, 1.0)]))

    rate = 12000.0
    t = np.arange(1024) / rate
    strikes = np.zeros(1024)
    strikes[(np.arange(0.0005, 1024 / rate, 1 / 107.3) * rate).astype(int)] = 1
    ringing = np.exp(-t * 900) * np.sin(2 * np.pi * 3300 * t)
    bearing = single(2 * np.convolve(strikes, ringing)[:1024] + 0.05 * rng.standard_normal(1024) + 0.5 * np.sin(2 * np.pi * 29 * t))
    yield case("bearing", rate, [bearing], on_channel([*time_features(bearing, rate), *envelope_features(bearing, rate)]))
    odd = bearing[:701]
    yield case("bearing, odd length", rate, [odd], on_channel(envelope_features(odd, rate)))

    rate = 16000.0
    t = np.arange(2048) / rate
    sound = single(0.1 * rng.standard_normal(2048) + 0.5 * scipy.signal.chirp(t, 200, t[-1], 6000))
    found = [*mel_features(sound, rate, 128, 1024, 512, 0), *mel_features(sound, rate, 40, 512, 256, 13)]
    yield case("sound", rate, [sound], on_channel(found))
    low_rate = single(rng.standard_normal(300))
    yield case("slow sound", 1000.0, [low_rate], on_channel(mel_features(low_rate, 1000.0, 8, 64, 32, 5)))

    for index, (fundamental, length) in enumerate([(50.0, 1280), (45.0, 1280), (65.0, 1280), (49.73, 1280), (60.211, 1100), (47.9, 640), (58.4, 430), (52.77, 1793)]):
        yield mains_case(f"mains {fundamental} Hz, {length} samples", rng, fundamental, length, [0.08, 0.0, 0.02][index % 3])


def main():
    text = json.dumps(list(cases()), separators=(",", ":")).replace('},{"name"', '},\n{"name"') + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    committed = json.loads(TARGET.read_text(encoding="utf-8"))
    for found, expected in zip(json.loads(text), committed, strict=True):
        if found["channels"] != expected["channels"]:
            print(f"{expected['name']}: the samples differ")
            return 1
        for (spelling, _, now, _), (_, _, before, _) in zip(found["features"], expected["features"], strict=True):
            if not np.allclose(now, before, rtol=1e-7, atol=1e-9):
                print(f"{expected['name']}: {spelling} is {now}, the committed file has {before}")
                return 1
    print(f"{len(committed)} cases equal NumPy, SciPy and librosa")
    return 0


if __name__ == "__main__":
    sys.exit(main())
