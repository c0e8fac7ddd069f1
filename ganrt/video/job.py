"""Transform a video: frames are decoded, computed and encoded at the same time, in segments that survive a kill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import library_versions

from ganrt import atomic
from ganrt.checks import require_whole
from ganrt.errors import ArtifactError, RequestError
from ganrt.folder_lock import hold_work_folder
from ganrt.job_record import JobRecord
from ganrt.photos import MAX_PIXELS
from ganrt.video.copies import plan_copies
from ganrt.video.encoders import CONTAINERS, EncoderSettings, choose_encoder
from ganrt.video.encoding import SegmentWriter
from ganrt.video.inspection import Range, inspect_video
from ganrt.video.joining import Joining
from ganrt.video.packets import Segment, read_segment
from ganrt.video.pipeline import Change, MadeBatch, compute_batches
from ganrt.video.reader import Place, SourceFrame, read_frames

_JOINED, _COMPLETE, _REPLACING = "joined", "complete", "replacing"
"""Files in the folder of a job: the whole video; its number of frames, when it is complete; a mark that the target may
be replaced."""
_MADE = re.compile(rf"\d{{6,}}\.packets|{re.escape(JobRecord.name)}|{_JOINED}|{_COMPLETE}|{_REPLACING}")
"""Names of all that a job makes in its folder."""
_OF_MILLISECONDS = ("matroska", "webm")
_FRAMES = 120
"""Frames of a segment."""


@dataclass(frozen=True)
class VideoOptions:
    """How a video is transformed."""

    codec: str | None = None
    """FFmpeg's name of an encoder: `libx264`, `libx265`, `libvpx-vp9`, `libsvtav1`, `ffv1`; None for `libvpx-vp9` in
    .webm files, `libx264` in others."""
    crf: int | None = None
    """Constant rate factor: lower is better and larger; None for one that is hard to tell from the frames."""
    start: Fraction | float = 0
    """Second of the first frame, from where a player begins."""
    end: Fraction | float | None = None
    """Second of the first frame that is left out."""
    most_pixels: int = MAX_PIXELS
    """Videos with larger frames are rejected by their header."""

    def __post_init__(self) -> None:
        part = self.part
        if part.start < 0 or (part.end is not None and part.end <= part.start):
            raise RequestError(
                f"the range from {float(part.start):g} to {float(part.end or 0):g} s is empty; start is at least 0, "
                "and end is greater"
            )

    @property
    def part(self) -> Range:
        """The range of seconds. Fractions are exact; numbers are taken to the microsecond."""
        start, end = (
            value if value is None or isinstance(value, Fraction) else Fraction(round(value * 1_000_000), 1_000_000)
            for value in (self.start, self.end)
        )
        return Range(start or Fraction(0), end)


class VideoJob:
    """A video to transform; everything is checked before the first frame is computed."""

    def __init__(self, source: Path | str, target: Path | str, options: VideoOptions | None = None) -> None:
        """
        Args:
            source: MP4, QuickTime, Matroska, WebM or AVI.
            target: file to write: .mp4, .m4v, .mov, .mkv or .webm.

        Raises RequestError for options that do not fit, ArtifactError for a source that cannot be read or would lose
        something in silence.
        """
        self._options = options or VideoOptions()
        self._target = Path(target)
        ending = self._target.suffix.lower()
        if ending not in CONTAINERS:
            raise RequestError(f"{target} does not end as a video that is written: {', '.join(CONTAINERS)}")
        if _are_same(self._target, Path(source)):
            raise RequestError(f"{target} is the video itself; choose another name")
        self._encoder = choose_encoder(self._options.codec, ending)
        self._crf = self._encoder.check_crf(self._options.crf)
        self._part = self._options.part
        self._source = inspect_video(Path(source), self._part, self._options.most_pixels)
        if not self._source.frames and not self._part.is_all:
            raise ArtifactError(f"{source} has no frames in the range that was asked for")
        self._copies = plan_copies(Path(source), ending)

    @property
    def frames(self) -> int:
        """Number of frames to transform, by the packets of the file."""
        return self._source.frames

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self._source.width * self._source.height

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know: what is not kept."""
        rounded = CONTAINERS[self._target.suffix.lower()] in _OF_MILLISECONDS and not self._source.has_milliseconds
        remarks = [*self._source.remarks, *self._copies.remarks]
        if rounded:
            remarks.append(f"timestamps are rounded to milliseconds, as {self._target.suffix} files hold them")
        return tuple(remarks)

    @property
    def folder(self) -> Path:
        """Where the beginning of the job is kept until it is done: a hidden folder beside the target."""
        return self._target.with_name(f".{self._target.name}.parts")

    def run(
        self,
        change: Change,
        batch: int = 1,
        *,
        key: Mapping[str, str] | None = None,
        overwrite: bool = False,
        report: Callable[[int, int], None] = lambda done, total: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> int:
        """Make the video. A file that is there is replaced in the end, at once, or stays.

        Args:
            change: makes new frames of frames.
            batch: frames that are computed at a time.
            key: all that the new frames depend on beside the source, such as the digest of a model. With it, a job that
                was stopped continues after its last whole segment; without, it starts over.
            overwrite: start over, and replace the target. The job that continues it replaces the target too.
            report: called with the number of frames that this call has made, and of those that were left to make.
            log: called with what a user should know.

        Returns the number of frames in the video. Raises RequestError if the target exists, or the beginning of another
        job of this name; what `change` raises; ArtifactError, MachineError, BackendError.
        """
        require_whole("batch", batch)
        record = JobRecord(self.folder, {**self._describe(), "batch": str(batch), **(key or {})})
        if not self.folder.is_dir():
            atomic.check_output(self._target, overwrite)
        with hold_work_folder(self.folder, self._target):
            frames = self._begin(record, key is not None and not overwrite, overwrite)
            if frames is None:
                frames = self._make(change, batch, report, log)
            self._publish()
        return frames

    def _begin(self, record: JobRecord, may_continue: bool, overwrite: bool) -> int | None:
        """Prepare the folder. Returns the number of frames if the whole video was made before, else None."""
        begun = (
            may_continue
            and (self._name_segment(0).exists() or (self.folder / _COMPLETE).exists())
            and record.is_unfinished()
        )
        frames = self._count_made() if begun else None
        if frames is not None:
            if (self.folder / _JOINED).exists() or self._target.exists():
                return frames
            begun = False  # the video was given its name, and then taken away
        atomic.check_output(self._target, overwrite or (begun and (self.folder / _REPLACING).exists()))
        self._remove_files(drafts_only=begun)
        if not begun:
            record.begin()
            if overwrite:
                (self.folder / _REPLACING).touch()
        return None

    def _count_made(self) -> int | None:
        """The number of frames of the whole video, if it is complete."""
        try:
            return int((self.folder / _COMPLETE).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def _make(self, change: Change, batch: int, report: Callable[[int, int], None], log: Callable[[str], None]) -> int:
        """Make the segments that are missing, and the whole video in the folder. Returns its number of frames."""
        segments = list(self._read_segments())
        made = sum(len(segment.packets) for _, segment in segments)
        if made:
            log(f"{made} frames were there already")
        behind = Place(segments[-1][1].timestamps[-1], segments[-1][1].digest) if segments else None
        frames = self._watch_damage(read_frames(self._source, self._part, behind), log)
        total = max(1, self.frames - made)
        batches = compute_batches(frames, change, batch, _FRAMES)
        with closing(batches):
            for segment in self._make_segments(batches, len(segments), lambda done: report(done, total)):
                segments.append(segment)
        if not segments:
            raise ArtifactError(f"{self._source.path} has no frames in the range that was asked for")
        first = segments[0][1]
        if self._source.has_order and first.timestamps[0] > self._source.first:
            seconds = float((first.timestamps[0] - self._source.first) * self._source.time_base)
            log(
                f"{self._source.path} cannot be decoded before its first key frame; the frames of {seconds:.3f} s are "
                "left out"
            )
        joining = Joining(self._source, self._copies, self._part, self._make_settings(first.width, first.height))
        for line in joining.write(self.folder / _JOINED, segments):
            log(line)
        total = sum(len(segment.packets) for _, segment in segments)
        atomic.write_file(self.folder / _COMPLETE, str(total).encode())
        return total

    def _describe(self) -> dict[str, str]:
        """All that the encoded frames depend on beside the model."""
        path = self._source.path
        status = path.stat()
        return {
            "source": f"{path.absolute()}, {status.st_size} bytes, {status.st_mtime_ns}",
            "codec": self._encoder.name,
            "crf": str(self._crf),
            "range": f"{self._part.start} to {self._part.end}",
            "frames of a segment": str(_FRAMES),
            "PyAV": f"{av.__version__} {library_versions}",
        }

    def _make_settings(self, width: int, height: int) -> EncoderSettings:
        source = self._source
        return EncoderSettings(
            encoder=self._encoder,
            crf=self._crf,
            width=width,
            height=height,
            time_base=source.time_base,
            rate=source.rate,
            aspect=source.aspect,
            ending=self._target.suffix.lower(),
        )

    def _watch_damage(self, frames: Iterator[SourceFrame], log: Callable[[str], None]) -> Iterator[SourceFrame]:
        """The frames; each that is damaged is reported."""
        for frame in frames:
            if frame.is_damaged:
                second = float(frame.pts * self._source.time_base - self._source.start)
                log(f"{self._source.path} is damaged at {second:.3f} s; the frame is as the decoder repaired it")
            yield frame

    def _name_segment(self, number: int) -> Path:
        return self.folder / f"{number:06}.packets"

    def _read_segments(self) -> Iterator[tuple[Path, Segment]]:
        """The segments that are there."""
        number = 0
        while (path := self._name_segment(number)).exists():
            yield path, read_segment(path)
            number += 1

    def _make_segments(
        self, batches: Iterator[MadeBatch], number: int, report: Callable[[int], None]
    ) -> Iterator[tuple[Path, Segment]]:
        """Encode batches, and yield each segment that is whole.

        Args:
            number: of the first segment.
            report: called with the number of frames that are encoded.
        """
        done = 0
        while (batch := next(batches, None)) is not None:
            path = self._name_segment(number)
            height, width = batch.pictures.shape[1:3]
            with atomic.new_file(path) as file:
                writer = SegmentWriter(self._make_settings(width, height), file)
                while True:
                    for frame in batch.frames:
                        writer.encode(frame)
                    done += len(batch.pictures)
                    report(done)
                    if batch.digest:
                        break
                    batch = next(batches)
                segment = writer.finish(batch.digest)
            yield path, segment
            number += 1

    def _publish(self) -> None:
        """Give the whole video its name, unless a file of this name came meanwhile, and empty the folder."""
        joined = self.folder / _JOINED
        if joined.exists():
            atomic.check_output(self._target, (self.folder / _REPLACING).exists())
            with atomic.translate_os_errors(self._target):
                joined.replace(self._target)
        self._remove_files()

    def _remove_files(self, drafts_only: bool = False) -> None:
        """Remove what a job has made in the folder, and nothing else: the segments first, so that a rest is not taken
        for the beginning of a job."""
        drafts = {path for name, path in atomic.list_drafts(self.folder) if _MADE.fullmatch(name)}
        made = {path for path in self.folder.iterdir() if _MADE.fullmatch(path.name) and not drafts_only}
        with atomic.translate_os_errors(self.folder):
            for path in sorted(drafts | made, key=lambda path: (path.suffix != ".packets", path.name)):
                path.unlink()


def _are_same(one: Path, other: Path) -> bool:
    """Whether two names are those of one file that is there."""
    try:
        return one.samefile(other)
    except OSError:  # one is not there, or is a link to itself
        return False


def transform_video(
    change: Change,
    source: Path | str,
    target: Path | str,
    options: VideoOptions | None = None,
    *,
    batch: int = 1,
    key: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Transform the frames of a video, and keep its sound, subtitles, chapters, tags and timestamps:
    `transform_video(generator.transform, "clip.mp4", "clip4x.mp4")`.

    Frames are decoded, computed and encoded at the same time; memory does not grow with their number. Rotation is
    applied. The result has 8 bits of color, BT.709 and limited range; `ffv1` keeps RGB without loss.

    Args:
        change: makes new frames of frames: RGB, uint8 (N, H, W, 3) -> uint8 (N, H', W', 1 or 3).
        source, target, options: as for `VideoJob`.
        batch, key, overwrite: as for `VideoJob.run`.

    Returns what a user should know, in sentences. Raises what `VideoJob` and its `run` raise.
    """
    job = VideoJob(source, target, options)
    lines = list(job.remarks)
    job.run(change, batch, key=key, overwrite=overwrite, log=lines.append)
    return tuple(lines)
