"""Synthesised sound and brain waves, for networks of one dimension."""

from pathlib import Path

import numpy as np

from benchmarks.assets import cache_folder, member
from benchmarks.datasets import Floats, save
from benchmarks.zoo.entry import Samples
from graphpass.runtime.session import open_session, run

RATE, HOP, SOUND, FRAMES = 22050, 256, 43844, 172  # of Basic Pitch: hertz, samples a frame, samples, frames
LOWEST, KEYS = 21, 88  # MIDI number of the lowest key
EEG_RATE, EEG, SCALES = 250, 7500, 15  # of OpenSpindleNet
SPEECH_RATE, SPEECH, MELS = 16000, 12640, 76  # of openWakeWord; SPEECH samples make MELS frames


def chord(generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Two seconds of one to six notes, float32 [43844, 1], and the keys that sound in each frame, [172, 88].

    A note has up to eight harmonics that fall with their number, decays, and begins and ends softly.
    """
    sound, keys = np.zeros(SOUND), np.zeros((FRAMES, KEYS), np.float32)
    for _ in range(generator.integers(1, 7)):
        midi = int(generator.integers(40, 85))
        begin = int(generator.integers(0, SOUND - RATE // 4))
        length = int(min(SOUND - begin, generator.integers(RATE // 5, RATE)))
        time = np.arange(length) / RATE
        frequency = 440 * 2 ** ((midi - 69) / 12)
        harmonics = np.arange(1, 1 + generator.integers(3, 9))
        harmonics = harmonics[harmonics * frequency < RATE / 2]
        strengths = harmonics ** -generator.uniform(0.8, 2.0)
        phases = generator.uniform(0, 2 * np.pi, len(harmonics))
        waves = np.sin(2 * np.pi * frequency * harmonics * time[:, None] + phases) @ strengths
        edge = np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)
        sound[begin : begin + length] += generator.uniform(0.1, 0.3) * waves * edge * np.exp(-time * 1.5)
        keys[round(begin / HOP) : round((begin + length) / HOP), midi - LOWEST] = 1
    sound += generator.normal(0, 0.001, SOUND)
    return (0.5 * sound / np.abs(sound).max())[:, None].astype(np.float32), keys


def note_samples(calibration: int = 64, evaluation: int = 64) -> Samples:
    """Notes for Basic Pitch."""
    folder = cache_folder() / "data"
    paths = [folder / f"notes_{part}.npz" for part in (calibration, f"{evaluation}_evaluation", "truth")]
    if not all(path.exists() for path in paths):
        for path, count, seed in zip(paths, (calibration, evaluation), (1, 2), strict=False):
            generator = np.random.default_rng(seed)
            sounds, keys = zip(*(chord(generator) for _ in range(count)), strict=True)
            save(path.name, **{"serving_default_input_2:0": np.stack(sounds)})
        save(paths[2].name, notes=np.stack(keys))
    return Samples(*paths)


def brain_waves(generator: np.random.Generator) -> Floats:
    """30 seconds of EEG-like noise of spectrum 1/f with up to six bursts of 11 to 15 Hz; mean 0, deviation 1."""
    spectrum = np.fft.rfft(generator.normal(size=EEG))
    spectrum /= np.maximum(np.fft.rfftfreq(EEG, 1 / EEG_RATE), 0.5)
    wave = np.fft.irfft(spectrum, EEG)
    wave /= wave.std()
    for _ in range(generator.integers(0, 7)):
        length = int(generator.uniform(0.5, 2.0) * EEG_RATE)
        start = int(generator.integers(0, EEG - length))
        time = np.arange(length) / EEG_RATE
        burst = np.sin(2 * np.pi * generator.uniform(11, 15) * time) * np.hanning(length)
        wave[start : start + length] += generator.uniform(0.8, 2.0) * burst
    return ((wave - wave.mean()) / wave.std()).astype(np.float32)


def scalogram(waves: Floats) -> Floats:
    """|continuous wavelet transform| of waves [N, n], float32 [N, 15, n], as OpenSpindleNet was trained on it.

    Shannon wavelet ψ(t) = √B·sinc(B·t)·exp(2πi·C·t), B = 6, C = 13, sampled at 1,024 points of −20 … 20; its running
    integral, stretched to 15 scales from 135 to 270 samples, is convolved with the wave and differenced.
    """
    grid = np.linspace(-20, 20, 1024)
    step = grid[1] - grid[0]
    integral = np.conj(np.cumsum(np.sqrt(6) * np.sinc(6 * grid) * np.exp(26j * np.pi * grid)) * step)
    size, found = waves.shape[1], []
    for scale in np.geomspace(135, 270, SCALES):
        places = (np.arange(scale * (grid[-1] - grid[0]) + 1) / (scale * step)).astype(int)
        kernel = integral[places[places < len(grid)]][::-1]
        whole = size + len(kernel) - 1
        product = np.fft.ifft(np.fft.fft(waves, whole) * np.fft.fft(kernel, whole))
        coefficients = -np.sqrt(scale) * np.diff(product, axis=1)
        cut = (coefficients.shape[1] - size) // 2
        found.append(np.abs(coefficients[:, cut : cut + size]))
    return np.stack(found, 1).astype(np.float32)


def wave_samples(calibration: int = 16, evaluation: int = 12) -> Samples:
    """EEG for OpenSpindleNet: the wave, and its scalogram with mean 0 and deviation 1 a sample and scale."""
    paths: list[Path] = []
    for count, seed in ((calibration, 1), (evaluation, 2)):
        path = cache_folder() / "data" / f"brain_waves_{count}.npz"
        if not path.exists():
            generator = np.random.default_rng(seed)
            waves = np.stack([brain_waves(generator) for _ in range(count)])
            maps = np.concatenate([scalogram(waves[start : start + 8]) for start in range(0, count, 8)])
            maps = (maps - maps.mean(-1, keepdims=True)) / maps.std(-1, keepdims=True)
            save(path.name, raw_signal=waves[:, None], spectrogram=np.float32(maps))
        paths.append(path)
    return Samples(*paths)


def spoken(generator: np.random.Generator) -> Floats:
    """Sound like voiced speech: a gliding pulse with three resonances and noise, float32 [12640], 16-bit range."""
    time = np.arange(SPEECH) / SPEECH_RATE
    pitch = generator.uniform(80, 260) * np.exp(generator.uniform(-0.4, 0.4) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SPEECH_RATE
    number = np.arange(1, 25)
    resonances = generator.uniform([200, 800, 2000], [900, 2000, 3200])
    strengths = sum(np.exp(-(((number[:, None] * pitch - centre) / 150) ** 2)) for centre in resonances)
    sound = (np.sin(number[:, None] * phase) * strengths).sum(0)
    sound *= np.abs(np.sin(np.pi * generator.uniform(1, 5) * time + generator.uniform(0, 3)))
    sound += generator.normal(0, generator.uniform(0.01, 0.3), SPEECH)
    return (generator.uniform(1000, 12000) * sound / np.abs(sound).max()).astype(np.float32)


def speech_samples(calibration: int = 128, evaluation: int = 64) -> Samples:
    """Mel spectra for openWakeWord's embedding, by its own network for them: x / 10 + 2, [N, 76, 32, 1]."""
    paths: list[Path] = []
    session = open_session(member("openwakeword", "*/melspectrogram.onnx"))
    for count, seed in ((calibration, 1), (evaluation, 2)):
        path = cache_folder() / "data" / f"mels_{count}.npz"
        if not path.exists():
            generator = np.random.default_rng(seed)
            name = session.get_inputs()[0].name
            mels = [next(iter(run(session, {name: spoken(generator)[None]}).values())) for _ in range(count)]
            save(path.name, input_1=np.stack([np.squeeze(each)[:MELS, :, None] / np.float32(10) + 2 for each in mels]))
        paths.append(path)
    return Samples(*paths)
