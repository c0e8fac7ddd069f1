"""What `ganrt transform` of a video keeps and needs: sound, timestamps, frames and memory.

    python -m ganrt.bench.jobs.video BUNDLE BACKEND

Makes a clip of 10 seconds with sound, transforms it, and compares; then measures the memory of processes that transform
200 and 2,000 frames. Prints lines in Markdown.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

import ganrt
from ganrt.images import Pictures
from ganrt.video import VideoJob

from .. import clock

_RATE, _SAMPLES = 25, 44100
"""Frames and samples of sound a second."""
_SECONDS, _MEMORY_FRAMES = 10, (200, 2000)
_SIZE = 180, 320
"""Height and width of the clips."""
_BATCH = 4


def main(arguments: list[str]) -> None:
    """Print one line per measurement."""
    bundle, backend = arguments
    with tempfile.TemporaryDirectory() as folder:
        for line in compare_clip(bundle, backend, Path(folder), _SECONDS * _RATE):
            click.echo(line)
        for frames in _MEMORY_FRAMES:
            source = write_clip(Path(folder) / f"{frames}.mp4", frames)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                peak = pool.submit(measure_memory, bundle, backend, source).result()
            click.echo(f"- {frames} frames: the process needs {peak / 2**20:.0f} MiB at most")


def compare_clip(bundle: str, backend: str, folder: Path, frames: int) -> Iterator[str]:
    """Transform a clip, compare what was made with what there was, and yield what was found."""
    source, target = write_clip(folder / "clip.mp4", frames), folder / "made.mp4"
    largest = 0
    with ganrt.load(bundle, backend, device="cpu") as generator:

        def change(pictures: Pictures) -> Pictures:
            nonlocal largest
            made: Pictures = generator.transform(pictures)
            for picture, one in zip(pictures, made, strict=True):
                largest = max(largest, int(np.abs(generator.transform(picture).astype(int) - one).max()))
            return made

        VideoJob(source, target).run(change, _BATCH)
        yield f"- frames differ from single pictures by {largest} of 255 at most, before they are encoded"
        begin = clock.now_ns()
        VideoJob(source, target).run(generator.transform, _BATCH, overwrite=True)
        yield f"- {frames / (clock.now_ns() - begin) * 1e9:.0f} frames a second"
    times, sound = list_frame_times(source), list_packets(source)
    same = "equal" if list_frame_times(target) == times else "DIFFERENT"
    yield f"- {len(times)} frames became {len(list_frame_times(target))}, their timestamps are {same}"
    same = "equal" if list_packets(target) == sound else "DIFFERENT"
    yield f"- {len(sound)} packets of sound: bytes and timestamps are {same}"


def measure_memory(bundle: str, backend: str, source: Path) -> int:
    """Transform a video in this process; return the most memory that it has needed, in bytes."""
    with ganrt.load(bundle, backend, device="cpu") as generator:
        VideoJob(source, source.with_suffix(".made.mp4")).run(generator.transform, _BATCH)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_clip(path: Path, frames: int) -> Path:
    """Write a video of moving bars with a tone."""
    down, right = np.indices(_SIZE)
    with av.open(str(path), "w") as file:
        stream, sound = file.add_stream("libx264", rate=_RATE), file.add_stream("aac", rate=_SAMPLES)
        assert isinstance(stream, VideoStream) and isinstance(sound, AudioStream)
        stream.height, stream.width, stream.pix_fmt = *_SIZE, "yuv420p"
        sound.layout = "mono"
        for number in range(frames):
            planes = [right + 3 * number, down + 2 * number, right + down + number]
            frame = av.VideoFrame.from_ndarray(np.stack(planes, axis=2).astype(np.uint8), "rgb24")
            file.mux(stream.encode(frame))
            _write_tone(file, sound, number)
        file.mux(stream.encode(None))
        file.mux(sound.encode(None))
    return path


def _write_tone(file: av.container.OutputContainer, stream: AudioStream, number: int) -> None:
    """The sound of one frame."""
    step = _SAMPLES // _RATE
    phase = np.arange(number * step, (number + 1) * step) * (2 * np.pi * 440 / _SAMPLES)
    frame = av.AudioFrame.from_ndarray(np.sin(phase, dtype=np.float32)[None] / 2, "fltp", "mono")
    frame.rate, frame.pts, frame.time_base = _SAMPLES, number * step, Fraction(1, _SAMPLES)
    file.mux(stream.encode(frame))


def list_frame_times(path: Path) -> list[Fraction]:
    """Seconds of the frames."""
    with av.open(str(path)) as file:
        return [(frame.pts or 0) * (frame.time_base or Fraction(1)) for frame in file.decode(video=0)]


def list_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Seconds and bytes of the packets of sound."""
    with av.open(str(path)) as file:
        return [((p.pts or 0) * p.time_base, bytes(p)) for p in file.demux(file.streams.audio[0]) if p.size]


if __name__ == "__main__":
    main(sys.argv[1:])
