"""The inputs that a network must take, and its size, in terms that apply to every kind of network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of a network.

    Args:
        shape: shape of x: [c, h, w] for images encoded by their codec, [d] for points.
        text: length of a token's vector, or 0 for no text.
        text_length: maximum number of tokens of a prompt.
        classes: number of classes, or 0.
        control: whether a control image of the shape of x is an input.
        guidance: whether the guidance scale is an input.
        target: whether the network must know where a jump ends, as a flow map must.
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
    """The size of a network, in terms that apply to every kind.

    Args:
        widths: channels at each resolution, which halves from one to the next; the first is a perceptron's width.
        depths: blocks at each resolution; the first is a perceptron's depth.
        embedding: length of the embedding of times and summaries.
        text_width: width of the text transformer.
        canvas: at each resolution, channels of a canvas that is drawn from the embedding alone, or 0; () for none.
        prior: length of the embedding and channels of the features of a prior, a picture drawn from the prompt alone;
            () for none.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    embedding: int = 256
    text_width: int = 192
    canvas: tuple[int, ...] = ()
    prior: tuple[int, ...] = ()
