#!/usr/bin/env python3
"""Golden values of the front-ends of audio, made with the packages that define them.

  python audio.py > runtime/src/features/golden_audio.rs

Needs numpy torch torchaudio kaldi-native-fbank librosa transformers. The sound is `x[n] = (n^2 mod 1009) / 1009 - 0.4`,
the same numbers in any language. Each case prints the number of frames, and rows 0, 3 and the last of seven filters.
"""
import numpy as np
import torch

FILTERS = [0, 1, 7, 20, 40, 60, 79]


def sound(samples):
    n = np.arange(samples, dtype=np.int64)
    return ((n * n) % 1009 / 1009.0 - 0.4).astype(np.float32)


def torchaudio_kaldi(x):
    from torchaudio.compliance import kaldi

    wave = torch.from_numpy(x)[None] * (1 << 15)
    return kaldi.fbank(wave, num_mel_bins=80, frame_length=25, frame_shift=10, dither=0.0, energy_floor=0.0).numpy()


def icefall(x):
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(16000, x.tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def nemo(x, count_last=False, mirror=False):
    """FilterbankFeatures of NeMo in evaluation: its own lines, librosa's filters and torch.stft."""
    import librosa

    wave = torch.from_numpy(x)[None]
    wave = torch.cat((wave[:, :1], wave[:, 1:] - 0.97 * wave[:, :-1]), dim=1)
    window = torch.hann_window(400, periodic=False)
    spectrum = torch.stft(wave, 512, 160, 400, window=window, center=True, return_complex=True,
                          pad_mode="reflect" if mirror else "constant")
    power = spectrum.abs().pow(2.0)
    filters = torch.from_numpy(librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=0, fmax=8000, norm="slaney"))
    logs = torch.log(filters @ power + 2 ** -24)
    frames = len(x) // 160 + (1 if count_last else 0)
    logs = logs[:, :, :frames]
    mean, deviation = logs.mean(dim=2, keepdim=True), logs.std(dim=2, keepdim=True) + 1e-5
    return ((logs - mean) / deviation)[0].T.numpy()


def whisper(x):
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    found = extractor(x, sampling_rate=16000, padding="do_not_pad", return_tensors="np")
    return found.input_features[0].T


def wav2vec2(x):
    from transformers import Wav2Vec2FeatureExtractor

    found = Wav2Vec2FeatureExtractor(do_normalize=True)(x, sampling_rate=16000, return_tensors="np")
    return found.input_values[0]


def row(values):
    """The shortest digits that are the same float32."""
    return "[" + ", ".join(np.format_float_positional(np.float32(v), trim="0") for v in values) + "]"


def case(name, samples, features):
    rows = [features[t][FILTERS] for t in (0, 3, len(features) - 1)]
    print(f"    ({name!r}, {samples}, {len(features)}, [{', '.join(row(r) for r in rows)}]),".replace("'", '"'))


def main():
    import torchaudio, librosa, transformers

    print("//! Golden values of the front-ends of audio, made by `runtime/tests/golden/audio.py` with")
    print(f"//! torchaudio {torchaudio.__version__}, kaldi-native-fbank 1.23.0, torch {torch.__version__}, "
          f"librosa {librosa.__version__} and")
    print(f"//! transformers {transformers.__version__}.")
    print()
    print("/// Front-end, samples, frames, and rows 0, 3 and the last of the filters 0, 1, 7, 20, 40, 60 and 79.")
    print("pub(super) type Golden = (&'static str, usize, usize, [[f32; 7]; 3]);")
    print()
    print("/// Every case.")
    print("#[rustfmt::skip]")
    print("pub(super) const GOLDEN: &[Golden] = &[")
    for samples in (1600, 4321):
        x = sound(samples)
        case("kaldi", samples, torchaudio_kaldi(x))
        case("icefall", samples, icefall(x))
        case("nemo", samples, nemo(x))
        case("nemo, reflected", samples, nemo(x, True, True))
        case("whisper", samples, whisper(x))
    print("];")
    print()
    print("/// Samples 0, 1, 7, 20, 40, 60 and 79 of 1600 as wav2vec2 takes them.")
    print(f"pub(super) const WAV2VEC2: [f32; 7] = {row(wav2vec2(sound(1600))[FILTERS])};")


main()
