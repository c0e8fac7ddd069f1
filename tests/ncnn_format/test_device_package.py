"""`ganrt pack --format ncnn`: the files, and a C++ example that draws the values of `ganrt.latents`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import ganrt
from ganrt import latents
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.images import from_uint8, to_uint8
from ganrt.levels import find_levels
from ganrt.ncnn_format.device_package import (
    EXAMPLE,
    HEADER,
    PARAM,
    WEIGHTS,
    _write_draw,
    _write_header,
    _write_input,
    _write_levels,
)

compiler = shutil.which("c++") or shutil.which("g++") or ""
needs_compiler = pytest.mark.skipif(not compiler, reason="there is no C++ compiler")
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")

# As much of ncnn's interface as the example uses, so that the compiler checks it.
FAKE_NET = """\
#pragma once
#include <cstddef>
namespace ncnn {
struct Mat {
    int w = 1, h = 1, c = 1;
    Mat() = default;
    Mat(int, void *) {}
    float values[4] = {};
    const float *channel(int) const { return values; }
    float *channel(int) { return values; }
    void create(int width, int height, int channels) { w = width; h = height; c = channels; }
    Mat reshape(int, int, int) const { return *this; }
};
struct Extractor {
    int input(const char *, const Mat &) { return 0; }
    int extract(const char *, Mat &) { return 0; }
};
struct Option { bool use_fp16_packed, use_fp16_storage, use_fp16_arithmetic, use_bf16_storage; };
struct Net {
    Option opt;
    int load_param(const char *) { return 0; }
    int load_model(const char *) { return 0; }
    Extractor create_extractor() { return {}; }
};
}  // namespace ncnn
"""


def compile_and_run(folder: Path, source: str, *arguments: str) -> bytes:
    (folder / HEADER).write_text(_write_header())
    (folder / "main.cpp").write_text(source)
    subprocess.run([compiler, *FLAGS, "main.cpp", "-o", "main"], cwd=folder, check=True)
    return subprocess.run(["./main", *arguments], cwd=folder, check=True, capture_output=True).stdout


@needs_compiler
def test_the_header_draws_the_values_of_the_runtime(tmp_path: Path) -> None:
    seed, index = 2**64 - 3, 2**40 + 5
    scaled = _write_draw(ganrt.Latent("z", (37,), truncation="scaled", default=0.5), 0)
    uniform = _write_draw(ganrt.Latent("z", (5,), distribution="uniform", range=(-2.0, 1.0)), 2)
    plain = _write_draw(ganrt.Latent("z", (3, 7)), 0)
    source = f"""
#include "{HEADER}"
int main() {{
    unsigned long long seed = {seed}ull, index = {index}ull;
    for (auto values : {{{plain}, {scaled}, {uniform}}}) fwrite(values.data(), 4, values.size(), stdout);
    int label = ganrt::draw_label(seed, index, 1, 1000);
    fwrite(&label, 4, 1, stdout);
    auto row = ganrt::encode_one_hot(2, 3);
    fwrite(row.data(), 4, row.size(), stdout);
}}
"""
    found = compile_and_run(tmp_path, source)
    place = (seed, index, 1)
    expected = [
        latents.normal(*place, 0, 21),
        latents.normal(*place, 0, 37, latents.SCALED_LIMIT) * np.float32(0.5),
        latents.uniform(*place, 2, 5, -2.0, 1.0),
        latents.labels(*place, 1, 1000).astype(np.int32),
        np.array([0, 0, 1], np.float32),
    ]
    assert found == b"".join(array.tobytes() for array in expected)


PICTURES = """
#include "ganrt.h"
struct Planes {
    int w, h, c;
    std::vector<float> values;
    float *channel(int i) { return values.data() + i * w * h; }
    const float *channel(int i) const { return values.data() + i * w * h; }
    void create(int width, int height, int channels) {
        w = width; h = height; c = channels;
        values.resize((size_t)w * h * c);
    }
};
int main(int, char **arguments) {
    Planes planes;
    if (!ganrt::read_picture(arguments[1], planes, CHANNELS, -1.0f, 1.0f)) return 1;
    fwrite(planes.values.data(), 4, planes.values.size(), stdout);
    planes.values[0] += 0.004f;
    planes.values[1] = 7.0f;
    if (!ganrt::write_picture(arguments[2], planes, -1.0f, 1.0f)) return 2;
    planes.values[0] = NAN;
    return ganrt::write_picture("nan.pnm", planes, -1.0f, 1.0f) ? 3 : 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("channels", [1, 3])
def test_the_header_reads_and_writes_the_pictures_of_the_runtime(channels: int, tmp_path: Path) -> None:
    import PIL.Image

    picture = np.random.default_rng(0).integers(0, 256, (1, 5, 7, channels), np.uint8)
    PIL.Image.fromarray(picture[0].squeeze()).save(tmp_path / "in.ppm")
    found = compile_and_run(tmp_path, PICTURES.replace("CHANNELS", str(channels)), "in.ppm", "out.ppm")
    image = from_uint8(picture, (-1.0, 1.0))
    assert found == image.tobytes()
    image.ravel()[:2] = image.ravel()[0] + np.float32(0.004), 7.0
    with PIL.Image.open(tmp_path / "out.ppm") as written:
        assert np.array_equal(np.asarray(written).reshape(picture.shape[1:]), to_uint8(image, (-1.0, 1.0))[0])
    assert not (tmp_path / "nan.pnm").exists()


NORMALIZED: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "order": "bgr"}
CLEAR: dict[str, Any] = {"mean": (0.5, 0.25, 0.75, 0.0), "std": (0.5, 0.25, 0.1, 1.0)}


