"""The metadata of ONNX files is read as by the onnx package; damaged files are rejected."""

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import BundleError
from ganrt.onnx_metadata import read_metadata

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
properties = st.dictionaries(texts, texts, max_size=5)


def model(metadata: dict[str, str]) -> onnx.ModelProto:
    node = onnx.helper.make_node("Tanh", ["z"], ["image"])
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 3]) for n in ("z", "image")]
    made = onnx.helper.make_model(onnx.helper.make_graph([node], "graph", value[:1], value[1:]))
    onnx.helper.set_model_props(made, metadata)
    return made


@given(properties, texts, st.integers(-(2**63), 2**63 - 1))
def test_it_reads_what_onnx_wrote(metadata: dict[str, str], producer: str, version: int) -> None:
    made = model(metadata)
    made.producer_name, made.model_version = producer, version
    assert read_metadata(made.SerializeToString(), "model.onnx") == metadata


def test_a_missing_field_is_empty() -> None:
    """Other writers than the onnx package omit empty strings."""
    entry = onnx.StringStringEntryProto(key="licence").SerializeToString()
    assert read_metadata(bytes([14 << 3 | 2, len(entry)]) + entry, "model.onnx") == {"licence": ""}


def test_fields_of_every_kind_are_skipped() -> None:
    entry = onnx.StringStringEntryProto(key="a", value="b").SerializeToString()
    others = b"\x29" + bytes(8) + b"\x25" + bytes(4) + b"\x28\x80\x01" + b"\x1a\x02xy"
    assert read_metadata(others + bytes([14 << 3 | 2, len(entry)]) + entry + others, "model.onnx") == {"a": "b"}


def test_the_metadata_of_a_bundle_has_its_spec(bundles: dict) -> None:  # type: ignore[type-arg]
    for bundle in bundles.values():
        content = bundle.onnx("fp32").read_bytes()
        assert read_metadata(content, "model.onnx") == {
            entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props
        }


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(content: bytes) -> None:
    try:
        assert isinstance(read_metadata(content, "some.onnx"), dict)
    except BundleError as error:
        assert str(error).startswith("some.onnx is not an ONNX model, or is damaged")


@given(properties, st.data())
def test_a_truncated_or_changed_file_is_read_or_rejected(metadata: dict[str, str], data: st.DataObject) -> None:
    content = bytearray(model(metadata).SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        read_metadata(bytes(content[: data.draw(st.integers(0, len(content)))]), "model.onnx")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 a zip file", "unknown wire type|ends beyond"),
        (b"\x3a\x7f", "field 7 ends beyond the end"),
        (b"\x39\x00", "the last field ends beyond the end"),
        (b"\x38" + b"\xff" * 11, "longer than 64 bits"),
        (b"\x38", "index out of bounds|is not an ONNX model"),
        (b"\x72\x04\x0a\x02\xff\xfe", "utf-8"),
    ],
)
def test_the_reason_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        read_metadata(content, "model.onnx")
