"""Mutants: one-line faults that the tests must notice.

`make mutants` puts each into a copy of the tree, one at a time, and runs the tests that must fail.

To add one, add a row to FAULTS. When code on the list changes, tests/test_mutants.py asks for the new text.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SOURCES = ("ganrt", "export", "bench", "tests", "pyproject.toml")
_HANGS_S = 180
"""Tests of a mutant that take longer hang, which is a failure."""
PACKAGES = ("export", "bench")
"""Folders of the checkout that are installed inside ganrt."""


class Mutant(NamedTuple):
    """A fault: `old` becomes `new` in a file, and `tests` must fail."""

    file: str
    old: str
    new: str
    tests: str


FAULTS = {
    ("ganrt/photos/gif_blocks.py", "tests/core/test_photo_kinds.py"): [
        ("return kind == _END", "return kind != _PICTURE"),
    ],
    ("ganrt/photos/color_numbers.py", "tests/core/test_photo_kinds.py"): [
        ("& 0x40", "& 0x20"),
        ('or "srgb" in image.info', "or False"),
        ("file.seek(length + 4, 1)", "file.seek(length, 1)"),
    ],
    ("ganrt/photos/color_profiles.py", "tests/core/test_photo_kinds.py"): [
        ("NOOPTIMIZE if mode", "NONE if mode"),
        ("            flags=codecs.CMS.FLAGS.NOOPTIMIZE,\n", ""),
    ],
    ("ganrt/photos/tiff_pages.py", "tests/core/test_photo_kinds.py"): [
        ("if kind.associated and values.shape[2] == 4", "if False"),
        ("index=number", "index=0"),
    ],
    ("ganrt/photos/deep_pictures.py", "tests/core/test_photo_kinds.py"): [
        ("1 if values.shape[2] < 3 else 3", "values.shape[2]"),
    ],
    ("ganrt/photos/pixel_values.py", "tests/core/test_photo_kinds.py"): [
        ("turned = values is None and image.format", "turned = image.format"),
        ("*= 255 // (2**bits - 1)", "*= 1"),
        ('lost = "transparency" in image.info or bool', "lost = bool"),
    ],
    ("ganrt/photos/reader.py", "tests/core/test_photo_kinds.py"): [
        ("pixels += image.width", "pixels = image.width"),
    ],
    ("ganrt/photos/metadata.py", "tests/core/test_photo_kinds.py"): [
        ("else loops + 1 if loops else 0", "else loops"),
    ],
    ("ganrt/photos/formats.py", "tests/core/test_photo_writing.py"): [
        ("depth > 8 and bands > 1", "depth > 8 or bands > 1"),
    ],
    ("ganrt/photos/writer.py", "tests/core/test_photo_writing.py"): [
        ("<= SEGMENT", "<= 10**6"),
        ('subsampling": "4:4:4"', 'subsampling": "4:2:0"'),
        ("np.rint(np.cumsum([0.0, *milliseconds]))", "np.cumsum([0.0, *np.rint(milliseconds)])"),
    ],
    ("ganrt/least_size.py", "tests/core/test_picture_lists.py"): [
        ("min(height, width) < least", "max(height, width) < least"),
        ("[:1] for name", "for name"),
    ],
    ("ganrt/picture_lists.py", "tests/core/test_picture_lists.py"): [
        ("len(value) != count", "False"),
    ],
    ("ganrt/picture_inputs.py", "tests/core/test_picture_lists.py"): [
        ("if len(made) > 1", "if False"),
    ],
    ("ganrt/backends/openvino.py", "tests/core/test_picture_lists.py"): [("if shapes != self._shapes", "if True")],
    ("ganrt/agreement.py", "tests/core/test_agreement.py"): [
        ("self.psnr < threshold", "self.psnr > threshold"),
        ("found.std() < _FLAT * (high - low) and", "found.std() < _FLAT * (high + low) and"),
        ("expected.std() >= 2 * _FLAT", "expected.std() >= _FLAT"),
        ("> _SATURATED\n        and", "> _SATURATED\n        or"),
        ("value_range, 0.001)", "value_range, 0.002)"),
        ("value_range, 0.05) < _LIVELY", "value_range, 0.05) < 1.0"),
        ("away = margin * (high - low)", "away = margin"),
        ("np.where(finite, psnr, -np.inf)", "psnr"),
    ],
    ("ganrt/ncnn_format/arrangement.py", "tests/ncnn_format/test_operators.py"): [
        ('int(mode in (b"DCR", "DCR"))', 'int(mode not in (b"DCR", "DCR"))'),
        ("sides = {0: before[2], 1: after[2], 2: before[3], 3: after[3]}", "sides = {0: before[3], 2: before[2]}"),
        ('0 if node.attributes.get("ceil_mode", 0) else 1', '1 if node.attributes.get("ceil_mode", 0) else 0'),
        ("any(step != 1 for step in", "any(step == 0 for step in"),
    ],
    ("ganrt/ncnn_format/linear.py", "tests/ncnn_format/test_operators.py"): [
        ("kernel.swapaxes(0, 1)", "kernel"),
        ("{18: int(right), 19: int(bottom)}", "{18: int(bottom), 19: int(right)}"),
        ("builder.check_channels(node, kernel.shape[1] * groups)", "pass"),
        ("15: right,", "15: left,"),
    ],
    ("ganrt/ncnn_format/linear.py", "tests/ncnn_format/test_networks.py"): [
        ("if len(users) == 1 and", "if users and"),
    ],
    ("ganrt/ncnn_format/pointwise.py", "tests/ncnn_format/test_operators.py"): [
        ("_REVERSED.get(node.kind, _BINARY[node.kind])", "_BINARY[node.kind]"),
        ("beta - mean * scale", "beta + mean * scale"),
        ("None not in pair and 1 not in pair", "False"),
        ("side in (1, other)", "True"),
    ],
    ("ganrt/ncnn_format/network.py", "tests/ncnn_format/test_networks.py"): [
        ("if uses[name] < 2:", "if uses[name] < 3:"),
        (":.8e}", ":.9e}"),
        ("bytes(-len(data) % 4)", 'b""'),
    ],
    ("ganrt/ncnn_format/pixel_unshuffle.py", "tests/ncnn_format/test_networks.py"): [
        ("sides[3] == sides[5] > 0", "sides[3] > 0"),
        ('transposed.attributes["perm"] == _ORDER', "True"),
    ],
    ("ganrt/stores.py", "tests/core/test_stores.py"): [
        ("if self._intact.get((path, digest)) != state:", "if (path, digest) not in self._intact:"),
        ("if self._intact.get((path, digest)) != state:", "if True:"),
        ("self._intact[path, digest] = state\n        return digest", "return digest"),
        ("if size != self.size:", "if False:"),
        ("if hash_file(path) != self.sha256:", "if False:"),
        ("other.path == self.path", "True"),
    ],
    ("ganrt/zip_store.py", "tests/core/test_stores.py"): [
        ("if name not in files:\n", "if False:\n"),
        ("if member.file_size != files[name].size:", "if False:"),
        ("if member.filename in members:", "if False:"),
        ("if not stored or", "if"),
        ("members.values()) > self.path.stat().st_size:", "members.values()) < 0:"),
        ("if members[MANIFEST].file_size > MAX_MANIFEST:", "if False:"),
        ("if os.getpid() == process:", "if True:"),
        ("weakref.finalize(self, _remove, folder, os.getpid())", "pass"),
    ],
    ("ganrt/zip_store.py", "tests/export/test_packing.py"): [
        ("zipfile.ZipInfo(name, _DATE)", "zipfile.ZipInfo.from_file(folder / name, name)"),
    ],
    ("ganrt/packing.py", "tests/export/test_packing.py"): [
        ("left_out=changed", "left_out={}"),
        ("exported = {**bundle.files, **bundle.left_out}", "exported = bundle.files"),
        ("first.subset(_PER_RUN)", "first.subset(1)"),
        ("bundle.locate(file), folder / file", "bundle.folder / file, folder / file"),
    ],
    ("ganrt/trust.py", "tests/export/test_packing.py"): [
        ("next(filter(None, map(_read_proof, keys)), None)", "_read_proof(keys[0])"),
        ("_prove_now(bundle, variant, session, keys[0])", "_prove_now(bundle, variant, session, keys[-1])"),
        ("if proof.request in keys", "if proof.request == keys[0]"),
    ],
    ("export/precision/stored_weights.py", "tests/export/precision/test_stored_weights.py"): [
        (".error > 1.0:", ".error > 1e9:"),
        ("reverse=True", "reverse=False"),
        ('"Gemm": int(not read_attribute(node, "transB", 0))', '"Gemm": int(read_attribute(node, "transB", 0))'),
        ("array.size >= _FEWEST and", ""),
        ("<= _LARGEST_HALF", "<= np.inf"),
        ("if len(axes) == 1 and", "if"),
    ],
    ("export/lint/output_range.py", "tests/export/lint/test_output_range.py"): [
        ("if clipped >= _MARGIN:", "if clipped < _MARGIN:"),
        ("bounds.reach is Reach.LIMITED and", "bounds.reach is Reach.LIMITED or"),
        ("if usual is None and last - first", "if last - first"),
        ("first > middle - margin and last > middle + far", "first > middle + far"),
    ],
    ("export/lint/intervals.py", "tests/export/lint/test_output_range.py"): [
        ("reach = min(first.reach, second.reach) if alone", "reach = min(first.reach, second.reach) if True"),
        ("if second.low <= 0 <= second.high:", "if False:"),
        ("if padded else taken[0]", "if not padded else taken[0]"),
    ],
    ("export/lint/norm_calls.py", "tests/export/lint/test_norm_calls.py"): [
        ("axes = [0, *range(2, x.ndim)]", "axes = [*range(2, x.ndim)]"),
        ("part.track_running_stats = False", "part.track_running_stats = True"),
        ('given.get("eps", 1e-5)', "1e-5"),
    ],
    ("export/lint/class_count.py", "tests/export/lint/test_class_count.py"): [
        ("return high", "return low"),
        ("if run(_ANY) is None:", "if True:"),
        ("row |= fits[0]", "pass"),
    ],
    ("export/lint/training_mode.py", "tests/export/lint/test_training_mode.py"): [
        ("for size in (1, rows) if", "for size in (rows, 1) if"),
        ("part.training = strip_wrappers(name) in in_training", "part.training = True"),
    ],
    ("export/lint/tensorrt_parser.py", "tests/export/lint/test_tensorrt_parser.py"): [
        ("not 8 < channels <= 256", "not 8 <= channels < 256"),
        ("if strides != 1 and dilations != 1:", "if strides != 1 or dilations != 1:"),
        ("any(scales[:-most] != 1)", "any(scales[most:] != 1)"),
        ("constant is None or constant.any()", "constant is None or not constant.any()"),
    ],
    ("ganrt/flat_parts.py", "tests/core/test_flat_parts.py"): [
        ("flat = before < _FLAT**2", "flat = before > _FLAT**2"),
        ("self.found - self.original", "self.found + self.original"),
        ("count >= _FEWEST", "count >= 0"),
        ("np.clip(whole, low, high)", "whole"),
        ("np.abs(made.mean(axis=2) - original.mean(axis=2))", "made.mean(axis=2) - original.mean(axis=2)"),
    ],
    ("export/precision/pictures.py", "tests/export/precision/test_pictures.py"): [
        ("(held_out if fewer else calibration)", "calibration"),
        ("self._count + row + ahead", "self._count + row"),
        ('"symmetric"', '"edge"'),
        ("max if kind == 1 else min", "max"),
    ],
    ("export/precision/equalization.py", "tests/export/precision/test_equalization.py"): [
        ("_scale_constant(node, 2, 1 / made)\n    elif", "pass\n    elif"),
        ("values > 0) &", "values >= 0) &"),
        ("np.exp(np.clip(mean", "np.exp(-np.clip(mean"),
    ],
    ("export/precision/channel_groups.py", "tests/export/precision/test_equalization.py"): [
        ('read_attribute(node, "group", 1) == 1', "True"),
        ("for value in model.graph.outputs:", "for value in ():"),
    ],
    ("export/precision/rounding.py", "tests/export/precision/test_rounding.py"): [
        ("left[:, last:] -= errors", "left[:, last:] += errors"),
        ("/ self.pixels - np.outer(mean, mean)", "/ self.pixels"),
    ],
    ("export/precision/sensitivity.py", "tests/export/precision/test_stored_weights.py"): [
        ("left[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]", "pass"),
        ("_TRIES = 12", "_TRIES = 6"),
    ],
    ("export/precision/judge.py", "tests/export/precision/test_judge.py"): [
        ("errors = np.maximum(", "errors = np.minimum("),
        ("int(np.argmin(finite))", "0"),
        ("worst = int(np.argmax(errors))", "worst = int(np.argmin(errors))"),
        ("float(errors[worst])", "float(errors.mean())"),
    ],
    ("export/precision/trials.py", "tests/export/precision/test_judge.py"): [
        ("if choice not in self._measured:", "if True:"),
        ("if choice not in self._estimated:", "if True:"),
        ("self.measure(self._lowest).worst", "0"),
    ],
    ("export/precision/sensitivity.py", "tests/export/precision/test_int8.py"): [
        ("alone = {unit: estimate(unit)", "alone = {unit: error(unit)"),
        ("<= 1.5 * allowed and estimate(lowered) <= allowed and", "<= 1.5 * allowed and"),
        (
            "estimate(lowered) <= allowed and error(lowered) <= allowed:\n            break",
            "estimate(lowered) <= allowed:\n            break",
        ),
    ],
    ("export/precision/half_quantization.py", "tests/export/precision/test_half_quantization.py"): [
        ('node.op_type == "Conv" and node.name not in islands', 'node.op_type == "Conv"'),
        ("above = np.nextafter(nearest, np.float16(np.inf))", "above = nearest"),
        ("if per_channel else None)", ")"),
        ('if precision == "int8" else ():', 'if precision == "fp8" else ():'),
        ("while per_channel and", "while not per_channel and"),
        ("key=alone.__getitem__)", "key=alone.__getitem__, reverse=True)"),
        ("np.rint(clipped).astype", "clipped.astype"),
        ("headroom * float(found.peaks.max())", "found.high"),
        (
            "key = (str(node.name), numbers.precision, scales[layer.name])",
            "key = (str(node.name), numbers.precision, True)",
        ),
    ],
    ("ganrt/gpu/runtime_cache.py", "tests/gpu/test_tensorrt_rtx.py"): [
        ("strategies.NONE if static", "strategies.NONE if not static"),
        ("lib.CudaGraphStrategy.DISABLED", "lib.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE"),
        ("if self._known and not cache.deserialize", "if not self._known and not cache.deserialize"),
        ("if not config.set_runtime_cache(cache)", "if config.set_runtime_cache(cache)"),
        ("            self.save()", "            pass"),
        ("or not kernels or kernels == self._known", "or not kernels or kernels != self._known"),
        ("if hashlib.sha256(kernels).digest() != digest", "if not digest"),
    ],
    ("ganrt/gpu/trt_program.py", "tests/gpu/test_tensorrt_rtx.py"): [
        ('self.__dict__.pop("_context", None)', "pass"),
        ("is_rtx and not self._context.is_stream_capturable", "is_rtx and self._context.is_stream_capturable"),
    ],
    ("ganrt/gpu/trt_programs.py", "tests/gpu/test_tensorrt_rtx.py"): [
        ("self._engine.runtime_cache.save()", "pass"),
    ],
    ("ganrt/gpu/engine_cache.py", "tests/gpu/test_tensorrt_rtx.py"): [
        ("if listed or later:", "if listed:"),
        ("_parse_version(machine.capability) >= (8, 0)\n        if listed", "True\n        if listed"),
        ("json.dumps([plan_sha256, asdict(machine)]", "json.dumps([plan_sha256]"),
    ],
    ("ganrt/gpu/loaded_engine.py", "tests/gpu/test_lean_runtime.py"): [
        ("ctypes.pythonapi.Py_IncRef(ctypes.py_object(runtime))", "pass"),
        ("    if library.log.has_errors:", "    if False:"),
    ],
    ("export/engines/inspection.py", "tests/export/engines/test_build.py"): [
        ("if not _WHOLE.search(_join_texts(layer))", "if True"),
        ("if not shares and not strongly_typed:", "if not shares:"),
        ("if shares and precision not in shares:", "if precision not in shares:"),
    ],
    ("export/engines/compiler.py", "tests/export/engines/test_compiler.py"): [
        ("        self.close()\n        if self._is_killed", "        if self._is_killed"),
        ("            raise MachineError(_KILLED)\n        if status", "            pass\n        if status"),
        ('if "progress" not in answer:', 'if "progress" in answer:'),
        ("            progress(answer", "            (answer"),
    ],
    ("export/engines/compile_worker.py", "tests/export/engines/test_compiler.py"): [
        ("os.dup2(2, 1)", "pass"),
        ("except GanrtError as error:", "except KeyError as error:"),
    ],
    ("export/engines/builder.py", "tests/export/engines/test_compiler.py"): [
        ("@redirect_to_stderr()\ndef build_plan", "def build_plan"),
    ],
    ("export/engines/builder.py", "tests/gpu/test_tensorrt_rtx.py"): [
        ("config.set_flag(lib.BuilderFlag.REQUIRE_USER_ALLOCATION)", "pass"),
        ("config.num_compute_capabilities = len(targets)", "pass"),
    ],
    ("export/engines/ahead.py", "tests/export/engines/test_compiler.py"): [
        ("            del reasons[targets[0]]", "            pass"),
        ('if precision == "fp8" and target not in FP8_TARGETS', 'if precision == "fp8"'),
        ('precision == "int8" and "sm75" in', 'precision == "int8" or "sm75" in'),
    ],
    ("export/engines/turing.py", "tests/export/engines/test_turing.py"): [
        ('weight if numbers.get("transB", 0) else weight.T', "weight.T"),
        ('numbers.get("beta", 1.0) != 1.0', "False"),
        ("tensor.dtype != ir.DataType.FLOAT", "False"),
        ("bias.shape[:-1] not in ((), (1,)) or", ""),
    ],
    ("export/precision/calibration.py", "tests/export/precision/test_half_quantization.py"): [
        ("ends = (share * most", "ends = (most"),
    ],
    ("export/variants.py", "tests/export/test_gpu_variants.py"): [
        ("if self._fewer_macs or form == TRACED:", "if form == TRACED:"),
        ("return TRACED if find_half_layers(", "return TRACED if not find_half_layers("),
        ("for_gpu = form == TRACED and len(forms) > 1", "for_gpu = form == TRACED"),
        ("self._fewer_macs and form != TRACED", "self._fewer_macs"),
        ('if precision == "fp8":', "if True:"),
        ("beside = (TRACED,) if self._options.for_gpu else ()", "beside = (TRACED,)"),
    ],
    ("export/exporter.py", "tests/export/precision/test_runners.py"): [
        ("worst.worst_psnr < quality:", "worst.worst_psnr > quality:"),
        ("if judged and all(", "if judged and any("),
        ("_FLAT_STEP = 1.0", "_FLAT_STEP = -1.0"),
    ],
    ("export/exporter.py", "tests/export/test_gpu_variants.py"): [
        ('variant.precision != "fp8" and name', "name"),
        ("(found.bundle.variant(name).file, f", "(f"),
    ],
    ("export/passes/pipeline.py", "tests/export/test_gpu_variants.py"): [
        ("_FOR_CPU = (AFFINE, PACKING)", "_FOR_CPU = (PACKING,)"),
    ],
    ("bench/cases.py", "tests/bench/test_tune.py"): [
        ("if gpu or not variant.for_gpu", "if gpu or variant.for_gpu"),
        ("if gpu or not variant.for_gpu", ""),
    ],
    ("bench/gpu/runner.py", "tests/bench/test_gpu_steps.py"): [
        ("if self.rehearsal:", "if not self.rehearsal:"),
        ("os.killpg(process.pid or 0, signal.SIGKILL)", "os.killpg(process.pid or 0, 0)"),
        ('"failed", f"its process {how}"', '"passed", f"its process {how}"'),
    ],
    ("bench/gpu/session_checks.py", "tests/bench/test_gpu_steps.py"): [
        ("if not drift < 1e-3:", "if drift < 1e-3:"),
        ("if warnings:", "if not warnings:"),
    ],
    ("bench/gpu/kernel_checks.py", "tests/bench/test_gpu_steps.py"): [
        ("right.dtype or different:", "right.dtype and different:"),
        ("marked[-1] = broken is not None", "marked[0] = broken is not None"),
    ],
    ("ganrt/proving.py", "tests/core/test_proving.py"): [
        ("if not drift <= allowed", "if drift > allowed"),
        ("turned = np.roll(np.arange(count), 1)", "turned = np.arange(count)"),
        ("(run_rows(np.zeros(1, int)), found[:1])", "(run_rows(np.zeros(2, int))[:1], found[:1])"),
        ("(copies[:1], found[:1])", "(copies[:1], copies[:1])"),
        ("        (copies, copies[:1]),\n", "        (copies[:1], copies[:1]),\n"),
        ("(again, alone), moved", "(alone, alone), moved"),
        ("found[rows[1:]]), found[:1]", "mixed[1:]), found[:1]"),
        ("moved, (copies, copies[:1])", "moved, (copies[:1], copies[:1])"),
        ("(mixed[:1], first)", "(first, first)"),
        ("single[_CHECKS[0]] = float(np.maximum(mixed[_CHECKS[0]], single[_CHECKS[0]]))", "pass"),
        ("(alone, first))", "(first, first))"),
        ("rows[1::2] = 1 + (np.arange(count // 2) - 1) % others", "rows[1::2] = 0"),
        ("(np.arange(count // 2) - 1) % others", "np.arange(count // 2) % others"),
        ("max(_FEWEST_MIXED, _count_rows(images, found))", "_count_rows(images, found)"),
        ("return (single if any(_describe_drifts(single, allowed)) else mixed), allowed", "return single, allowed"),
        ("max(high - low,", "min(high - low,"),
        ("if session.slow:", "if False:"),
        ("neginf=-1e9", "neginf=1e9"),
    ],
    ("ganrt/trust.py", "tests/core/test_trust.py"): [
        ("if p.key in keys", "if True"),
        ("if p.key in keys", "if p.key not in keys"),
        ("if p.key in keys", "if p.backend == session.backend"),
        ("proof if proof.key == key else None", "proof"),
        (', "processor": cpu_name()', ""),
        ('"device": session.device,\n', "\n"),
        ('"precision": session.precision,\n', "\n"),
        ('"details": dict(session.details),\n', "\n"),
        ('"spec": bundle.spec.to_dict(),', ""),
        ("if not proof.passed:", "if proof.passed:"),
    ],
    ("ganrt/trust.py", "tests/export/test_refusals.py"): [
        ("if proof.request in keys", "if True"),
        ("if proof.request in keys", "if proof.request not in keys"),
        ("if proof.request and not proof.passed", "if proof.request"),
        ("or entry.prebuilt", ""),
        (
            '"versions": {"ganrt": __version__, **_library_versions(config.backend)},',
            '"versions": {"ganrt": __version__},',
        ),
        ('"gpu": nvidia_details(),', ""),
        (
            '"device": _resolve_device(config.device),\n        "precision"',
            '"device": config.device,\n        "precision"',
        ),
    ],
    ("ganrt/opening.py", "tests/export/test_refusals.py"): [
        ("if not unproven:\n        reject_refused", "if unproven:\n        reject_refused"),
        ("    if not unproven:\n        reject_refused(bundle, config)\n", ""),
    ],
    ("ganrt/bundle.py", "tests/core/test_bundle.py"): [
        ("if gpu or not self.variants[name].for_gpu", ""),
        ("(not gpu and _FEWER_IDLE_LANES", "(_FEWER_IDLE_LANES"),
        ("return not less, not variant.for_gpu,", "return not less, variant.for_gpu,"),
    ],
    ("ganrt/bundle.py", "tests/export/test_refusals.py"): [
        (" and proof.request not in requests", ""),
    ],
    ("export/verification.py", "tests/export/test_refusals.py"): [
        ("if entry.graphs}", "if True}"),
        ("if not self.is_proven(name)]", "]"),
        ("if named:\n                    raise", "if not named:\n                    raise"),
        ("or not any(modules)", ""),
    ],
    ("ganrt/feeds.py", "tests/core/test_feeds.py"): [
        ("draw.labels is None or item is not spec.find(Label)", "draw.labels is None"),
        ("draw.labels == DRAWN, drawn", "draw.labels != DRAWN, drawn"),
        ("if item.name == TRUNCATION:", "if False:"),
        ('draw.truncation if item.truncation == "resampled" else None', "draw.truncation"),
        ("if own[2:] != other[2:]", "if own[2:3] != other[2:3]"),
        ("if own[2:] != other[2:]", "if own[3:] != other[3:]"),
        ("(array >= item.range[0]) & (array <= item.range[1])", "(array > item.range[0]) & (array <= item.range[1])"),
        ("side > 0 and side % item.multiple_of == 0", "side > 0"),
        ("PICTURE_STREAM + spec.images.index(item)", "PICTURE_STREAM"),
        ("array.dtype != _dtype_of(item) or", ""),
    ],
    ("ganrt/feeds.py", "tests/core/test_shared_batches.py"): [
        ("not (is_whole(seed) and seed == 0)", "not seed == 0"),
        ("if name not in given", "if name in given"),
        ("if not set(missing) - chosen and not", "if not"),
        ("[:, None]\n    else", "[:1, None]\n    else"),
    ],
    ("ganrt/sample_request.py", "tests/core/test_sample_request.py"): [
        ("isinstance(self.start, int) and isinstance(self.seed, int)", "isinstance(self.start, int)"),
        ("self.start + first)", "self.start)"),
        ("value[first : first + rows]", "value[:rows]"),
        ("and request.start + rows > MAX_64", "and request.start + rows >= MAX_64"),
        ("if length != rows:", "if length > rows:"),
        ("is_whole(value) and self.low", "self.low"),
        ("self.low <= int(value)", "self.low < int(value)"),
        ("int(value) <= self.high", "int(value) < self.high"),
        ("float(value) <= self.high", "float(value) < self.high"),
        ("if _is_unset(given.get(name)):", "if False:"),
        ("MAX_64 - max(n, 1)", "MAX_64 - n"),
        ("type(value) is int and 0 <= value <= largest", "type(value) is int and 0 <= value"),
        ("and rule.accepts(plain.max())", ""),
        ("plain.size and rule.accepts(plain.min())", "plain.size"),
        ("if math.isnan(number) else number", "if False else number"),
        ("not isinstance(plain, str | bytes)", "True"),
        ("np.isnan(self.truncation), default, self.truncation", "np.isnan(self.truncation), self.truncation, default"),
    ],
    ("ganrt/sampling.py", "tests/core/test_generator.py"): [
        ("draw_ahead.draw(request, first + batch.first,", "draw_ahead.draw(request, batch.first,"),
        ("Batch(0, batch.rows, batch.size)", "Batch(0, batch.rows, batch.rows)"),
    ],
    ("ganrt/draw_ahead.py", "tests/core/test_draw_ahead.py"): [
        ("if 2 * rows > self._most or", "if rows > self._most or"),
        ("request.labels, request.truncation)", "request.labels, None)"),
        ("block.first <= number <= block.end", "number <= block.end"),
        ("number + rows <= block.end)", "number < block.end)"),
        ("block.first <= number <= block.end", "block.first <= number < block.end"),
        ("max(1, wanted // rows) * rows", "max(rows, wanted)"),
        ("array.flags.writeable = False", "pass"),
        ("place = number - block.first", "place = 0"),
        ("isinstance(item, Label) else 1", "isinstance(item, Label) else 0"),
    ],
    ("ganrt/generator.py", "tests/core/test_turns.py"): [
        ("run(batching.take_turn(first, left, self._lock))", "run(iter([first, *left]))"),
        ("            with self._lock:\n                run(", "            if True:\n                run("),
    ],
    ("ganrt/generator.py", "tests/core/test_shared_batches.py"): [
        ("labels=feeds.draw_classes(self.spec, draw)", "labels=draw.labels"),
    ],
    ("ganrt/gpu/latents.py", "tests/gpu/test_latents.py"): [
        ("draw.labels if item is spec.find(Label) else None", "draw.labels"),
        ('item.truncation == "resampled" and draw', "draw"),
        ("draw.fill_truncation(item.default).astype(np.float32)", "np.ones(draw.rows)"),
    ],
    ("ganrt/gpu/latents.py", "tests/gpu/test_tensorrt_pictures.py"): [
        ("self._tables[slot]", "self._tables[0]"),
        ("table.write(plan.table)", "pass"),
    ],
    ("ganrt/shards/rows.py", "tests/shards/test_rows.py"): [
        ("(draw.seeds == draw.seeds[:1]).all() and", ""),
        ("draw.indices if in_order else ", "draw.indices if True else "),
        ("if value == value", ""),
        ("isinstance(request.seed, int) and ", ""),
    ],
    ("ganrt/shards/writer.py", "tests/shards/test_writer.py"): [
        ("if is_stopped():", "if False:"),
        ("yield _Part(shard, first, min(size, end - first))", "yield _Part(shard, first, size)"),
        ("while len(waiting) > 2 * workers:", "while False:"),
    ],
    ("ganrt/shards/job.py", "tests/shards/test_writer.py"): [
        ("if _is_missing(folder / name):", "if True:"),
        (" or path.stat().st_size == 0", ""),
        ("not there.issuperset(", "there.isdisjoint("),
    ],
    ("ganrt/shards/folder.py", "tests/shards/test_folder.py"): [
        ("return not head or PNG_MARK in head", "return True"),
        ("        return has_record\n", "        return True\n"),
    ],
    ("ganrt/shards/formats.py", "tests/shards/test_formats.py"): [
        ("% sum(header)", "% (sum(header) + 1)"),
        ("-size % tarfile.RECORDSIZE", "0"),
        ('if "label" in about:', "if False:"),
    ],
    ("ganrt/cli/repetitions.py", "tests/cli/test_repetitions.py"): [
        ("not option.multiple and ", ""),
        ("not option.is_flag or bool(option.secondary_opts)", "True"),
        (" or bool(option.secondary_opts)", ""),
    ],
    ("ganrt/cli/sample_job.py", "tests/cli/test_sample_job.py"): [
        ("            shards.clear_folder(out)", "            pass"),
        ("        shards.remove_drafts(out)", "        pass"),
        ("if there and not overwrite and record", "if there and record"),
        ('"the same command without --overwrite" if overwrite else ', ""),
    ],
    ("ganrt/levels.py", "tests/core/test_levels.py"): [
        ("item.mean is None and item.std is None and", "item.mean is None and"),
        ('item.std is None and item.order == "rgb"', "item.std is None"),
        ("(2, 1, 0, 3)[:channels]", "(2, 1, 0)[:channels]"),
        ("((plain[0] - centre) / width, ", "((plain[0] - centre) * width, "),
        ("return min(low for", "return max(low for"),
        ("return min(high - low for", "return max(high - low for"),
        ("(images[:, levels.places] - ", "(images - "),
    ],
    ("ganrt/normalization.py", "tests/core/test_levels.py"): [
        ("all(low <= value <= high", "all(low < value <= high"),
        ("all(low <= value <= high", "all(low <= value < high"),
        ("value > 0 and _fits_float32(low, high, value)", "_fits_float32(low, high, value)"),
        ("(high - low) / std > 1 / _MOST and ", ""),
        (" and max(abs(low), abs(high)) / std < _MOST", ""),
        ("channels not in (3, 4)", "channels == 1 and False"),
    ],
    ("ganrt/images.py", "tests/core/test_levels.py"): [
        ("planes = planes[:, levels.places]", "pass"),
        ("levels.places if isinstance(levels, ChannelRanges) else range(channels)", "range(channels)"),
    ],
    ("ganrt/images.py", "tests/core/test_images.py"): [
        ("sheet[..., 3:] = 0", "sheet[..., 3:] = 24"),
        ("(down + right) % 2", "down % 2"),
        ("board * (1 - opacity)", "board * opacity"),
        ("if channels not in MODES", "if channels in MODES"),
    ],
    ("ganrt/spec.py", "tests/core/test_levels.py"): [
        ("if raw.get(field, usual) == usual:", "if True:"),
        ("if raw.get(field, usual) == usual:", "if False:"),
    ],
    ("ganrt/proving.py", "tests/core/test_levels.py"): [
        ("values = undo_normalization(images, find_levels(spec.output))", "values = images"),
        ("undo_normalization(found, levels) - ", "found - "),
    ],
    ("ganrt/agreement.py", "tests/core/test_levels.py"): [("(undo_normalization(images, levels) for", "(images for")],
    ("ganrt/synthetic.py", "tests/core/test_levels.py"): [(", find_levels(item))", ", item.range)")],
    ("ganrt/transform.py", "tests/core/test_levels.py"): [("find_levels(item))", "item.range)")],
    ("ganrt/serve/photos.py", "tests/serve/test_images_api.py"): [
        ("if size[0] * size[1] > most_pixels:", "if size[0] * size[1] >= 2**40:"),
        ("    if animated:", "    if False:"),
    ],
    ("ganrt/serve/rows.py", "tests/serve/test_batcher.py"): [
        ('self.key = ("pictures", self._windows.value_type, *', 'self.key = ("pictures", *'),
        ("                _reject_small(generator, feeds)", "                pass"),
    ],
    ("ganrt/luma.py", "tests/core/test_luma.py"): [
        ("2 * (1 - _BLUE), 2 * (1 - _RED)", "2 * (1 - _RED), 2 * (1 - _BLUE)"),
        ("middle = (peak + 1) // 2", "middle = 128"),
        ("(new - _RED * red - _BLUE * blue) / _GREEN", "new"),
    ],
    ("ganrt/folder_lock.py", "tests/shards/test_folder.py"): [
        ("fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
    ],
    ("ganrt/cli/picture_tasks.py", "tests/cli/test_picture_tasks.py"): [
        ("not (inside and path.resolve().is_relative_to(made))", "not path.resolve().is_relative_to(made)"),
        ("inside and path.resolve()", "False and path.resolve()"),
        ("often[name] > 1 and source.suffix != name.suffix", "often[name] > 1"),
        ("if target.resolve() == source.resolve():", "if False:"),
        ('[*names, *links] if not name.startswith(".")', "[*names, *links]"),
        ('for name in folders if not name.startswith(".")', "for name in folders"),
    ],
    ("ganrt/cli/picture_job.py", "tests/cli/test_transform.py"): [
        ("return made >= max(source.st_mtime_ns, source.st_ctime_ns)", "return True"),
        ("            if folder / name in begun:", "            if True:"),
        ("        return not replaces", "        return True"),
        ("            if not failures:\n", "            if True:\n"),
        ("hashlib.sha256(os.fsencode(names))", 'hashlib.sha256(b"")'),
    ],
    ("ganrt/cli/picture_pipeline.py", "tests/cli/test_transform.py"): [
        ("                if not self.keep_going:", "                if self.keep_going:"),
        ("                if is_stopped():", "                if False:"),
    ],
    ("export/lint/named_outputs.py", "tests/export/lint/test_named_outputs.py"): [
        ("if isinstance(found.get(name), Tensor):", "if name in found:"),
        ("run.result = found[name]", "pass"),
    ],
    ("export/lint/findings.py", "tests/export/lint/test_named_outputs.py"): [
        ("if named[0]:", "if False:"),
        ("if isinstance(name, str)}", "}"),
    ],
    ("export/precision/pictures.py", "tests/export/test_normalization.py"): [("4 if transparent else 3", "3")],
    ("export/contact_sheet.py", "tests/export/test_normalization.py"): [
        ("np.maximum(difference[:, :3], difference[:, 3:])", "difference[:, :3]"),
    ],
    ("ganrt/synthetic.py", "tests/core/test_synthetic.py"): [
        ("values[:, coarse:]", "values[:, :fine]"),
        ("elif first <= last:", "elif first < last:"),
        ("kind in CLASS_MAPS and item.channels > 1", "kind in CLASS_MAPS"),
        ("levels=2 if kind in MASKS else None", "levels=None"),
    ],
    ("ganrt/golden.py", "tests/core/test_golden.py"): [
        ("first == second", "False"),
        ("_WORK // (len(_RUNS) * max(1, macs))", "_WORK"),
        ("(k + place) % len(others)", "k % len(others)"),
        ("shape[2:] != output_size(spec, group.sizes)", "False"),
        ("array.dtype not in (np.uint8, np.float32) or", ""),
    ],
    ("export/lint/sizes.py", "tests/export/lint/test_sizes.py"): [
        ("images.shape[2:] != wanted", "False"),
        ("worst >= self.floor", "worst >= 0"),
        ("checked._replace(floor=FLOOR)", "checked"),
        ("not any(guard.divides for guard in broken)", "not broken"),
        ("if trial and trial.in_graph:\n                yield", "if False:\n                yield"),
        ("growth < 1.2", "growth < 9.0"),
    ],
    ("export/lint/difference.py", "tests/export/lint/test_difference.py"): [
        ("high = middle", "high = middle + 1"),
        ("<= tolerance * largest", "<= largest"),
        ("and not _is_right(", "and _is_right("),
    ],
    ("ganrt/json_reader.py", "tests/core/test_json_reader.py"): [
        ("len(content) > limit", "len(content) >= limit"),
        ("read(limit + 1)", "read(limit)"),
        ("parse_constant=reject", "parse_constant=float"),
        ("kind in (int, str, bool) and type(raw) is kind", "kind in (int, str, bool) and isinstance(raw, kind)"),
        ("or len(raw) != len(parts)", ""),
        ("if unknown := sorted(set(raw) - set(known)):", "if unknown := sorted(set(known) - set(raw)):"),
        ("f.default is MISSING and", ""),
        ("if raw is None and types.NoneType in parts", "if raw is None"),
    ],
    ("ganrt/checks.py", "tests/core/test_checks.py"): [
        ("value >= minimum", "value > minimum"),
        ("value <= maximum", "value < maximum"),
        ("int | np.integer) and not isinstance(value, bool)", "int | np.integer)"),
    ],
    ("ganrt/cache.py", "tests/core/test_cache.py"): [
        ("status.st_uid != os.getuid() or", ""),
        ("0o022", "0o002"),
        ("0o022", "0o020"),
        ("mode=0o700", "mode=0o755"),
        ("if own and not Path(own).is_absolute():", "if False:"),
        ("if not root.is_absolute():", "if False:"),
        ("except RuntimeError:", "except KeyError:"),
        ("(FileNotFoundError, NotADirectoryError)", "FileNotFoundError"),
        ("_has_warned = True", "pass"),
        ("os.W_OK | os.X_OK", "os.X_OK"),
    ],
    ("ganrt/cgroups.py", "tests/core/test_cgroups.py"): [
        ("min(quotas, default=None)", "max(quotas, default=None)"),
        ("and int(quota) and int(period)", "and int(quota)"),
        ('or ["max"]), "100000"]', 'or ["100000"]), "100000"]'),
        ("0 < limit < _UNLIMITED", "0 < limit"),
        ('if ".." in below.parts:', "if False:"),
        ("(below, *below.parents)", "(below,)"),
        (".relative_to(mount.root)", '.relative_to("/")'),
        ("and controller in last[2]", 'and "cgroup" != last[2]'),
        ("chr(int(found[1], 8))", "found[0]"),
    ],
    ("ganrt/machine.py", "tests/core/test_machine.py"): [
        ("math.ceil(quota)", "math.floor(quota)"),
        ("allowed if quota is None else min(allowed, ", "allowed if quota is None else max(allowed, "),
        ("None if usable == machine_cores() else usable", "usable"),
        ("int(os.process_cpu_count() or 1)", "len(os.sched_getaffinity(0))"),
    ],
    ("ganrt/telemetry.py", "tests/core/test_telemetry.py"): [
        ("if not os.environ.get(_ONNXRUNTIME):", "if True:"),
        ("if found is missing:", "if found is not missing:"),
        ("sys.modules[_OPENVINO] = None", "sys.modules[_OPENVINO] = sys"),
    ],
    ("ganrt/current_folder.py", "tests/core/test_current_folder.py"): [
        ('os.chdir("/")', "pass"),
        ("os.fchdir(deleted)", "pass"),
    ],
    ("ganrt/backend.py", "tests/core/test_backend_table.py"): [
        ("for point in _entry_points() if point.name not in BACKENDS", "for point in _entry_points()"),
        ("return found if isinstance(found, Entry) else unknown", "return unknown"),
        ('{"cuda": e.gpu, "cpu": e.cpu', '{"cuda": True, "cpu": e.cpu'),
    ],
    ("ganrt/choosing.py", "tests/core/test_backend_table.py"): [
        ("entry is not None and entry.baseline", "False"),
        ("if baselines or not _is_baseline(name)", "if not _is_baseline(name)"),
        ("if baselines or not _is_baseline(name)", ""),
        ("and not _is_baseline(config.backend)", ""),
    ],
    ("ganrt/session_config.py", "tests/core/test_session_config.py"): [
        ("tuple(sorted(self.options.items()))", "tuple(self.options.items())"),
        ('if self.device in ("auto", "cpu")', 'if self.device in ("auto",)'),
    ],
    ("ganrt/gpu/program_cache.py", "tests/gpu/test_program_cache.py"): [
        ("self._programs[key] = self._programs.pop(key)", "pass"),
        ("[:surplus]", "[-surplus:]"),
        ("- self._capacity + 1, 0)", "- self._capacity, 0)"),
        ("program.size == size", "program.size != size"),
    ],
    ("export/passes/packing.py", "tests/export/passes/test_folding.py"): [
        ("(bias is None or read_constant(bias) is not None)", "True"),
        ("(bias is None or read_constant(bias) is not None)", "(bias is not None or read_constant(bias) is not None)"),
        ("(bias is None or read_constant(bias) is not None)", "(bias is None or read_constant(bias) is None)"),
        ('read_attribute(node, "blocksize")) % FACTOR == 0', 'read_attribute(node, "blocksize")) >= FACTOR'),
        ('read_attribute(node, "blocksize")) % FACTOR == 0', 'read_attribute(node, "blocksize")) % FACTOR != 0'),
        ('read_attribute(node, "blocksize")) % FACTOR == 0', 'read_attribute(node, "blocksize")) // FACTOR == 0'),
    ],
    ("export/passes/folding.py", "tests/export/passes/test_folding.py"): [
        ("pair is None or node.outputs[0].is_graph_output()", "pair is None"),
        ("pair is None or node.outputs[0].is_graph_output()", "node.outputs[0].is_graph_output()"),
        ("pair is None or node.outputs[0].is_graph_output()", "pair is None and node.outputs[0].is_graph_output()"),
    ],
    ("ganrt/batching.py", "tests/core/test_batching.py"): [
        ("* _PADDED > sizes[place]", "* _PADDED >= sizes[place]"),
        ("_PADDED = 3", "_PADDED = 2"),
        ("place > 0 and (sizes", "(sizes"),
        ("output.size or (1024, 1024)", "output.size or (512, 512)"),
        ("return max(1, min(_MAX_BATCH", "return min(1, min(_MAX_BATCH"),
        ("made.dtype != np.uint8 or", ""),
        ("(batch.rows, output.channels)", "(batch.rows, made.shape[3])"),
        ("first + count - 1)", "first + count)"),
        ("return images[: batch.rows]", "return images"),
        ("self.batches + 1", "self.batches - 1"),
        ("self.rows + size", "self.rows - size"),
        ("if len(running) > 1:", "if len(running) > 2:"),
        ("while not lock.has_waiters:", "while True:"),
        (
            "        for _, pending in running:\n            with suppress(Exception):",
            "        for _, pending in ():\n            with suppress(Exception):",
        ),
        ("with suppress(Exception):", "if True:"),
    ],
    ("ganrt/latents.py", "tests/core/test_latents.py"): [
        ("_ROUNDS = 10", "_ROUNDS = 8"),
        ("np.full((1, 1), stream, np.uint32)", "np.full((1, 1), 0, np.uint32)"),
        ("(key[1][::-1] + _KEY_STEPS[1])", "(key[1] + _KEY_STEPS[1])"),
        ("lows[1, 1, ::-1, ::-1]", "lows[1, 1, ::-1]"),
        ("stream, part.shape[1], left)", "stream, part.shape[1])"),
        ("np.copysign(top[count:], q[tail])", "top[count:]"),
        ("+ 0.5) * 2.0**-32", "+ 0.0) * 2.0**-32"),
        ("(high - low)[places]", "high[places]"),
        ("else start + first", "else start"),
        ("> MAX_64:", ">= MAX_64:"),
        ("(seed == seed[0]).all()", "True"),
        ("np.ascontiguousarray(values).view", "values.base.view"),
        ("start[rows] if isinstance(start, np.ndarray)", "start if isinstance(start, np.ndarray)"),
        ("seed[rows] if isinstance(seed, np.ndarray)", "seed if isinstance(seed, np.ndarray)"),
        ("low[rows] + u * width[rows]", "low[:1] + u * width[:1]"),
        ("0.0 if math.isnan(t)", "1.0 if math.isnan(t)"),
    ],
    ("ganrt/transform.py", "tests/core/test_transform.py"): [
        ("-side % item.multiple_of if", "side % item.multiple_of if"),
        ('"edge")', '"constant")'),
        ("int(tile) + 2 * compute_margin(spec)", "int(tile) + compute_margin(spec)"),
        ("math.prod(size) > choose_window_side(spec) ** 2", "math.prod(size) >= choose_window_side(spec) ** 2"),
        ("count_pixels_at_once(self._spec) // self.pixels", "512 * 512 // self.pixels"),
        ("pictures[picture if len(pictures) > 1 else 0]", "pictures[0]"),
        ("if cut else part", ""),
        ("tile + picture, windows.convert(", "picture, windows.convert("),
        ("tile < 0 or", ""),
    ],
    ("ganrt/transform.py", "tests/core/test_shared_batches.py"): [
        ("if item.name in given), default=1)", "if item.name in given), default=0) * 0 + 1"),
    ],
    ("ganrt/backend_options.py", "tests/core/test_backend_options.py"): [
        ("threads is None else", "not threads else"),
        ('require_whole("threads", threads, 0)', 'require_whole("threads", threads)'),
        ("default_threads() or 0", "0"),
        ("not isinstance(value, bool)", "value not in (True, False)"),
    ],
    ("ganrt/tiles.py", "tests/core/test_tiles.py"): [
        ("// spec.output.scale**2", "// spec.output.scale"),
        ("min(spec.output.reach or 0, MAX_OVERLAP)", "spec.output.reach or 0"),
        ("count_pixels_at_once(spec)) // rule * rule", "count_pixels_at_once(spec))"),
        ("most // height // rule * rule", "most // height"),
        ("most // height // rule", "most // rule"),
        ("width > 2 * margin", "width > 0"),
        ("min(found)[1:]", "max(found)[1:]"),
        ("_MARGINS * compute_margin(spec)", "0"),
        ("(length + 2 * margin * (count - 1))", "(length + 2 * margin * count)"),
        ("min(k * (wide - 2 * margin), length - wide)", "k * (wide - 2 * margin)"),
        ("start + wide - margin for", "start + wide for"),
        ("value + -value % multiple_of", "value"),
    ],
    ("ganrt/tuned.py", "tests/core/test_tuned.py"): [
        ("s >= batch", "s > batch"),
        ("sizes[-1])", "sizes[0])"),
        ("fits(c) and set(sizes)", "set(sizes)"),
        ("ratios.index(min(ratios))", "ratios.index(max(ratios))"),
        ("winner if winner in left else", "winner if winner in self.choices else"),
        ("self._winning_choices() if self.provisional else", ""),
        ("record.boot and record.boot == read_boot_id()", "record.boot == read_boot_id()"),
        ("record.boot and record.boot == read_boot_id()", "record.boot and record.boot != read_boot_id()"),
        ("earlier is not None and not earlier.provisional", "earlier is not None"),
        ("self.key != self.origin.make_key(self.versions)", "False"),
    ],
    ("ganrt/fleet.py", "tests/core/test_fleet.py"): [
        ("    if record.provisional:", "    if False:"),
        ("if record.provisional or record.origin is None", "if record.origin is None"),
        ("if choice.config.variant in here.variants", ""),
        ("there.processor != here.processor", "there.processor == here.processor"),
        ("there.cores != here.cores", "there.cores < here.cores"),
        ("there.gpu.keys() | here.gpu.keys()", "here.gpu.keys()"),
        ("record.versions.keys() | versions.keys()", "record.versions.keys()"),
        ("most > there.cores", "False"),
        ("record.origin.variants[name] != digest", "False"),
        ("if name not in record.origin.variants:", "if False:"),
        ("letter if letter.isprintable() else", "letter if True else"),
    ],
    ("bench/race.py", "tests/bench/test_race.py"): [
        ("self._all_tried and not rivals", "not rivals"),
        ("self._all_tried and not rivals", "self._all_tried"),
        ("if not _is_faster(best, base, batch)", "if False"),
        ("if not _is_faster(best, base, batch)", "if True"),
        ("_is_hopeless(other, one, batch) or", ""),
        ("low > 1)", "low > 2)"),
        ("if not _is_hopeless(r, best, batch)", ""),
        ("if r.baseline), best)", "if not r.baseline), best)"),
    ],
    ("bench/tuning.py", "tests/bench/test_tune.py"): [
        ("environment.foreign_share > BUSY)", "environment.foreign_share >= BUSY)"),
        ("if not winner.decided)", "if winner.decided)"),
        ('if undecided or disturbed else ""', 'if undecided else ""'),
        ("tuned.update_record(record)", "record"),
    ],
    ("ganrt/hub.py", "tests/core/test_hub.py"): [
        ('is None or ".." in path.split("/")', "is None"),
        ('folder.count("/") + 1 if folder else 0', "0"),
        ('HF_HUB_CACHE.startswith("~")', 'HF_HUB_CACHE.startswith("-")'),
        ("if self._has_external_data(name) else {}", "if False else {}"),
        ("if not _is_document(name)}", "}"),
        ("if _is_document(name) and read.store.exists(name)", "if _is_document(name)"),
        ('and not revision.startswith("refs/")', ""),
        ("return written if card.data.to_dict() == before else", "return"),
        ("if isinstance(read.store, BareStore):", "if False:"),
    ],
    ("ganrt/choosing.py", "tests/core/test_choosing.py"): [
        ('request.backend == "auto" and not any(on_gpu.values())', "not any(on_gpu.values())"),
        ('request.backend == "auto" and not any(on_gpu.values())', 'request.backend == "auto"'),
        ("backend != _OPENVINO", "backend == _OPENVINO"),
        ("if backend == _OPENVINO:", "if False:"),
        ("if backend == _OPENVINO:", "if True:"),
        ("number == 0 and", "number == 1 and"),
        ("self.variant is not None or self.precision", "self.precision"),
        ("config.options.get(name, _OFF.get(name)) == value", "True"),
        ("_OFF.get(name)", "None"),
        ("entry.gpu and (kind", "(kind"),
        ('or (kind == "auto" and has_nvidia_gpu())', 'or kind == "auto"'),
    ],
    ("ganrt/cli/demo.py", "tests/cli/test_demo.py"): [
        ('interpolation": resize(small, whole)', 'interpolation": original'),
        ("centre = (2 * column + 1) *", "centre = 0 *"),
    ],
    ("ganrt/weights/__init__.py", "tests/models/test_weights.py"): [("if name not in files:", "if False:")],
    ("ganrt/models/srvgg.py", "tests/models/test_weights.py"): [('mode="nearest"', 'mode="bilinear"')],
    ("export/engines/layers.py", "tests/export/engines/test_layers.py"): [
        ("(Corr|Deco|", "(Deco|"),
        ("|Deco|", "|"),
        ("ReshMulSum)", "MulSum)"),
        ("int(tag[1]) if tag else 0", "0"),
        ('found["kind"] not in _ON_HOST', "True"),
    ],
    ("ganrt/serve/row_queue.py", "tests/serve/test_row_queue.py"): [
        ("turn, left = job.turn_left or self.quantum,", "turn, left = self.quantum,"),
        ("(passed.insert(0, job) if job.turn_left else ended.append(job))", "ended.append(job)"),
        ("(passed.insert(0, job) if job.turn_left else ended.append(job))", "passed.insert(0, job)"),
        ("if job.rows.key != key:", "if False:"),
        ("if job.rows.key == rows.key:", "if True:"),
        ("limit = min(limit, rows.at_once)", "pass"),
        ("job.taken += share", "job.taken += rows"),
        ("self._weight += rows * job.rows.weight", "self._weight += rows"),
        ("max(0, job.waiting - most)", "(job.waiting - most)"),
        ("-(-rows // self.quantum) * self.quantum", "rows"),
        ("self._jobs.extendleft(reversed(passed))", "self._jobs.extendleft(passed)"),
        ("self._count(job, -job.waiting)", "pass"),
    ],
    ("ganrt/serve/batcher.py", "tests/serve/test_batcher.py"): [
        ("max(1, self._largest // 4)", "self._largest"),
        ("or self._queue.rows >= self._largest:", "or False:"),
        ("patience = self._longest_queue_s if timeout_s is None", "patience = self._longest_queue_s if True"),
        ("too_many = max(0, waiting + rows - self.most_rows)", "too_many = 0"),
        ("if not too_many and expected_s <= patience_s:", "if not too_many:"),
        ("if not is_last:", "if False:"),
        ("if moment >= self._next_deadline:", "if False:"),
        ("job.deadline <= moment", "job.deadline > moment"),
        ("if future.cancelled():", "if False:"),
        ("if part.first == 0:", "if part.first > 0:"),
        ("or len(self._queue) > 0", ""),
        ("self._largest = min(self._largest, rows // 2)", "pass"),
        ("if not part.job.is_settled]", "]"),
        ("            if job.is_settled:\n                return False\n", ""),
        ("if ready >= min(self._largest, oldest.rows.at_once) or left_s <= 0", "if left_s <= 0"),
        ('self._fail_all(error, "device")', "pass"),
        ("with self._turns:", "if True:"),
        ("plan_batches(ready, session.batch_sizes,", "plan_batches(ready, (),"),
    ],
    ("ganrt/serve/jobs.py", "tests/serve/test_batcher.py"): [
        ("left -= share", "pass"),
        ("Part(job, start + share, rows - share)", "Part(job, start, rows - share)"),
    ],
    ("ganrt/serve/drain_rate.py", "tests/serve/test_drain_rate.py"): [
        ("if self._draining:", "if False:"),
        ("self._weight, self._seconds, self._draining = 0.0, 0.0, True", "self._draining = True"),
        ("self._seconds = _DECAY * self._seconds + seconds", "self._seconds += seconds"),
    ],
    ("ganrt/serve/warm_up.py", "tests/serve/test_warm_up.py"): [
        ("if slower == 2 and not fixed:", "if slower == 2:"),
        ("if slower == 2 and not fixed:", "if slower == 1 and not fixed:"),
        ("rate >= _NEAR * max(rates.values())", "rate >= max(rates.values())"),
        ("return min(size", "return max(size"),
        ("or fixed[:1]", "or fixed"),
    ],
    ("ganrt/serve/byte_budget.py", "tests/serve/test_byte_budget.py"): [
        ("if self.bytes + count > budget.limit:", "if count > budget.limit:"),
        ("if budget.taken + count > budget.limit:", "if budget.taken + count >= budget.limit:"),
        ("self._budget.taken -= self.bytes - count", "pass"),
    ],
    ("ganrt/interpolation.py", "tests/core/test_interpolation.py"): [
        ('if item.distribution == "uniform" else', "if True else"),
        ('if item.distribution == "uniform" else', "if False else"),
        ("is_arc = np.sin(angle) > _PARALLEL", "is_arc = np.sin(angle) > 2.0"),
        ("np.sin((1 - amount) * angle) / sine", "np.sin(amount * angle) / sine"),
    ],
    ("ganrt/serve/order.py", "tests/serve/test_images_api.py"): [
        ("if getattr(order, name) is not None and not drawn:", "if False:"),
        ("if order.amount is not None and order.to_seed is None:", "if False:"),
        ("if order.n != largest:", "if False:"),
        ("if rows * height * width > most:", "if False:"),
    ],
    ("export/lint/circular_padding.py", "tests/export/lint/test_graph.py"): [
        ("(pads < 0).any() or", ""),
        ("or len(pads) != 2 * len(chosen)", ""),
        ("pads[: len(chosen)], pads[len(chosen) :]", "pads[::2], pads[1::2]"),
        ("parts.insert(0,", "parts.append("),
        ("-int(before), _END", "0, int(before)"),
    ],
    ("export/lint/graph_batch.py", "tests/export/lint/test_graph_batch.py"): [
        (">= FLOOR or _compare(module, spec, model, traced) < EXACT", "< -1"),
        ("_ROWS = 3", "_ROWS = 2"),
        ("find_freezing_place(module, spec, 0, 0)", "find_freezing_place(module, spec, 0, 2)"),
    ],
    ("export/passes/instance_norm.py", "tests/export/passes/test_instance_norm.py"): [
        ("sorted(axis % 4 for axis in axes.tolist()) == [2, 3]", "True"),
        ("if power == 2 else", "if power is not None else"),
        ("found.ndim <= 4", "found.ndim <= 5"),
        ("_read_mean(mean) is source and", ""),
        ("elif gain is None and other", "elif other"),
        ("(add.inputs, reversed(add.inputs))", "(add.inputs,)"),
        ("if _are_users(expected, made) else []", ""),
        ("None if _is_one(node.inputs[0]) else node.inputs[0]", "None"),
    ],
    ("export/sources/onnx_graph.py", "tests/export/test_onnx_files.py"): [
        ("math.prod(shape.tolist()) <= _FEW", "False"),
        ('if node.op_type == "Resize":', "if False:"),
    ],
    ("export/passes/simplify.py", "tests/export/passes/test_simplify.py"): [
        ('or node.domain != "" or node.outputs', "or node.outputs"),
        ("all(array.size for array in known)", "any(array.size for array in known)"),
        ("map(read_constant, node.inputs[1:])", "map(read_constant, node.inputs[2:])"),
        ("RemoveUnusedNodesPass()(model)\n    return", "pass\n    return"),
        ("any(len(n.inputs) > 3 and n.inputs[3] for n in (one, other))", "False"),
        ("or node.outputs[0].is_graph_output()", ""),
    ],
    ("export/sources/checkpoints.py", "tests/export/test_checkpoints.py"): [
        ("not _AVERAGED.search(name), not _GENERATORS", "not _GENERATORS"),
        ("if not key.endswith(_OPTIONAL)}\n    return", "}\n    return"),
        ("if likeness > best[0]:", "if likeness < best[0]:"),
        ("        if likeness == 0:\n            continue\n", ""),
    ],
    ("export/sources/ncnn_file.py", "tests/export/test_ncnn_bounds.py"): [
        ("if not np.isfinite(found).all():", "if np.isnan(found).any():"),
        ("if len(rows) != layer_count or layer_count > _MOST_LAYERS:", "if len(rows) != layer_count:"),
        ("if abs(value) > _LARGEST_FLOAT:", "if value > _LARGEST_FLOAT:"),
        ("[0-9]{1,10}", "[0-9]{1,100}"),
        ("_LARGEST_TEXT, CheckpointError", "_LARGEST, CheckpointError"),
    ],
    ("export/sources/ncnn_file.py", "tests/export/test_ncnn_files.py"): [
        ("start[:7] == str(MAGIC).encode()", "start[:6] == str(MAGIC).encode()"),
        ("tagged = len(start) == 8 and", "tagged ="),
        ('(tagged or path.with_suffix(".param").is_file())', "tagged"),
        ("if text[:4] == _MAGIC_BYTES:\n        raise", "if False:\n        raise"),
        ("if len(rows) != layer_count or layer_count > _MOST_LAYERS:", "if layer_count > _MOST_LAYERS:"),
        ("if len(words) < outputs_end:", "if len(words) < outputs_end - 1:"),
    ],
    ("export/sources/ncnn_layers.py", "tests/export/test_ncnn_bounds.py"): [
        (
            "if not isinstance(value, int) or not 0 <= value <= most:",
            "if not isinstance(value, int) or not value <= most:",
        ),
        ("_check_size(sum(part.shape[1] for part in parts), *parts[0].shape[2:])", "pass"),
        ("if not isinstance(value, int) or not 0 <= value <= most:", "if not 0 <= value <= most:"),
        ("if not isinstance(value, int | float):", "if False:"),
        ("if not isinstance(value, Sequence):", "if False:"),
        ("if kind == 2 and len(settings) == 1:", "if kind == 2:"),
        ("if kind not in (0, 1, 4) or settings:", "if kind not in (0, 1, 4):"),
        ("kind == 1 and all(factor == int(factor) for factor in factors)", "kind == 1"),
        ("_check_size(weight.shape[0], *x.shape[2:])", "pass"),
        ("layer.parameters.get(0) != 1 or len(shares)", "len(shares)"),
        ("or len(shares) != len(parts) or", "or"),
        ("len(others + scalar) != 1", "len(others + scalar) < 1"),
        ("_check_size(weight.shape[1], x.shape[2] * strides[0], x.shape[3] * strides[1])", "pass"),
        ("layer.parameters.get(0) != _BY_INPUT or", ""),
    ],
    ("export/sources/ncnn_layers.py", "tests/export/test_ncnn_files.py"): [
        ("allowed[number] not in (None, value)", "False"),
        ("if not size or not cell or size % cell:", "if not cell or size % cell:"),
        ("if not size or not cell or size % cell:", "if not size or not cell:"),
        ("    _check_size(*shape)\n    if not all", "    if not all"),
        ("if x.shape[2:] != (1, 1):", "if False:"),
        ("_check_size(x.shape[1], *sides)", "pass"),
    ],
    ("export/sources/ncnn_networks.py", "tests/export/test_ncnn_networks.py"): [
        ("rule.find_settings(layers, found.config)}", "{}}"),
        ("_TOLERANCE = 1e-5", "_TOLERANCE = 1e-1"),
        ("random.normal(0.0, 0.3", "random.normal(0.0, 0.0"),
    ],
    ("export/sources/onnx_file.py", "tests/export/test_onnx_bounds.py"): [
        ("if size > _LARGEST:", "if False:"),
        ("*(value.dtype for value in model.graph.inputs), ", ""),
    ],
    ("export/sources/onnx_file.py", "tests/export/test_onnx_files.py"): [
        ("_digest_files([path, *parts])", "_digest_files([path])"),
        ("step = self._batch or rows", "step = rows"),
    ],
    ("export/sources/onnx_interface.py", "tests/export/test_onnx_bounds.py"): [
        ("and sides[1] not in usual", ""),
        ("(*_CHANNELS, channels)", "_CHANNELS"),
    ],
    ("export/sources/onnx_interface.py", "tests/export/test_onnx_files.py"): [
        ("if missing and not spec.single:", "if False:"),
    ],
    ("export/sources/receptive_field.py", "tests/export/test_receptive_field.py"): [
        ("_CHANGES = (1.0, -1.0, 0.5)", "_CHANGES = (1.0,)"),
        ("_ROUNDING * (high - low)", "1e-2 * (high - low)"),
        ("* find_span(find_levels(item))", "* 1e-3"),
        ("if found is not None and has_reach(spec, run, found):", "if found is not None:"),
        ("range(side // 2, side // 2 + step)", "range(side // 2, side // 2 + 1)"),
        ("rows = apart // spec.output.scale", "rows = apart"),
    ],
    ("ganrt/models/file_kinds.py", "tests/models/test_file_kinds.py"): [
        ('and any(leaf.startswith("code/") for leaf in leaves)', ""),
        ('0 < int.from_bytes(head[:8], "little") < 2**30', "True"),
        ('if "data.pkl" in leaves:', "if False:"),
    ],
    ("ganrt/models/lama.py", "tests/models/test_published_networks.py"): [
        ("[picture * (1 - mask), mask]", "[picture, mask]"),
        ("replace(found, paste=True)", "found"),
    ],
    ("ganrt/models/network_pickle.py", "tests/models/test_network_pickle.py"): [
        ("count > _MOST_ENTRIES or len(prefix) > _LONGEST_PATH", "count > _MOST_ENTRIES"),
        ("self.left -= count * dtype.itemsize", "pass"),
        ("len(size) > _MOST_SIDES or", ""),
        ("0 <= number < 2**48", "number < 2**48"),
        ("0 <= number < 2**48", "0 <= number"),
        ("if count > available or (count and last >= available):", "if count and last >= available:"),
    ],
    ("ganrt/models/network_pickle.py", "tests/models/test_pickle_records.py"): [
        ("len(data) < first or ", ""),
        ("self.left -= count * dtype.itemsize", "self.left -= count"),
        ('or (">",) in order', ""),
        ("count > _MOST_ENTRIES or len(prefix) > _LONGEST_PATH", "len(prefix) > _LONGEST_PATH"),
        ("if code not in _NUMBERS or", "if"),
        ("for name in reversed(inner) if", "for name in inner if"),
        ("or len(data) != dtype.itemsize", "or len(data) < dtype.itemsize"),
        ("root = {_AVERAGED: root[_AVERAGED]}", "pass"),
        ("head[2:] != _TORCH_MAGIC", "True"),
        ("or not _is_call(call.arguments[0], _STORAGE)", ""),
        ("_DTYPES) for _ in range(5)", "_DTYPES) for _ in range(4)"),
        ("decode(root, 2)", "decode(root, 1)"),
        ("if isinstance(value, dict) and depth:", "if isinstance(value, dict):"),
        ("unsaved if isinstance(unsaved, set) else set()", "unsaved or set()"),
    ],
    ("ganrt/models/pickle_reader.py", "tests/models/test_network_pickle.py"): [
        ("if count == _LARGEST:", "if count == 10 * _LARGEST:"),
        ("if full not in self.names:", "if False:"),
        ("elif not isinstance(target, dict):", "elif False:"),
        ("except (LookupError, TypeError, AttributeError)", "except (LookupError, AttributeError)"),
        ("tuple(self.stack.pop() for _ in range(count))[::-1]", "tuple(self.stack.pop() for _ in range(count))"),
        ("machine.store(len(machine.memo))", "machine.store(len(machine.memo) + 1)"),
    ],
    ("ganrt/models/pickle_reader.py", "tests/models/test_pickle_records.py"): [
        ("if not isinstance(target, list):", "if False:"),
        ("if name.full in _DICTS and not arguments:", "if name.full in _DICTS:"),
        ("self.push(set(map(_check_key, arguments[0])))", "self.push(set(arguments[0]))"),
        ("if not isinstance(key, str | int):", "if not isinstance(key, str | int | tuple):"),
        ("zip(map(_check_key, items[::2])", "zip(items[::2]"),
        ("if full not in self.names:", "if full.partition('.')[0] not in str(self.names):"),
        ("except (LookupError, TypeError, AttributeError)", "except (LookupError, TypeError)"),
        ("except (LookupError, TypeError, AttributeError)", "except (TypeError, AttributeError)"),
    ],
    ("ganrt/models/r3gan.py", "tests/models/test_r3gan.py"): [
        ("[z, self.embedding(c)]", "[self.embedding(c), z]"),
        ("_FILTER = (0.25, 0.75, 0.75, 0.25)", "_FILTER = (0.25, 0.75, 0.75, 0.5)"),
    ],
    ("ganrt/models/spade.py", "tests/models/test_spade.py"): [
        ("(1 + self.mlp_gamma(hidden))", "self.mlp_gamma(hidden)"),
        ("(u.shape, v.shape) != (weight.shape[:1], (weight[0].numel(),))", "u.shape != weight.shape[:1]"),
        ("if self.crop_size % self.factor:", "if False:"),
        ("side * side == pixels", "True"),
        ("self.ngf < 2", "self.ngf < 1"),
        ("or not 1 <= self.start[0] <= 4096 // self.factor", ""),
    ],
    ("ganrt/models/stand_ins.py", "tests/models/test_file_kinds.py"): [
        ('or module.partition(".")[0] in _NEVER', ""),
        ('module.partition(".")[0] in', 'module.partition(".")[2] in'),
        ("if depth > _DEEPEST or count[0] > _MOST:", "if count[0] > _MOST:"),
        ("and not (isinstance(unsaved, set) and name in unsaved)", ""),
        ('{"_parameters", "_modules"} <= vars(value).keys()', "True"),
        ("depth + 1, count)", "depth, count)"),
    ],
    ("ganrt/models/stand_ins.py", "tests/models/test_unpickle.py"): [
        ("_CLASS.fullmatch(own)", "_CLASS.match(own)"),
        ('module.partition(".")[0] in _NEVER', "module in _NEVER"),
        ("if isinstance(found, dict) else []", "if found else []"),
        ("isinstance(unsaved, set) and name", "unsaved and name"),
        ("        if _is_module(part):\n", "        if True:\n"),
        ('yield f"{prefix}{name}", value.detach()', 'yield f"{prefix}{name}", value'),
        ('{"_parameters", "_modules"} <= vars', '{"_parameters"} <= vars'),
        ("if depth > _DEEPEST or count[0] > _MOST:", "if depth > _DEEPEST:"),
    ],
    ("ganrt/models/stylegan3_network.py", "tests/models/test_stylegan3.py"): [
        ("strength = 1 - (", "strength = 1 + ("),
    ],
    ("ganrt/models/unpickle.py", "tests/models/test_file_kinds.py"): [
        ('f"builtins.{name}" if name and "." not in name else name', "name"),
        ("if state and len(state) == len(inner):", "if len(state) == len(inner):"),
        ('if "nunif_model" not in content:', "if False:"),
        ("or starts_as_safetensors(path)", ""),
        ("if isinstance(content, Mapping) and not read_class(content):", "if isinstance(content, Mapping):"),
        ("weights_only=True", "weights_only=False"),
    ],
    ("ganrt/models/unpickle.py", "tests/models/test_unpickle.py"): [
        ("or len(stand_ins) == _MOST_CLASSES", ""),
        ("if value is True]", "if value]"),
        ("bare = all(", "bare = any("),
        ("| beside |", "|"),
        ("if isinstance(content.get(key), torch.Tensor)}", "if key in content}"),
        ("if isinstance(content.get(key), Mapping)), content)", "if content.get(key)), content)"),
        ("if _FLAG in inner:", "if False:"),
        ("if isinstance(arguments, Mapping) else []", "if True else []"),
        ('path.suffix == ".safetensors" or', ""),
        ("key.removeprefix(_PREFIX) if bare", "key.replace(_PREFIX, '') if bare"),
    ],
}
"""(File, test file that must fail) -> (text that is in the file exactly once, what it becomes)."""

MUTANTS = [Mutant(file, old, new, tests) for (file, tests), faults in FAULTS.items() for old, new in faults]


def copy_tree(root: Path, copy: Path) -> None:
    """Copy the sources, with export and bench where Python finds them as ganrt.export and ganrt.bench."""
    for name in SOURCES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, copy / name)
    for name in PACKAGES:
        if (copy / name).is_dir():
            (copy / "ganrt" / name).symlink_to(copy / name)


def run_tests(tree: Path, *files: str) -> int:
    """Exit code of pytest in a copy: 0 when the tests pass, 1 when one fails or hangs, another number for anything
    else."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=_HANGS_S).returncode
    except subprocess.TimeoutExpired:
        return 1


