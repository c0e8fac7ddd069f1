"""Network pickles are read without executing anything in them, and whatever they hold is bounded."""

import contextlib
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_cases import GoldenCase, load_golden_case
from helpers.network_pickles import Traps, call_in_pickle

import ganrt
from ganrt.errors import CheckpointError, RequestError
from ganrt.export import export
from ganrt.export.sources import open_source
from ganrt.models import read_checkpoint, read_state
from ganrt.models.network_pickle import NAMES, read_network_pickle

ATTRIBUTES: dict[str, Any] = {
    "z_dim": 32,
    "synthesis.b4.conv1.conv_clamp": 200,
    "synthesis.b4.conv1.activation": "lrelu",
    "synthesis.b4.conv1.act_gain": np.sqrt(2),
    "synthesis.b4.conv1.size": np.array([4, 4]),
    "mapping.fc0.bias_gain": np.float32(0.01),
}


@pytest.fixture
def traps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Traps:
    return Traps(monkeypatch, tmp_path / "executed")


@pytest.fixture
def case(tmp_path: Path) -> GoldenCase:
    return load_golden_case("stylegan2", tmp_path)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_and_attributes_are_read_and_nothing_runs(
    protocol: int, traps: Traps, case: GoldenCase, tmp_path: Path
) -> None:
    state = read_state(case.checkpoint)
    path = traps.write(tmp_path / "network.pkl", traps.wrap(traps.pack(state, ATTRIBUTES)), protocol)
    found = read_checkpoint(path)
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], value) for key, value in state.items())
    assert {key: found.attributes.get(key) for key in ATTRIBUTES} == {
        **ATTRIBUTES,
        "mapping.fc0.bias_gain": pytest.approx(0.01),
        "synthesis.b4.conv1.size": None,
    }
    assert not traps.marker.exists()
    with path.open("rb") as file:
        pickle.load(file)
    assert traps.marker.read_text() == "called"  # so the traps do work


def test_a_network_pickle_with_hostile_code_is_exported(traps: Traps, case: GoldenCase, tmp_path: Path) -> None:
    network = traps.pack(read_state(case.checkpoint), ATTRIBUTES)
    path = traps.write(tmp_path / "network.pkl", traps.wrap(network))
    bundle = export(path, tmp_path / "network.ganrt", backends="onnxruntime")
    with ganrt.load(bundle.path, "onnxruntime") as generator:
        found = generator(**case.inputs)
    assert np.abs(found - case.output).max() < 1e-4 * np.ptp(case.output)
    assert not traps.marker.exists()


def test_a_network_pickle_of_stylegan3_brings_its_settings(traps: Traps, tmp_path: Path) -> None:
    case = load_golden_case("stylegan3_t", tmp_path)
    told = {"synthesis.input.bandwidth": np.float64(1.5), "synthesis.output_scale": 0.125}
    path = traps.write(tmp_path / "network.pkl", traps.wrap(traps.pack(read_state(case.checkpoint), told)))
    loaded, usual = open_source(path), open_source(case.checkpoint, {"bandwidth": "1.5"})
    assert loaded.model is not None and loaded.model["family"] == "stylegan3"
    assert (loaded.model["config"]["bandwidth"], loaded.model["config"]["output_scale"]) == (1.5, 0.125)
    z = torch.from_numpy(case.inputs["z"])
    inputs = (z, torch.ones(len(z)))
    torch.testing.assert_close(2 * loaded.module(*inputs), usual.module(*inputs))
    assert not traps.marker.exists()


def test_settings_come_from_the_pickle_and_the_command_line_overrules(
    traps: Traps, case: GoldenCase, tmp_path: Path
) -> None:
    network = traps.pack(read_state(case.checkpoint), {**ATTRIBUTES, "mapping.fc0.bias_gain": 0.02})
    path = traps.write(tmp_path / "network.pkl", network)
    for given, expected in (({}, (200.0, 0.02)), ({"clamp": "0", "mapping_rate": "0.01"}, (0.0, 0.01))):
        model = open_source(path, given).model
        assert model is not None and (model["config"]["clamp"], model["config"]["mapping_rate"]) == expected
    traps.write(path, traps.pack(read_state(case.checkpoint), {"synthesis.b4.conv1.conv_clamp": None}))
    model = open_source(path).model
    assert model is not None and (model["config"]["clamp"], model["config"]["mapping_rate"]) == (0.0, 0.01)


