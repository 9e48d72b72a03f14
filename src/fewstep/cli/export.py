"""`fewstep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fewstep.cli.options import ModelName
from fewstep.cli.output import say


def export(
    model: ModelName = "emoji",
    /,
    to: Literal["onnx", "openvino"] = "onnx",
    out: Path | None = None,
) -> int:
    """Export the network of a model for other programs.

    The inputs of the network are x, time_at, time_to and the conditions; its output is the raw prediction.

    Args:
        model: A built-in model, a directory, or user/name on the Hugging Face hub.
        to: The format: onnx, one file that includes the weights, or openvino, an .xml and a .bin file.
        out: The file to write; if left out, NAME.onnx or NAME.xml in the current directory.
    """
    from fewstep.engines.convert import convert
    from fewstep.models.finding import find

    saved = find(model)
    target = out or Path(f"{saved.spec.name}.{'onnx' if to == 'onnx' else 'xml'}")
    for file in convert(saved, to, target):
        say(f"{file}  {file.stat().st_size / 1e6:.1f} MB", None)
    return 0
