"""The programs of a TensorRT engine, one for each shape, and the scratch memory that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cuda.core as core

from ganrt.errors import RequestError
from ganrt.gpu.device import Gpu
from ganrt.gpu.loaded_engine import LoadedEngine, Profile, get_scratch_bytes
from ganrt.gpu.program_cache import ProgramCache, Shapes
from ganrt.gpu.trt_program import TrtProgram


class ScratchMemory:
    """An engine's memory for intermediate values: one buffer per optimization profile. Programs of a profile share it,
    because they take turns on one stream."""

    def __init__(self, gpu: Gpu, engine: LoadedEngine, stream: core.Stream) -> None:
        self._gpu, self._engine, self._stream = gpu, engine, stream
        self._buffers: dict[int, core.Buffer] = {}

    def get_buffer(self, profile: int) -> core.Buffer | None:
        """Return the buffer of a profile, allocated on first use; None where TensorRT allocates its own for each
        program. Raises DeviceMemoryError."""
        size = get_scratch_bytes(self._engine, profile)
        if size is None:
            return None
        if profile not in self._buffers:
            self._buffers[profile] = self._gpu.allocate_memory(size, self._stream)
        return self._buffers[profile]

    def free_others(self, profiles: Iterable[int]) -> None:
        """Free the buffers of all other profiles."""
        for profile in set(self._buffers) - set(profiles):
            self._buffers.pop(profile).close(self._stream)


class TrtPrograms:
    """`DevicePrograms` of a TensorRT engine, made on first use."""

    def __init__(
        self, gpu: Gpu, engine: LoadedEngine, stream: core.Stream, before_close: Callable[[TrtProgram], None]
    ) -> None:
        """`before_close` waits for all work of a program."""
        self._gpu, self._engine, self._stream = gpu, engine, stream
        self._profiles = engine.list_profiles()
        self._scratch = ScratchMemory(gpu, engine, stream)
        self._cache: ProgramCache[TrtProgram] = ProgramCache(before_close)

    def __len__(self) -> int:
        return len(self._cache)

    def list_batch_sizes(self) -> tuple[int, ...]:
        """Return the batch sizes of the profiles, ascending; for a range, its ends and the powers of two between."""
        sizes = set()
        for least, most in map(_get_batch_range, self._profiles):
            sizes |= {least, most} | {1 << power for power in range(most.bit_length()) if least <= 1 << power <= most}
        return tuple(sorted(sizes))

    def get_program(self, size: int, given: Shapes) -> TrtProgram:
        """Return the program for a batch of `size` rows whose given inputs have these shapes; inputs that are drawn on
        the device have one shape only. Raises DeviceMemoryError, and RequestError for pictures of a size that the
        engine does not take."""
        shapes = {name: given.get(name, (size, *best[1:])) for name, (_, best, _) in self._profiles[0].items()}
        program = self._cache.get(shapes)
        if program is None:
            profile = self._choose_profile(shapes)
            program = self._cache.add(shapes, lambda: self._make_program(shapes, profile))
        return program

    def close_size(self, size: int) -> None:
        """Free what batches of a size have allocated."""
        self._cache.close_size(size)
        self._free_unused_scratch()

    def close(self) -> None:
        """Free everything, once all work is done."""
        if self._engine.runtime_cache is not None:
            self._engine.runtime_cache.save()  # kernels of profiles with a range are compiled at the first batch
        self._cache.close()
        self._free_unused_scratch()

    def _make_program(self, shapes: Shapes, profile: int) -> TrtProgram:
        self._free_unused_scratch()  # of a program that has just made room for this one
        try:
            scratch = self._scratch.get_buffer(profile)
            return TrtProgram(self._gpu, self._engine, shapes, profile, self._stream, scratch)
        except BaseException:
            self._free_unused_scratch()
            raise

    def _free_unused_scratch(self) -> None:
        self._scratch.free_others(program.profile for program in self._cache)

    def _choose_profile(self, shapes: Shapes) -> int:
        """Return the number of the profile that takes these shapes; of several, the narrowest range of batch sizes."""
        fitting = [i for i, profile in enumerate(self._profiles) if _profile_accepts(profile, shapes)]
        if not fitting:
            name = next(name for name in shapes if len(shapes[name]) == 4)
            least, _, most = self._profiles[0][name]
            raise RequestError(
                f"{name} has shape {shapes[name]}; this engine takes pictures of {least[2]} x {least[3]} to "
                f"{most[2]} x {most[3]}: give a tile, or build an engine for larger ones with `ganrt build --size`"
            )
        ranges = {i: _get_batch_range(self._profiles[i]) for i in fitting}
        return min(fitting, key=lambda i: ranges[i][1] - ranges[i][0])


def _get_batch_range(profile: Profile) -> tuple[int, int]:
    """Return the smallest and the largest batch size of a profile."""
    least, _, most = next(iter(profile.values()))
    return least[0], most[0]


def _profile_accepts(profile: Profile, shapes: Shapes) -> bool:
    bounds = [(profile[name][0], shape, profile[name][2]) for name, shape in shapes.items()]
    return all(a <= b <= c for least, shape, most in bounds for a, b, c in zip(least, shape, most, strict=True))