@needs_compiler
@pytest.mark.parametrize("fields", [NORMALIZED, CLEAR, CLEAR | {"order": "bgr"}])
def test_the_header_reads_and_writes_normalized_pictures(fields: dict[str, Any], tmp_path: Path) -> None:
    count = len(fields["mean"])
    output = ganrt.Output(count, (0.0, 1.0), None, **fields)
    picture = np.random.default_rng(0).integers(0, 256, (1, 5, 7, count), np.uint8)
    head = b"P6\n7 5\n255\n"
    if count == 4:
        head = b"P7\nWIDTH 7\nHEIGHT 5\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    (tmp_path / "in.pam").write_bytes(head + picture.tobytes())
    levels = _write_levels(output)
    source = PICTURES.replace("CHANNELS, -1.0f, 1.0f", levels).replace("-1.0f, 1.0f", levels)
    found = compile_and_run(tmp_path, source, "in.pam", "out.pam")
    image = from_uint8(picture, find_levels(output))
    assert found == image.tobytes()
    image.ravel()[:2] = image.ravel()[0] + np.float32(0.004), 7.0
    assert (tmp_path / "out.pam").read_bytes() == head + to_uint8(image, find_levels(output)).tobytes()
    (tmp_path / "in.pam").write_bytes(head.replace(b"RGB_ALPHA", b"CMYK").replace(b"P6", b"P5") + picture.tobytes())
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["./main", "in.pam", "out.pam"], cwd=tmp_path, check=True, capture_output=True)


def test_an_image_that_is_normalized_is_given_by_channel() -> None:
    picture = ganrt.Image("x", "content", 3, (0.0, 255.0), mean=(100.0, 110.0, 120.0), std=(2.0, 1.0, 1.0), order="bgr")
    spec = ganrt.Spec("x", (picture,), ganrt.Output(4, (0.0, 1.0), None))
    lines = _write_input(spec, picture)
    levels = "{{2, -50.0, 77.5}, {1, -110.0, 145.0}, {0, -120.0, 135.0}}"
    assert lines[1] == f"if (!ganrt::read_picture(arguments[1], input_x, {levels})) return 5;"
    assert _write_levels(spec.output) == "0.0f, 1.0f"


@needs_compiler
def test_a_file_that_is_no_picture_is_rejected(tmp_path: Path) -> None:
    for content in (b"", b"P6\n5 7\n255\n" + b"x" * 104, b"P5\n5 7\n255\n" + b"x" * 105, b"P6\n99999 1\n255\n"):
        (tmp_path / "in.ppm").write_bytes(content)
        with pytest.raises(subprocess.CalledProcessError) as raised:
            compile_and_run(tmp_path, PICTURES.replace("CHANNELS", "3"), "in.ppm", "out.ppm")
        assert raised.value.returncode == 1


@needs_compiler
@pytest.mark.parametrize("name", ["dcgan", "conditional", "espcn"])
def test_the_example_compiles(
    name: str, request: pytest.FixtureRequest, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    bundle = bundles[name] if name in bundles else request.getfixturevalue(name)
    done = CliRunner().invoke(main, ["pack", str(bundle.path), "--out", str(tmp_path / "d"), "--format", "ncnn"])
    assert done.exit_code == 0, done.output
    assert f"{HEADER}, {WEIGHTS}, {PARAM}, {EXAMPLE}" in done.stdout
    (tmp_path / "d/ncnn").mkdir()
    (tmp_path / "d/ncnn/net.h").write_text(FAKE_NET)
    command = [compiler, *FLAGS, "-Wno-unused-parameter", "-I.", EXAMPLE, "-o", "sample"]
    subprocess.run(command, cwd=tmp_path / "d", check=True)
    assert subprocess.run(["./sample"], cwd=tmp_path / "d").returncode == 4
    if not bundle.spec.images:
        subprocess.run(["./sample", "7", "5", "picture.ppm"], cwd=tmp_path / "d", check=True)
        assert (tmp_path / "d/picture.ppm").read_bytes().startswith(b"P5\n1 1\n255\n")


def test_every_kind_of_input_is_given() -> None:
    image = ganrt.Output(3, (-1.0, 1.0), (8, 8))
    latent, label = ganrt.Latent("z", (4, 3, 2)), ganrt.Label("y", 5, "one_hot")
    scalar = ganrt.Scalar("truncation", (0.0, 1.0), 0.5)
    spec = ganrt.Spec("x", (latent, label, scalar), image)
    lines = "\n".join(line for item in spec.inputs for line in _write_input(spec, item))
    assert "ncnn::Mat(24, input_z.data()).reshape(2, 3, 4)" in lines
    assert "encode_one_hot(ganrt::draw_label(seed, index, 1, 5), 5)" in lines
    assert "float input_truncation = 0.5f;" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variant", "fp32", "--variant", "fp32-phases"], "--format ncnn takes one --variant, and no --weights"),
        (["--weights"], "--format ncnn takes one --variant, and no --weights"),
        (["--variant", "nothing"], "no variant 'nothing'"),
    ],
)
def test_requests_that_do_not_fit(options: list[str], message: str, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    command = ["pack", str(bundles["dcgan"].path), "--out", str(tmp_path / "d"), "--format", "ncnn", *options]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and message in done.stderr


def test_only_a_package_is_replaced(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    command = ["pack", str(bundles["dcgan"].path), "--out", str(tmp_path), "--format", "ncnn", "--overwrite"]
    (tmp_path / "thesis.txt").write_text("mine")
    assert CliRunner().invoke(main, command).exit_code != 0
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    (tmp_path / "thesis.txt").unlink()
    for _ in range(2):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