def find_survivors(tree: Path, mutants: Iterable[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with what is wrong about it: it survives, or it is out of date. '' for one that is killed."""
    for mutant in mutants:
        path = tree / mutant.file
        source = path.read_text()
        if source.count(mutant.old) != 1:
            yield mutant, f"its text is in the file {source.count(mutant.old)} times"
            continue
        path.write_text(source.replace(mutant.old, mutant.new))
        code = run_tests(tree, mutant.tests)
        path.write_text(source)
        reason = "survived: no test fails" if code == 0 else f"the tests could not run (pytest's exit code is {code})"
        yield mutant, "" if code == 1 else reason


def main() -> int:
    """Run the mutants of the files whose name contains the argument; all of them without one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("part", nargs="?", default="", help="part of a file's name, such as agreement")
    part = parser.parse_args().part
    mutants = [mutant for mutant in MUTANTS if part in mutant.file]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copy_tree(ROOT, tree)
        if run_tests(tree, *sorted({mutant.tests for mutant in mutants})):
            print("the tests fail without a mutant, or there is none")
            return 1
        survivors = 0
        for mutant, reason in find_survivors(tree, mutants):
            print(f"{'FAILED' if reason else 'killed'}  {mutant.file}: {mutant.old!r} -> {mutant.new!r}  {reason}")
            survivors += bool(reason)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
