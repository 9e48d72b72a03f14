"""What a network of any kind must take, and how large it is to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkInputs:
    """What a network is called with.

    Args:
        shape: of x: [c, h, w] for images after their codec, [d] for points.
        text: numbers in a token's vector, or 0 for no text.
        text_length: tokens a prompt may have.
        classes: labels, or 0.
        control: whether a control image of x's shape is an input.
        guidance: whether the guidance scale is an input.
        target: whether the network must know where a jump ends: a flow map's must.
    """

    shape: tuple[int, ...]
    text: int = 0
    text_length: int = 0
    classes: int = 0
    control: bool = False
    guidance: bool = False
    target: bool = False


@dataclass(frozen=True)
class NetworkSize:
    """How large a network is, in terms that every kind has.

    Args:
        widths: channels at each resolution, each half the one before; the first is a perceptron's width.
        depths: blocks at each resolution; the first is a perceptron's depth.
        embedding: numbers in the embedding of times and summaries.
        text_width: of the text's transformer.
        canvas: at each resolution, channels of a canvas that the embedding alone draws on, or 0; () for none.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    embedding: int = 256
    text_width: int = 192
    canvas: tuple[int, ...] = ()
