"""`Family`: one generator architecture with its Spec, config and checkpoint layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Generic, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.spec import Spec

ConfigT = TypeVar("ConfigT")
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Key of a state dict -> shape of its tensor."""


State: TypeAlias = dict[str, Tensor]
"""Key -> tensor, as `nn.Module.state_dict` returns it."""


def _keep_state(state: State, config: Any) -> State:
    return state


@dataclass(frozen=True)
class Layout(Generic[ConfigT]):
    """The checkpoint format of one project."""

    name: str
    """The project, by the name its users know."""
    guess: Callable[[Shapes], ConfigT | None]
    """Infers the config from the shapes of a checkpoint, or returns None if the layout does not match. A guess may be
    wrong: the converted state is compared with the family's keys and shapes afterwards."""
    convert: Callable[[State, ConfigT], State] = _keep_state
    """Returns the state under the family's keys, with spectral norm and scaled weights folded into plain weights; exact
    in real arithmetic. Raises KeyError when a tensor is missing."""


@dataclass(frozen=True)
class Family(Generic[ConfigT]):
    """One architecture, and everything that the rest of ganrt uses of it."""

    name: str
    """Its key in `ganrt.models.FAMILIES`, and the name of its module."""
    config: type[ConfigT]
    """Frozen dataclass of plain values with defaults; its `__post_init__` raises RequestError for values out of
    bounds."""
    generator: Callable[[ConfigT], nn.Module]
    """Builds the generator. Its forward pass takes the inputs of the Spec in order, batch first, and returns float32
    NCHW in the output range."""
    spec: Callable[[ConfigT], Spec]
    """Builds the Spec: inputs, and the output's size and range."""
    layouts: tuple[Layout[ConfigT], ...]
    """Checkpoint formats that are recognised; the family's own keys come first."""
    discriminator: Callable[[ConfigT], nn.Module] | None = None
    """Builds the discriminator. Its forward pass takes float32 NCHW (and int64 labels (N,) if the Spec has a label) and
    returns one logit per image, (N,). None for families that are trained without one, or not at all."""
    trainable: Callable[[ConfigT], nn.Module] | None = None
    """Builds the generator for training, if that differs: with parametrizations (spectral norm, equalised learning
    rate) that `ganrt.models.parametrize.fold` turns into plain weights under the keys of `generator`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """For projects that split a generator over several checkpoint files: the name of each part -> the prefix of its
    keys. One file is exported, the others are settings: `ganrt export decoder.pth --config encoder=FILE`."""
    attributes: Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default=lambda found: {})
    """The settings that the attributes of an original module tell, such as `synthesis.b4.conv1.conv_clamp`: for network
    pickles (ganrt.models.network_pickle). Raises RequestError for a value that the family does not have."""
    task: str = "adversarial"
    """How it is trained: a row of ganrt.training.tasks."""

    def configure(self, values: Mapping[str, Any]) -> ConfigT:
        """Build a config from plain values. Text such as "64", from the command line, is parsed.

        Raises RequestError for an unknown name or a value out of bounds.
        """
        return parse_config(self.config, values, self.name)

    def settings(self, config: ConfigT) -> dict[str, Any]:
        """The config as a dict of plain values, for a manifest."""
        return asdict(config)  # type: ignore[call-overload, no-any-return]


def parse_config(kind: type[ConfigT], values: Mapping[str, Any], owner: str) -> ConfigT:
    """Build a frozen dataclass of plain values; text is parsed to the type that the field declares.

    Args:
        kind: the dataclass.
        values: field name -> value. Fields left out take their defaults.
        owner: the subject of error messages, such as `the recipe of dcgan`.

    Raises RequestError for an unknown name or a value out of bounds.
    """
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise RequestError(f"{owner} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    try:
        kinds = get_type_hints(kind)
        return kind(**{name: _parse_value(kinds[name], value) for name, value in values.items()})
    except ValueError as error:
        raise RequestError(f"{owner}: {error}") from error


def _parse_value(kind: Any, value: Any) -> Any:
    """Parse a value of the declared type: int, float, bool, str, or a tuple[int, ...] or tuple[float, ...]."""
    if kind is bool and str(value) in ("True", "true", "1", "False", "false", "0"):
        return str(value) in ("True", "true", "1")
    if kind is str and isinstance(value, str):
        return value
    if get_origin(kind) is tuple and isinstance(value, str | list | tuple):
        part_kind = get_args(kind)[0]
        return tuple(_parse_value(part_kind, part) for part in (value.split(",") if isinstance(value, str) else value))
    if kind in (int, float) and not isinstance(value, bool) and isinstance(value, kind | int | str):
        return kind(value)
    raise RequestError(f"{value!r} is not {_KINDS.get(kind, 'a list of whole numbers')}")


_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple[float, ...]: "a list of numbers",
}


AnyFamily: TypeAlias = Family[Any]


def check_bounds(**values: tuple[int, int, int]) -> None:
    """Raise RequestError unless low <= value <= high, for name=(value, low, high)."""
    for name, (value, low, high) in values.items():
        if not low <= value <= high:
            raise RequestError(f"{name} is {value}; it must be from {low} to {high}")


def check_channels(channels: int) -> None:
    """Raise RequestError unless there is 1 channel (grey) or 3 (RGB)."""
    if channels not in (1, 3):
        raise RequestError(f"channels is {channels}; it must be 1 (grey) or 3 (RGB)")


def init_normal(module: nn.Module) -> None:
    """Initialise as DCGAN does (Radford et al. 2016, section 3): weights N(0, 0.02), batch-norm gains N(1, 0.02)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)


def flatten_logits(features: Tensor) -> Tensor:
    """Reshape logits (N, 1, 1, 1) or (N, 1) to (N,)."""
    return features.flatten()
