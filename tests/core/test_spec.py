"""Spec: round trip through JSON, and a clear error for each contradiction."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import BundleError, RequestError
from ganrt.spec import Image, Input, Label, Latent, Output, Scalar, Spec

names = st.integers(0, 99).map("input_{}".format) | st.sampled_from(["z", "_", "größe", "x" * 64])
counts = st.integers(1, 512)
ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
sizes = st.none() | st.tuples(counts, counts)
inputs = st.one_of(
    st.builds(
        Latent,
        names,
        st.lists(counts, min_size=1, max_size=3).map(tuple),
        truncation=st.sampled_from(["resampled", "scaled", "none"]),
        default=st.floats(0.01, 2.0),
    ),
    st.builds(Latent, names, st.tuples(counts), st.just("uniform"), range=ranges),
    st.builds(Label, names, counts, st.sampled_from(["index", "one_hot"])),
    st.builds(Image, names, names, counts, ranges, sizes, counts),
    ranges.map(lambda span: Image("x", "y", 3, span, mean=(span[1],) * 3, order="bgr")),
    ranges.map(lambda span: Image("x", "y", 2, span, std=(2.0, 0.5))),
    st.builds(lambda name, span: Scalar(name, span, span[0]), names, ranges),
)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    made = draw(st.lists(inputs, min_size=1, max_size=4, unique_by=lambda item: item.name))
    open_size = any(isinstance(item, Image) for item in made) and draw(st.booleans())
    size = None if open_size else draw(st.tuples(counts, counts))
    name = draw(names.filter(lambda name: name not in {item.name for item in made}))
    return Spec(
        draw(names),
        tuple(made),
        Output(
            channels := draw(st.sampled_from([1, 3, 4])),
            draw(ranges),
            size,
            draw(st.integers(1, 8)),
            name,
            std=draw(st.none() | st.just((0.5,) * channels)),
            order=draw(st.sampled_from(["rgb", "bgr"])) if channels > 1 else "rgb",
        ),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(specs())
def test_json_round_trip(spec: Spec) -> None:
    text = json.dumps(spec.to_dict(), allow_nan=False)
    assert Spec.from_dict(json.loads(text)) == spec


@given(specs(), st.data())
def test_an_untrusted_spec_is_read_or_rejected(spec: Spec, data: st.DataObject) -> None:
    raw = spec.to_dict()
    place: Any = data.draw(st.sampled_from([raw, raw["output"], *raw["inputs"]]))
    key = data.draw(st.sampled_from(sorted(place)))
    if data.draw(st.booleans()):
        place[key] = data.draw(json_values)
    else:
        del place[key]
    try:
        assert isinstance(Spec.from_dict(raw), Spec)
    except BundleError as error:
        assert str(error)


@given(json_values)
def test_any_other_json_is_rejected(raw: object) -> None:
    with pytest.raises(BundleError, match="spec"):
        Spec.from_dict(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("output"), r"spec has the keys \['family', 'inputs'\]"),
        (lambda raw: raw.update(licence="?"), "it needs family, a list of inputs, and output"),
        (lambda raw: raw.update(inputs={}), "a list of inputs"),
        (lambda raw: raw["inputs"].append(3), r"spec.inputs\[1\] is 3; an input has a kind, one of latent"),
        (
            lambda raw: raw["inputs"][0].update(kind="video"),
            r"spec.inputs\[0\].kind is 'video'; an input has a kind, one of latent",
        ),
        (lambda raw: raw["inputs"][0].update(colour=1), r"unknown keys \['colour'\]; a newer ganrt may have written"),
        (lambda raw: raw["inputs"][0].pop("shape"), r"spec.inputs\[0\] lacks shape"),
        (lambda raw: raw["inputs"][0].update(shape=[2**20, 2**20]), "is more than"),
        (
            lambda raw: raw["inputs"][0].update(range=[0, 10**400]),
            r"inputs\[0\].range\[1\] is 10+, where float is expected",
        ),
        (lambda raw: raw["output"].update(size=[64]), r"spec.output.size is \[64\], where a list of 2 is expected"),
        (lambda raw: raw.update(family=7), "'7' cannot be a name here"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(change: Any, message: str) -> None:
    raw = Spec("dcgan", (Latent("z", (8,)),), Output(3, (-1.0, 1.0), (16, 16))).to_dict()
    change(raw)
    with pytest.raises(BundleError, match=message):
        Spec.from_dict(raw)


IMAGE: dict[str, Any] = {"name": "x", "role": "content", "channels": 3, "range": (0.0, 1.0)}
OUTPUT: dict[str, Any] = {"channels": 3, "range": (0.0, 1.0), "size": (8, 8)}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Latent, {"name": "a b", "shape": (3,)}, "'a b' cannot be a name here"),
        (Latent, {"name": "z" * 65, "shape": (3,)}, "short identifier"),
        (Latent, {"name": "z", "shape": ()}, r"z: shape is \(\)"),
        (Latent, {"name": "z", "shape": (0,)}, "takes whole numbers from 1"),
        (Latent, {"name": "z", "shape": (True,)}, "takes whole numbers from 1"),
        (Latent, {"name": "z", "shape": (3,), "distribution": "cauchy"}, "must be one of normal, uniform"),
        (Latent, {"name": "z", "shape": (3,), "truncation": "folded"}, "must be one of resampled, scaled, none"),
        (Latent, {"name": "z", "shape": (3,), "default": 0.0}, r"default is 0\.0; it must be a number above 0"),
        (Latent, {"name": "z", "shape": (3,), "distribution": "uniform", "truncation": "resampled"}, "only a normal"),
        (Latent, {"name": "z", "shape": (3,), "range": (1.0, 1.0)}, "low < high"),
        (Latent, {"name": "z", "shape": (3,), "range": (0.0, float("nan"))}, "low < high"),
        (Latent, {"name": "z", "shape": (3,), "range": (-1e300, 1e300)}, "low < high"),
        (Label, {"name": "y", "classes": 0}, "classes is"),
        (Label, {"name": "y", "classes": 3, "encoding": "binary"}, "must be one of index, one_hot"),
        (Image, IMAGE | {"role": "!"}, "'!' cannot be a name"),
        (Image, IMAGE | {"channels": 0}, "channels is"),
        (Image, IMAGE | {"size": (8,)}, "height, width"),
        (Image, IMAGE | {"multiple_of": 0}, "multiple_of is"),
        (Scalar, {"name": "s", "range": (0.0, 1.0), "default": 2.0}, "the default 2.0 is outside 0.0 to 1.0"),
        (Output, OUTPUT | {"channels": 2}, r"2 channels; an image has 1 \(grey\), 3 \(RGB\) or 4 \(RGB and opacity\)"),
        (Output, OUTPUT | {"scale": 0}, "scale is"),
        (Output, OUTPUT | {"scale": 1.5}, r"from 1; for another one, give the images and the output a size$"),
        (Latent, {"name": "z", "shape": (0,)}, "takes whole numbers from 1$"),
    ],
)
def test_every_part_checks_itself(kind: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        kind(**values)


@pytest.mark.parametrize(
    ("items", "output", "message"),
    [
        ((), Output(**OUTPUT), "one input at least"),
        ((Latent("z", (3,)), Label("z", 3)), Output(**OUTPUT), "must all differ"),
        ((Latent("image", (3,)),), Output(**OUTPUT), r"both named 'image' \(the default of an output\); rename one"),
        ((Latent("z", (3,)),), Output(3, (0.0, 1.0), None), "only when there is an image input"),
    ],
)
def test_the_parts_must_fit_together(items: tuple[Input, ...], output: Output, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Spec("family", items, output)


def test_streams_count_the_noise_inputs_only() -> None:
    inputs = (
        Scalar("strength", (0.0, 1.0), 1.0),
        Label("y", 3),
        Latent("z", (3,)),
        Image(**IMAGE),
        Latent("noise_4", (4,)),
        Label("style", 5),
        Latent("noise_8", (8,)),
    )
    assert Spec("family", inputs, Output(**OUTPUT)).streams == {"z": 0, "y": 1, "noise_4": 2, "style": 3, "noise_8": 4}


@pytest.mark.parametrize(("channels", "colour"), [(1, "grey"), (3, "rgb"), (4, "rgba")])
def test_colour(channels: int, colour: str) -> None:
    assert Output(**OUTPUT | {"channels": channels}).colour == colour


@given(specs())
def test_parts_describe_themselves_in_one_line(spec: Spec) -> None:
    for part in (*spec.inputs, spec.output):
        assert str(part)
        assert "\n" not in str(part)
