"""What is around the module that people hand over: DataParallel, torch.compile, a GPU in forward, a dictionary or an
object as the result, channels last, bytes, a fourth channel."""

from __future__ import annotations

import collections
import warnings
from dataclasses import replace
from typing import Any, cast

import torch
from bring.cartoon import Wrapped, spec
from bring.common import Made
from torch import Tensor, nn


def dataparallel() -> Made:
    return nn.DataParallel(Wrapped()), spec()


def compiled() -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast(nn.Module, torch.compile(Wrapped())), spec()


class Cuda(Wrapped):
    def forward(self, photo: Tensor) -> Tensor:
        return super().forward(photo) + torch.zeros(1, device="cuda")


def cuda() -> Made:
    return Cuda(), spec()


class Dictionary(Wrapped):
    def forward(self, photo: Tensor) -> Any:
        return {"image": super().forward(photo), "mask": photo[:, :1]}


def dictionary() -> Made:
    return Dictionary(), spec()


class Sample(collections.OrderedDict[str, Tensor]):
    """As diffusers returns it."""


class Diffusers(Wrapped):
    def forward(self, photo: Tensor) -> Any:
        return Sample(sample=super().forward(photo))


def diffusers() -> Made:
    return Diffusers(), spec()


def diffusers_named() -> Made:
    return Diffusers(), replace(spec(), output=replace(spec().output, name="sample"))


class Opaque(Wrapped):
    def forward(self, photo: Tensor) -> Tensor:
        made = super().forward(photo)
        return torch.cat([made, made[:, :1]], 1)


def rgba() -> Made:
    return Opaque(), replace(spec(), output=replace(spec().output, channels=4))


class ChannelsLast(Wrapped):
    def forward(self, photo: Tensor) -> Tensor:
        return super().forward(photo).permute(0, 2, 3, 1)


def nhwc() -> Made:
    return ChannelsLast(), spec()


class Bytes(Wrapped):
    def forward(self, photo: Tensor) -> Tensor:
        return (super().forward(photo) * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)


def uint8() -> Made:
    return Bytes(), spec()


def program() -> Made:
    """What torch.export.load gives."""
    example = (torch.rand(2, 3, 24, 24),)
    return cast(nn.Module, torch.export.export(Wrapped().eval(), example).module()), spec()