def test_another_activation_is_refused(traps: Traps, case: GoldenCase, tmp_path: Path) -> None:
    network = traps.pack(read_state(case.checkpoint), {"mapping.fc1.activation": "relu"})
    path = traps.write(tmp_path / "network.pkl", network)
    with pytest.raises(RequestError, match=r"mapping\.fc1\.activation is 'relu'; ganrt's stylegan2 has leaky ReLUs"):
        open_source(path)


def test_buffers_that_no_state_dict_holds_are_left_out(traps: Traps, tmp_path: Path) -> None:
    network = traps.pack({"a.weight": torch.ones(2), "a.shift": torch.ones(2)}, {})
    network.get_submodule("a").register_buffer("cache", torch.ones(2), persistent=False)
    network.get_submodule("a").register_buffer("empty", None)
    for protocol in (3, 4):
        path = traps.write(tmp_path / "network.pkl", network, protocol)
        assert list(read_state(path)) == ["a.weight", "a.shift"]


def test_a_state_dict_that_pickle_wrote(tmp_path: Path) -> None:
    """Views share their storage; each becomes a tensor of its own."""
    base = torch.arange(12.0)
    state = {
        "weight": base[:6].reshape(2, 3).T,
        "half": base[3:5].half(),
        "bits": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "number": torch.tensor(3),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(1)),
    }
    (tmp_path / "state.pkl").write_bytes(pickle.dumps(OrderedDict(state)))
    found = read_state(tmp_path / "state.pkl")
    assert list(found) == list(state)
    for key, value in state.items():
        assert torch.equal(found[key], value) and found[key].dtype == value.dtype and found[key].is_contiguous()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch_utils.persistence", "import_hooks"),
        ("torch.storage", "_load_from_bytes.__globals__"),
    ],
)
def test_any_other_name_is_refused(module: str, name: str, traps: Traps, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(call_in_pickle(module, name, f"touch {traps.marker}"))
    expected = rf"hostile\.pkl was refused, and nothing in it was executed: .* it names {module}\.{name}\. Pass the"
    with pytest.raises(CheckpointError, match=expected):
        read_state(path)
    assert not traps.marker.exists()


def test_hostile_code_among_the_attributes_and_in_a_storage_is_refused(traps: Traps, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(traps.marker)!r}, 'w')",)

    path = traps.write(tmp_path / "a.pkl", traps.wrap(traps.pack({}, {"mapping.hook": Hostile()})))
    with pytest.raises(CheckpointError, match=r"it names builtins\.eval"):
        read_state(path)
    inner = pickle.dumps(Hostile())
    path.write_bytes(pickle.dumps({"weight": torch.ones(2)}).replace(b"FloatStorage", b"FloatStorag3"))
    with pytest.raises(CheckpointError, match=r"it names torch\.FloatStorag3"):
        read_state(path)
    path.write_bytes(call_in_pickle("torch.storage", "_load_from_bytes", inner.decode("latin1")))
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(path)
    assert not traps.marker.exists()


def test_a_network_of_tensorflow_is_told_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "stylegan2-ffhq-config-f.pkl"
    path.write_bytes(call_in_pickle("dnnlib.tflib.network", "Network"))
    with pytest.raises(CheckpointError, match=r"network of TensorFlow: convert it with legacy\.py of NVlabs/stylegan3"):
        read_state(path)


def test_names_are_records_that_cannot_be_called(tmp_path: Path) -> None:
    for full in sorted(NAMES - {"builtins.set", "__builtin__.set"}):
        path = tmp_path / "name.pkl"
        path.write_bytes(call_in_pickle(*full.rsplit(".", 1)))
        with contextlib.suppress(CheckpointError):
            assert not isinstance(read_network_pickle(path).content, torch.Tensor | torch.nn.Module)


def resize(size: object, stride: object, offset: object = 0) -> object:
    """A tensor whose record tells another size than it has."""

    class Resized:
        def __reduce__(self) -> tuple[Any, ...]:
            rebuild, arguments = torch.ones(6).__reduce_ex__(2)[:2]
            return rebuild, (arguments[0], offset, size, stride, *arguments[4:])

    return Resized()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (resize((2**40,), (0,)), "a tensor in it has 1099511627776 elements, and the file holds 6 for it"),
        (resize((7,), (1,)), "a tensor in it has 7 elements"),
        (resize((6,), (1,), 1), "a tensor in it has 6 elements, and the file holds 6"),
        (resize((2, 2), (5, 1)), "a tensor in it has 4 elements"),
        (resize((2,), (1,), -1), "size of a tensor in it is out of bounds"),
        (resize((-2,), (1,)), "size of a tensor in it is out of bounds"),
        (resize((2**48,), (1,)), "size of a tensor in it is out of bounds"),
        (resize((1,) * 9, (1,) * 9), "size of a tensor in it is out of bounds"),
        (resize(("a",), (1,)), "size of a tensor in it is out of bounds"),
        (resize((2,), (1, 1)), "size of a tensor in it is damaged"),
        (resize([2], [1]), "size of a tensor in it is damaged"),
    ],
)
def test_sizes_are_checked_before_there_is_memory_for_them(tensor: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"weight": tensor}))
    with pytest.raises(
        CheckpointError, match=rf"x\.pkl cannot be read as a pickle of networks or tensors: .*{message}"
    ):
        read_state(tmp_path / "x.pkl")


