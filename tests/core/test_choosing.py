"""The choice of `load`: the tuned configuration if it fits the request, else the rules."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ganrt
from ganrt import choosing, tuned
from ganrt.bundle import Bundle
from ganrt.choosing import CPU_RULE, RULE, LoadRequest, candidates_by_rule, find_candidates
from ganrt.errors import RequestError
from ganrt.session_config import SessionConfig
from ganrt.tuned import Timing, Tuned, TunedConfig


def choice(name: str, first: float, eight: float, **changes: Any) -> TunedConfig:
    timings = {1: Timing(first, None, None), 8: Timing(eight, None, None)}
    return TunedConfig(replace(SessionConfig(name, "fp32", "cpu", {"threads": 1}), **changes), "fp32", 120.0, timings)


def remember(bundle: Bundle, *choices: TunedConfig) -> Tuned:
    """Save a record of this bundle in which the fastest choice of each batch size wins."""
    winners = {b: min(range(len(choices)), key=lambda k: choices[k].seconds[b]) for b in (1, 8)}
    record = Tuned(tuned.tuned_key(bundle), 60.0, "2026-11-25", {}, choices, winners)
    tuned.save_record(record)
    return record


def first(bundle: Bundle, **wish: Any) -> str:
    one = next(find_candidates(bundle, LoadRequest(**wish)))
    return str(one)


def test_without_a_record_the_rules_decide(bundle: Bundle) -> None:
    found = list(find_candidates(bundle, LoadRequest()))
    assert list(dict.fromkeys(one.config.backend for one in found)) == [
        "openvino",
        "onnxruntime",
        "ncnn",
        "pytorch",
        "mnn",
        "reference",
    ]
    assert str(found[0]) == "openvino fp32-phases"
    assert {one.reason for one in found} == {CPU_RULE}
    assert not any(one.seconds for one in found)


def test_a_backend_that_needs_a_gpu_is_tried_only_with_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda there=there: there)
        assert ("tensorrt" in [one.config.backend for one in candidates_by_rule(bundle, LoadRequest())]) is there
        assert "tensorrt" in [one.config.backend for one in candidates_by_rule(bundle, LoadRequest(device="cuda"))]


def test_openvino_is_first_where_no_gpu_is_used_and_no_backend_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rules(**wish: Any) -> tuple[list[str], str]:
        found = candidates_by_rule(bundle, LoadRequest(**wish))
        (reason,) = {one.reason for one in found}
        return list(dict.fromkeys(one.config.backend for one in found)), reason

    for there in (True, False):
        monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda there=there: there)
        names, reason = rules(device="cpu")
        assert names[:2] == ["openvino", "onnxruntime"] and reason == CPU_RULE
        assert rules(backend="onnxruntime", device="cpu") == (["onnxruntime"], RULE)
        names, reason = rules(device="cuda")
        assert names[0] == "tensorrt" and "openvino" not in names and reason == RULE
        names, reason = rules()
        assert names.index("openvino") == (names.index("onnxruntime") + 1 if there else 0)
        assert reason == (RULE if there else CPU_RULE)


def test_the_reason_is_in_info(bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, device="cpu") as generator:
        assert generator.info.reason == CPU_RULE and "OpenVINO first" in str(generator.info)


def test_rules_prefer_float32_and_fewer_macs(bundle: Bundle) -> None:
    plain = bundle.variants["fp32"]
    variants = {
        "int8-phases": replace(plain, precision="int8"),
        "fp32": plain,
        "fp32-subpixel": plain,
        "fp32-phases": replace(plain, fewer_macs=True),
    }
    several = replace(bundle, variants=variants)
    assert [str(one) for one in candidates_by_rule(several, LoadRequest())][:4] == [
        *(f"openvino{name}" for name in (" fp32-phases", " fp32-subpixel", "")),
        "onnxruntime fp32-phases",
    ]
    assert [str(one) for one in candidates_by_rule(several, LoadRequest("onnxruntime"))] == [
        *(f"onnxruntime{name}" for name in (" fp32-phases", "", " fp32-subpixel"))
    ]
    assert [str(one) for one in candidates_by_rule(several, LoadRequest(precision="int8"))] == [
        f"{name} int8-phases" for name in ("openvino", "onnxruntime", "reference")
    ]
    assert [str(one) for one in candidates_by_rule(several, LoadRequest("pytorch", "fp32-phases"))] == [
        "pytorch fp32-phases"  # it does not run it; its error is to say so
    ]


def test_rules_try_what_is_made_for_gpus_on_a_gpu_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bundle.variants["fp32"]
    half = replace(plain, precision="int8", for_gpu=True)
    variants = {
        "fp32": plain,
        "int8-phases": replace(plain, precision="int8"),
        "int8-half-traced": half,
        "fp8-traced": replace(half, precision="fp8"),
    }
    several = replace(bundle, variants=variants)

    def rules(**wish: Any) -> list[str]:
        return [str(one) for one in candidates_by_rule(several, LoadRequest(**wish))]

    for there in (False, True):
        monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda there=there: there)
        assert not any("half" in one or "fp8" in one for one in rules())
        assert rules(precision="int8", backend="openvino") == ["openvino int8-phases"]
        both = ["int8-half-traced", "int8-phases"] if there else ["int8-phases"]
        assert rules(precision="int8", backend="onnxruntime") == [f"onnxruntime {name}" for name in both]
        assert rules(precision="int8", device="cpu", backend="onnxruntime") == ["onnxruntime int8-phases"]
        assert rules(variant="fp8-traced", device="cpu", backend="onnxruntime") == ["onnxruntime fp8-traced"]
        assert rules(precision="fp8", device="cuda", backend="tensorrt") == ["tensorrt fp8-traced cuda"]
    found = rules(precision="fp8")
    assert "onnxruntime fp8-traced" in found and all("fp8-traced" in one for one in found)
    assert not any("openvino" in one for one in found)
    monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda: False)
    with pytest.raises(RequestError, match="has fp8 for NVIDIA GPUs only: fp8-traced"):
        rules(precision="fp8")


def test_each_backend_has_the_order_of_its_own_device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bundle.variants["fp32"]
    several = replace(bundle, variants={"fp32": plain, "fp32-phases": replace(plain, passes=("packing",))})
    monkeypatch.setattr(choosing, "has_nvidia_gpu", lambda: True)
    found = [str(one) for one in candidates_by_rule(several, LoadRequest())]
    assert found.index("onnxruntime") < found.index("onnxruntime fp32-phases")
    assert found.index("openvino fp32-phases") < found.index("openvino")


def test_the_tuned_choice_comes_before_the_rules(bundle: Bundle) -> None:
    remember(bundle, choice("onnxruntime", 1, 30), choice("openvino", 2, 6))
    found = list(find_candidates(bundle, LoadRequest()))
    assert found[0].config.backend == "openvino" and found[1:] == candidates_by_rule(bundle, LoadRequest())
    assert found[0].config.options == {"threads": 1} and found[0].seconds == {1: 2, 8: 6}
    assert "the best overall" in found[0].reason
    assert first(bundle, batch=1) == "onnxruntime threads=1"
    assert first(bundle, batch=np.int64(2)) == "openvino threads=1"


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"backend": "onnxruntime"}, "onnxruntime cuda:0 threads=2"),
        ({"backend": "pytorch"}, "pytorch"),
        ({"device": "cpu"}, "openvino threads=1"),
        ({"device": "cuda"}, "onnxruntime cuda:0 threads=2"),
        ({"device": "cuda:0"}, "onnxruntime cuda:0 threads=2"),
        ({"device": "cuda:1"}, "tensorrt cuda:1"),
        ({"precision": "fp32"}, "openvino threads=1"),
        ({"variant": "fp32", "precision": "int8"}, "openvino threads=1"),
        ({"options": {"threads": 2}}, "onnxruntime cuda:0 threads=2"),
        ({"options": {"threads": 3}}, "openvino fp32-phases threads=3"),
        ({"options": {"threads": 2, "spin": False}}, "onnxruntime cuda:0 threads=2"),
        ({"options": {"threads": 2, "spin": True}}, "openvino fp32-phases threads=2 spin=True"),
        ({"options": {"compiled": True}}, "openvino fp32-phases compiled=True"),
    ],
)
def test_the_choice_fits_the_request(wish: dict[str, Any], wanted: str, bundle: Bundle) -> None:
    remember(
        bundle,
        choice("openvino", 1, 6),
        choice("onnxruntime", 3, 9, device="cuda:0", options={"threads": 2}),
        choice("onnxruntime", 9, 99, device="cuda:0"),
    )
    assert first(bundle, **wish) == wanted


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "8"])
def test_an_invalid_batch_is_rejected(batch: Any, bundle: Bundle) -> None:
    with pytest.raises(RequestError, match=r"batch is .*; it must be a whole number from 1"):
        ganrt.load(bundle.folder, batch=batch)


def test_load_uses_the_tuned_choice_and_splits_by_its_times(bundle: Bundle) -> None:
    with ganrt.load(bundle.folder) as plain:
        assert plain.session.backend == "openvino" and not plain.seconds
        wanted = plain.sample(20, seed=3)
    remember(bundle, choice("onnxruntime", 1, 1.5), choice("openvino", 2, 3))
    with ganrt.load(bundle.folder) as generator:
        assert generator.session.backend == "onnxruntime"
        assert generator.session.details["threads"] == "1"
        assert generator.seconds == {1: 1, 8: 1.5}
        assert np.abs(generator.sample(20, seed=3).astype(int) - wanted).max() <= 1
    with ganrt.load(bundle.folder, precision="fp32", backend="pytorch") as generator:
        assert generator.session.backend == "pytorch"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "abacus"}, "there is no backend 'abacus'"),
        ({"variant": "int8-phases"}, "has no variant 'int8-phases'"),
        ({"options": {"strings": 6}}, "has no option 'strings'"),
        ({"device": "tpu"}, "there is no device 'tpu'"),
        ({"device": "cuda:0"}, "runs on the CPU only"),
    ],
)
def test_a_tuned_choice_that_cannot_be_opened_is_logged_and_the_rules_decide(
    changes: dict[str, Any], message: str, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    remember(bundle, choice("openvino", 1, 6, **changes))
    with caplog.at_level(logging.WARNING), ganrt.load(bundle.folder) as generator:
        assert generator.session.backend == "openvino" and not generator.seconds
    assert "is skipped although it was tuned" in caplog.text
    assert message in caplog.text


def test_a_tuned_choice_must_be_proven(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ganrt.backends import onnxruntime

    remember(bundle, choice("onnxruntime", 1, 6))
    compute = onnxruntime._CpuSession.run
    monkeypatch.setattr(onnxruntime._CpuSession, "run", lambda self, feeds: compute(self, feeds) * np.float32(0.5))
    with ganrt.load(bundle.folder) as generator:
        assert generator.session.backend == "openvino"
    assert "onnxruntime threads=1 is skipped although it was tuned" in caplog.text
    assert "does not make the original's images" in caplog.text


def test_loading_reads_one_small_file(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing.tuned, "tuned_key", lambda bundle: pytest.fail("nothing was tuned here at all"))
    assert first(bundle).startswith("openvino")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", ["bf16-phases", "int8-phases"]),
        ("cuda", ["fp16-phases", "int8-half-traced", "int8-phases", "fp8-traced"]),
    ],
)
def test_without_float32_the_precisions_are_tried_that_suit_the_device(
    device: str, expected: list[str], bundle: Bundle
) -> None:
    variant = bundle.variants["fp32"]
    names = ("int8-phases", "fp16-phases", "int8-half-traced", "bf16-phases", "fp8-traced")
    variants = {
        name: replace(variant, precision=name.partition("-")[0], for_gpu="traced" in name, fewer_macs=False)
        for name in names
    }
    narrow = replace(bundle, variants=variants)
    tried = {c.config.variant for c in candidates_by_rule(narrow, LoadRequest(device=device))}
    listed = choosing._list_variants(narrow, LoadRequest(device=device), device == "cuda")
    assert [name for name in listed if name in tried] == expected
    assert choosing._list_variants(narrow, LoadRequest(precision="bf16"), False) == ["bf16-phases"]
