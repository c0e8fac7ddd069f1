"""What the linter says of TensorRT's parser, version by version, against NVIDIA's own parser and compiler."""

from __future__ import annotations

import platform
import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers import parser_cases, rtx_parser
from helpers.one_node import Case, Given, case, convert_to_half, share_input
from helpers.parser_cases import HEADS, ROW, TWICE, VOLUME, X, computed, factors, half, ints, number, weight

from ganrt.export.lint import tensorrt_parser

NEWEST = re.compile("in all versions up to 11|for RTX|without a plugin|unless they fold")
"""In messages that concern the newest parser, which is that of TensorRT for RTX."""
NOT_IN_HALF = ("MeanVarianceNormalization",)
"""Operators that the parser rejects in float16, and that ganrt keeps in float32."""
ASKS_FOR_PLUGIN = {"NonZero", "RoiAlign", "CausalConvWithState", "LinearAttention"}
"""Operators for which the parser has a function, which looks for a plugin and fails."""


def list_messages(model: onnx.ModelProto) -> list[str]:
    (node,) = ir.from_proto(model).graph
    return list(tensorrt_parser.list_rejections(node, model.opset_import[0].version))


@pytest.mark.usefixtures("rtx")
def test_the_linter_agrees_with_the_parser() -> None:
    """On every case: where TensorRT for RTX stops, and whether the linter says that the newest version does."""
    halves = [
        convert_to_half(made) for made in parser_cases.ACCEPTED if made.model.graph.node[0].op_type not in NOT_IN_HALF
    ]
    expected = {
        "": [*parser_cases.ACCEPTED, *halves],
        "parser": [*parser_cases.REJECTED, *parser_cases.PLUGINS],
        "builder": parser_cases.NOT_COMPILED,
        "crash": parser_cases.CRASHES,
    }
    cases = [(made, stage) for stage, group in expected.items() for made in group]
    wrong = {}
    for (made, stage), found in zip(cases, rtx_parser.parse_graphs([made.model for made, _ in cases]), strict=True):
        messages = [text for text in list_messages(made.model) if NEWEST.search(text)]
        if found.stage != stage or bool(messages) != bool(stage):
            wrong[made.name] = (found, messages)
    assert wrong == {}


@pytest.mark.usefixtures("rtx")
def test_every_operator_of_the_parser() -> None:
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    unsupported = rtx_parser.list_unsupported_operators(sorted(operators))
    assert unsupported | ASKS_FOR_PLUGIN == {*tensorrt_parser._NEVER.split(), *tensorrt_parser._PLUGINS}


@pytest.mark.usefixtures("rtx")
def test_a_crash_is_the_verdict_of_its_graph_alone() -> None:
    crash, fine = parser_cases.CRASHES[0].model, case("Relu", X).model
    found = rtx_parser.parse_graphs([fine, crash, crash, fine])
    assert [verdict.stage for verdict in found] == ["", "crash", "crash", ""]
    assert found[1].text == "the process ended with signal 11"


