"""The programs of an engine that are ready, one for each shape, and the scratch memory that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import cuda.core as core

from ganrt.errors import RequestError
from ganrt.gpu.device import Gpu
from ganrt.gpu.nvinfer import LoadedEngine, Profile, scratch_bytes
from ganrt.gpu.trt_program import TrtProgram

Shapes = Mapping[str, tuple[int, ...]]
_MOST = 12
"""Shapes that are kept ready; models that take pictures of any size could have any number of them."""


class Scratch:
    """Memory for what is between the inputs and outputs of an engine: one piece for each optimisation profile. Programs
    take turns on one stream, so those of a profile share it."""

    def __init__(self, gpu: Gpu, loaded: LoadedEngine, stream: core.Stream) -> None:
        self._gpu, self._loaded, self._stream = gpu, loaded, stream
        self._pieces: dict[int, core.Buffer] = {}

    def piece(self, profile: int) -> core.Buffer | None:
        """None where TensorRT takes it itself, for each program anew. Raises DeviceMemoryError."""
        size = scratch_bytes(self._loaded, profile)
        if size is None:
            return None
        if profile not in self._pieces:
            self._pieces[profile] = self._gpu.memory(size, self._stream)
        return self._pieces[profile]

    def keep(self, profiles: Iterable[int]) -> None:
        """Give back what other profiles have."""
        for profile in set(self._pieces) - set(profiles):
            self._pieces.pop(profile).close(self._stream)


class TrtPrograms:
    """Programs by their shapes, made when they are first needed, the oldest given up for newer ones."""

    def __init__(
        self, gpu: Gpu, loaded: LoadedEngine, stream: core.Stream, before_drop: Callable[[TrtProgram], None]
    ) -> None:
        """`before_drop` waits for all work of a program."""
        self._gpu, self._loaded, self._stream, self._before_drop = gpu, loaded, stream, before_drop
        self._profiles = loaded.profiles()
        self._scratch = Scratch(gpu, loaded, stream)
        self._ready: dict[tuple[tuple[int, ...], ...], TrtProgram] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def batch_sizes(self) -> tuple[int, ...]:
        """Of a range of batch sizes, its ends and the powers of two between them."""
        sizes = set()
        for least, most in map(_batch, self._profiles):
            sizes |= {least, most} | {1 << power for power in range(most.bit_length()) if least <= 1 << power <= most}
        return tuple(sorted(sizes))

    def of(self, size: int, given: Shapes) -> TrtProgram:
        """The program for a batch of inputs of these shapes; those that are drawn instead have but one. Raises
        DeviceMemoryError, RequestError for pictures of a size that the engine does not take."""
        shapes = {name: given.get(name, (size, *best[1:])) for name, (_, best, _) in self._profiles[0].items()}
        key = tuple(shapes.values())
        if key not in self._ready:
            profile = self._profile(shapes)
            for oldest in list(self._ready.values())[: max(0, len(self._ready) - _MOST + 1)]:
                self.drop(oldest)
            self._ready[key] = self._made(shapes, profile)
        return self._ready[key]

    def drop(self, *programs: TrtProgram) -> None:
        """Give back what these have taken."""
        for program in programs:
            self._before_drop(program)
            program.close()
        self._ready = {key: program for key, program in self._ready.items() if program not in programs}
        self._scratch.keep(program.profile for program in self._ready.values())

    def drop_size(self, size: int) -> None:
        """Give back what batches of a size have taken."""
        self.drop(*(program for program in self._ready.values() if program.size == size))

    def close(self) -> None:
        """Free everything, after all work has been waited for."""
        self.drop(*self._ready.values())

    def _made(self, shapes: Shapes, profile: int) -> TrtProgram:
        try:
            return TrtProgram(self._gpu, self._loaded, shapes, profile, self._stream, self._scratch.piece(profile))
        except BaseException:
            self._scratch.keep(program.profile for program in self._ready.values())
            raise

    def _profile(self, shapes: Shapes) -> int:
        """The optimisation profile that takes these shapes, of several the one with the narrowest range of batches."""
        fitting = [i for i, profile in enumerate(self._profiles) if _takes(profile, shapes)]
        if not fitting:
            name = next(name for name in shapes if len(shapes[name]) == 4)
            least, _, most = self._profiles[0][name]
            raise RequestError(
                f"{name} has shape {shapes[name]}; this engine takes pictures of {least[2]} x {least[3]} to "
                f"{most[2]} x {most[3]}: give a tile, or build an engine for larger ones with `ganrt build --size`"
            )
        return min(fitting, key=lambda i: _batch(self._profiles[i])[1] - _batch(self._profiles[i])[0])


def _batch(profile: Profile) -> tuple[int, int]:
    """Least and largest batch size."""
    least, _, most = next(iter(profile.values()))
    return least[0], most[0]


def _takes(profile: Profile, shapes: Shapes) -> bool:
    bounds = [(profile[name][0], shape, profile[name][2]) for name, shape in shapes.items()]
    return all(a <= b <= c for least, shape, most in bounds for a, b, c in zip(least, shape, most, strict=True))
