"""The graphs around a network that restores latents: what an encoder and a decoder say of themselves."""

from __future__ import annotations

from typing import NamedTuple

from mrs.runtime.onnx_guard.graph import (
    BATCH,
    HEIGHT,
    WIDTH,
    add,
    bytes_per_pixel,
    check_output,
    check_outputs,
    follow,
    sides_of,
    weights,
)
from mrs.runtime.onnx_guard.model import Model, Port

Sides = tuple[int, ...]


class Coder(NamedTuple):
    """What an encoder says of itself; a decoder says the same of what it takes and gives.

    Attributes:
        channels: of pictures.
        latent: channels of latents.
        scale: by which the sides of latents are smaller.
        hidden: sides of the hidden states, by their names.
        bytes_per_pixel: of its largest value.
    """

    channels: int
    latent: int
    scale: int
    hidden: dict[str, Sides]
    bytes_per_pixel: int


def encoder(content: bytes, model: Model, types: frozenset[int]) -> Coder:
    """What an encoder says of itself, once every value of it is followed.

    Raises:
        ValueError: for a graph that is none of ours.
    """
    values = weights(content, model, types)
    if [port.name for port in model.inputs] != ["picture"]:
        raise ValueError(f"inputs {', '.join(port.name for port in model.inputs[:4])}")
    picture = _picture(model.inputs[0])
    latent, hidden = _latents(model.outputs)
    add(values, model, (picture,))
    follow(model, values)
    check_outputs(model, values, {"latent": latent, **hidden})
    return Coder(picture[1], latent[1], HEIGHT // latent[2], hidden, bytes_per_pixel(model, values))


def decoder(content: bytes, model: Model, types: frozenset[int]) -> Coder:
    """The same for a decoder.

    Raises:
        ValueError: for a graph that is none of ours.
    """
    values = weights(content, model, types)
    latent, hidden = _latents(model.inputs)
    check_output(model)
    picture = _picture(model.outputs[0])
    add(values, model, (latent, *hidden.values()))
    follow(model, values)
    check_outputs(model, values, {"output": picture})
    return Coder(picture[1], latent[1], HEIGHT // latent[2], hidden, bytes_per_pixel(model, values))


def _picture(port: Port) -> Sides:
    sides = sides_of(port)
    if sides != (BATCH, sides[1], HEIGHT, WIDTH):
        raise ValueError("pictures with other sides")
    return sides


def _latents(ports: list[Port]) -> tuple[Sides, dict[str, Sides]]:
    """The sides of a latent and of the hidden states, which are named by their places."""
    if [port.name for port in ports] != ["latent", *(f"hidden_{index}" for index in range(len(ports) - 1))]:
        raise ValueError(f"{', '.join(port.name for port in ports[:4])} for a latent and hidden states")
    for port in ports:
        sides = sides_of(port)
        by = max(1, HEIGHT // sides[2])
        if sides != (BATCH, sides[1], HEIGHT // by, WIDTH // by):
            raise ValueError(f"{port.name} with other sides")
    latent, *hidden = map(sides_of, ports)
    return latent, {port.name: sides for port, sides in zip(ports[1:], hidden, strict=True)}
