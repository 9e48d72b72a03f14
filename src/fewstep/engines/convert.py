"""Export a model's network as a file for other programs: ONNX that includes the weights, or OpenVINO's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fewstep.engines.errors import EngineError
from fewstep.models.saved import SavedModel

Form = Literal["onnx", "openvino"]


def convert(model: SavedModel, form: Form, out: Path) -> list[Path]:
    """Write the network to `out`.

    Args:
        model: the model.
        form: onnx (one file) or openvino (an .xml file and a .bin file next to it).
        out: the file, ending in .onnx or .xml.

    Returns:
        The files written.

    Raises:
        EngineError: the model has no exported network.
        ImportError: the package for the format is not installed.
        ValueError: `out` has another ending.
    """
    ending = {"onnx": ".onnx", "openvino": ".xml"}[form]
    if out.suffix != ending:
        raise ValueError(f"the file for {form} must end in {ending}, got '{out}'")
    exported = model.exported
    if exported is None:
        raise EngineError(f"the model '{model.spec.name}' has no exported network")
    if form == "onnx":
        try:
            import onnx
        except ImportError as error:
            raise ImportError("writing ONNX needs onnx: pip install 'fewstep[train]'") from error
        onnx.save(onnx.load(exported), out)  # including the weights that it refers to
        return [out]
    try:
        import openvino
    except ImportError as error:
        raise ImportError("writing OpenVINO's format needs openvino: pip install 'fewstep[openvino]'") from error
    openvino.save_model(openvino.Core().read_model(exported), out, compress_to_fp16=False)
    return [out, out.with_suffix(".bin")]