def test_a_view_as_large_as_its_storage_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"weight": resize((3, 2), (1, 3)), "last": resize((1,), (9,), 5)}))
    assert {key: value.shape for key, value in read_state(tmp_path / "x.pkl").items()} == {
        "weight": (3, 2),
        "last": (1,),
    }


def test_tensors_that_share_their_data_are_not_larger_than_the_file(tmp_path: Path) -> None:
    shared = torch.ones(1000)
    content = pickle.dumps({str(k): view for k, view in enumerate([shared] * 100)})
    assert len(content) < 10_000
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match="its tensors are larger than the file"):
        read_state(tmp_path / "x.pkl")


def test_data_that_is_not_as_long_as_it_says(tmp_path: Path) -> None:
    content = pickle.dumps({"weight": torch.ones(2)}, 3)
    place = content.index(b"\x02\0\0\0\0\0\0\0\0\0\x80?")
    for wrong in (b"\x03\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"):
        (tmp_path / "x.pkl").write_bytes(content[:place] + wrong + content[place + 8 :])
        with pytest.raises(CheckpointError, match="the data of a tensor in it is not as long as it says"):
            read_state(tmp_path / "x.pkl")


def test_modules_within_themselves_and_too_many_operations_come_to_an_end(traps: Traps, tmp_path: Path) -> None:
    network = traps.pack({"a.weight": torch.ones(2)}, {})
    network.get_submodule("a")._modules["b"] = inner = traps.pack({}, {})
    path = traps.write(tmp_path / "x.pkl", network)
    content = path.read_bytes()
    assert list(read_state(path)) == ["a.weight"]
    for _ in range(500):
        deeper = traps.pack({}, {})
        inner._modules["c"] = deeper
        inner = deeper
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    try:
        traps.write(path, network)
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(CheckpointError, match="its modules are too many, or within one another without end"):
        read_state(path)
    path.write_bytes(b"\x80\x04" + 1_000_001 * b"N" + b".")
    with pytest.raises(CheckpointError, match="it has more than 1,000,000 operations"):
        read_state(path)
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="cannot be read as a pickle"):
        read_state(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04.",  # nothing on the stack
        b"\x80\x04t.",  # no mark
        b"\x80\x04h\x00.",  # nothing stored
        b"\x80\x04r\xff\xff\xff\xff.",  # stored far away, of nothing
        b"\x80\x04K\x01K\x02a.",  # appended to a number
        b"\x80\x04K\x01K\x02K\x03s.",
        b"\x80\x04}(K\x01u.",  # a key without a value
        b"\x80\x04}]K\x01s.",  # a list as a key
        b"\x80\x04}\x85K\x01s.",
        b"\x80\x04\x8f(]\x90.",
        b"\x80\x04K\x01K\x02R.",  # a call of a number
        b"\x80\x04K\x01}b.",  # a state of a number
        b"\x80\x04K\x01K\x02\x93.",  # a number as a name
        b"\x80\x04ccollections\nOrderedDict\nK\x01R.",  # arguments that are a number
        b"\x80\x04B\xff\xff\xff\x7f.",  # bytes that are not there
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04i.",  # operations of old protocols
        b"\x80\x04\x82\x01.",
        b"\x80\x04I" + 5000 * b"9" + b"\n.",
    ],
)
def test_operations_that_do_not_fit_together(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read as a pickle of networks or tensors: .+"):
        read_state(tmp_path / "x.pkl")


def test_any_damage_is_refused_in_one_way(traps: Traps, tmp_path: Path) -> None:
    """Flipped bytes anywhere give either a checkpoint or a CheckpointError, never another exception."""
    network = traps.pack({"a.weight": torch.ones(2), "b.c.shift": torch.ones(3)}, {"b.gain": np.sqrt(2), "b.size": 3})
    path = traps.write(tmp_path / "x.pkl", traps.wrap(network), 3)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for place in random.integers(2, len(content), random.integers(1, 4)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"} and not traps.marker.exists()