def test_a_missing_library_fails_and_one_that_cannot_be_had_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtx_parser, "HERE", ("linux", "x86_64"))
    with pytest.raises(pytest.fail.Exception, match="pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"):
        rtx_parser.require_library(["there_is_none"])
    monkeypatch.setattr(rtx_parser, "HERE", ("darwin", "arm64"))
    words = f"no wheel of TensorRT for RTX for CPython {platform.python_version()} on darwin arm64"
    with pytest.raises(pytest.skip.Exception, match=words):
        rtx_parser.require_library(["there_is_none"])
    rtx_parser.require_library(["there_is_none", "pytest"])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (case("Col2Im", (1, 16, 16), ints(8, 8), ints(2, 2)), ["rejects Col2Im in all versions up to 11"]),
        (case("LayerNormalization", X, weight(8)), ["rejects LayerNormalization before version 8.6"]),
        (case("Gelu", X, approximate="tanh"), ["rejects Gelu before version 10.0"]),
        (case("Swish", X, opset=24), ["rejects Swish before version 11.0"]),
        (case("GroupNormalization", X, num_groups=2), ["rejects GroupNormalization before version 8.6"]),
        (case("GroupNormalization", X, opset=21), ["of operator set 21 before version 10.9"]),
        (case("DFT", ROW), ["rejects DFT before version 11.2", "for RTX rejects DFT, which is a plugin of TensorRT"]),
        (case("NonZero", X), ["TensorRT for RTX rejects NonZero, which is a plugin of TensorRT"]),
        (
            case("FusedMatMul", X, X, domain="com.microsoft"),
            ["com.microsoft.FusedMatMul without a plugin of that name"],
        ),
        (
            case("Resize", X, None, TWICE, mode="linear", antialias=1),
            ["rejects Resize with antialias in all versions up to 11, and OpenVINO 2026.4"],
        ),
        (
            case("Resize", X, weight(8), TWICE, coordinate_transformation_mode="tf_crop_and_resize"),
            ["rejects Resize with the coordinates tf_crop_and_resize in all"],
        ),
        (
            case("Resize", X, coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="ceil"),
            ["rejects Resize with the coordinates tf_half_pixel_for_nn and ceil in all versions up to 11"],
        ),
        (case("Resize", X, keep_aspect_ratio_policy="not_larger"), ["Resize that keeps the aspect ratio in all"]),
        (
            case("Resize", VOLUME, None, factors(1, 1, 2, 2, 2), mode="cubic"),
            ["rejects Resize in cubic mode of other axes than the last 2 in all versions up to 11"],
        ),
        (case("Pad", X, computed(8), mode="wrap"), ["rejects circular Pad before version 10.0"]),
        (case("Pad", X, computed(8), None, computed(4)), ["rejects Pad with computed axes before version 10.4"]),
        (case("Slice", X, ints(0), ints(1), computed(1)), ["rejects Slice with computed axes before version 10.3"]),
        (
            case("Unsqueeze", X, computed(1)),
            ["Unsqueeze with computed axes before version 10.7, and in later ones unless they fold to a constant"],
        ),
        (case("ReduceSum", X, computed(1)), ["rejects ReduceSum with computed axes in all versions up to 11"]),
        (case("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 2]), ["MaxPool with dilation in all versions up to 11"]),
        (case("MaxPool", X, kernel_shape=[2, 2], outputs=2), ["MaxPool with indices in all versions up to 11"]),
        (case("LpPool", X, kernel_shape=[2, 2], p=3), ["LpPool with p other than 1 and 2 in all versions up to 11"]),
        (
            case("LayerNormalization", X, weight(8), outputs=2),
            ["before version 8.6", "LayerNormalization with the mean as an output in all versions up to 11"],
        ),
        (case("BatchNormalization", X, training_mode=1), ["rejects BatchNormalization in training mode in all"]),
        (
            case("Dropout", X, number(0.5), np.array(True)),
            ["rejects Dropout in training mode in all versions up to 11"],
        ),
        (
            case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[1, 2], dilations=[2, 1]),
            ["TensorRT for RTX cannot compile ConvTranspose with a stride and a dilation"],
        ),
        (case("Celu", X), ["TensorRT for RTX rejects Celu in fp16 and bf16; where alpha is 1, nn.ELU is the same"]),
        (case("MatMul", (3,), (2, 3, 4)), ["takes the wrong axis off MatMul of a vector with a stack of matrices"]),
        (case("EyeLike", Given(("n", 3))), ["EyeLike of a size that is not constant in all versions up to 11"]),
        (case("TopK", (1, 5000), ints(3841), outputs=2), ["rejects TopK of more than 3840 values in all versions"]),
        (case("NonMaxSuppression", (1, 6, 4), (1, 1, 6)), ["TensorRT for RTX cannot compile NonMaxSuppression"]),
        (case("GridSample", VOLUME, (1, 3, 3, 3, 3)), ["rejects GridSample of volumes before version 11.2"]),
        (case("ScatterND", X, computed(1, 1), X, reduction="add"), ["ScatterND with a reduction in all versions"]),
        (
            case("ScatterElements", X, computed(*X), X, reduction="add"),
            [
                "ScatterElements with a reduction before version 10.0",
                "for RTX rejects ScatterElements with a reduction",
            ],
        ),
        (case("RandomNormal", shape=[1]), ["TensorRT ignores the seed of RandomNormal"]),
        (
            share_input(case("Attention", HEADS, HEADS, HEADS, opset=23), 1, 0),
            [
                "before version 10.14",
                "RTX crashes on Attention whose query is its key; --opset 20 makes MatMul and Soft",
            ],
        ),
        (
            case("Attention", *[(1, 2, 8, 64)] * 3, opset=23),
            ["before version 10.14", "for RTX cannot compile Attention in float32; --opset 20"],
        ),
        (
            case("Attention", *[half(1, 2, 8, 8)] * 3, opset=23),
            ["before version 10.14", "cannot compile Attention with 8 channels of a head; --opset 20"],
        ),
    ],
)
def test_messages(made: Case, words: list[str]) -> None:
    found = list_messages(made.model)
    assert len(found) == len(words)
    for text, part in zip(found, words, strict=True):
        assert part in text


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (case("Attention", HEADS, HEADS, half(1, 2, 8, 32), opset=23), "whose values are not as long as its keys"),
        (case("Attention", HEADS, HEADS, HEADS, softcap=1.0, opset=23), "with softcap"),
        (case("Attention", HEADS, HEADS, HEADS, softmax_precision=1, opset=23), "with softmax_precision"),
        (case("Attention", HEADS, HEADS, HEADS, outputs=4, opset=23), "with several outputs"),
        (case("Attention", HEADS, HEADS, HEADS, half(8, 8), is_causal=1, opset=23), "with a mask and is_causal"),
    ],
)
def test_messages_of_attention(made: Case, words: str) -> None:
    advice = "in all versions up to 11; --opset 20 makes MatMul and Softmax of it"
    assert list_messages(made.model)[1:] == [f"TensorRT's parser rejects Attention {words} {advice}"]


@pytest.mark.parametrize(
    "made",
    [
        case("Conv", X, weight(6, 4, 3, 3)),
        case("Conv", Given(("n", 4, "h", "w")), weight(6, 4, 3, 3), strides=[2, 2], dilations=[2, 2]),
        case("ConvTranspose", X, weight(4, 6, 3, 3), dilations=[2, 2]),
        case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[2, 2], dilations=[1, 1]),
        case("InstanceNormalization", X, weight(4), weight(4)),
        case("BatchNormalization", X, *[weight(4)] * 4, training_mode=0),
        case("Resize", X, None, TWICE, mode="cubic"),
        case("Resize", X, None, factors(1, 2, 2, 2), mode="linear"),
        case("Resize", X, None, factors(2, 2, 2, 2)),
        case("Pad", X, ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"),
        case("MaxPool", X, kernel_shape=[2, 2], dilations=[1, 1]),
        case("GridSample", X, (1, 8, 8, 2)),
        case("ScatterND", X, computed(1, 1), X),
        case("ReduceSum", X, ints(2, 3)),
        case("ReduceMean", X),
        case("MatMul", (2, 3, 4), (4,)),
        case("TopK", X, ints(3), outputs=2),
        case("EyeLike", (3, 3)),
        case("Dropout", X),
        case("Dropout", X, number(0.5), np.array(False)),
    ],
)
def test_what_all_versions_accept(made: Case) -> None:
    assert list_messages(made.model) == []


def test_the_tables_name_operators_that_there_are() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    named = [*tensorrt_parser._NEVER.split(), *tensorrt_parser._SINCE]
    assert {*named, *tensorrt_parser._PLUGINS, *tensorrt_parser._CONDITIONS} - known == set()
    assert len(set(named)) == len(named)


def test_newer_operator_sets_are_named() -> None:
    assert tensorrt_parser.describe_new_opset(20) == ""
    assert "operator set 23: TensorRT documents 8.6 to 17, 10.0 to 20" in tensorrt_parser.describe_new_opset(23)
