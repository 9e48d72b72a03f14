"""LoRA files in both layouts: what is in them, that reading gives back the same update, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.interop.lora_files import read_lora, write_diffusers, write_kohya
from fewstep.interop.lora_weights import LoraMatrices, LoraWeights, adaptable
from fewstep.models.parts import ModelError
from lora_networks import NETWORKS, sd3, unet

QUERY = "transformer_blocks.0.attn.to_q"
PREFIX = {"unet": ("unet", "lora_unet_"), "sd3": ("transformer", "lora_transformer_")}
PREFIX["flux"] = PREFIX["sd3"]


def random_lora(family: str, uneven: bool = False) -> LoraWeights:
    """A LoRA on every linear and convolution layer of a network, with alpha 6.5 at rank 4 or with mixed ones."""
    torch.manual_seed(1)
    layers = {}
    for number, (path, layer) in enumerate(adaptable(NETWORKS[family]()).items()):
        out, inputs, *kernel = layer.weight.shape
        rank, alpha = (number % 3 + 1, number % 5 + 0.5) if uneven else (4, 6.5)
        layers[path] = LoraMatrices(
            torch.randn(rank, inputs, *kernel), torch.randn(out, rank, *(1 for _ in kernel)), alpha
        )
    return LoraWeights("unet" if family == "unet" else "transformer", layers)


def same_updates(read: LoraWeights, written: LoraWeights, tolerance: float = 1e-6) -> bool:
    pairs = [(read.layers[path].delta(), matrices.delta()) for path, matrices in written.layers.items()]
    close = all((a - b).abs().max() <= tolerance * b.abs().max() for a, b in pairs)
    return close and set(read.layers) == set(written.layers) and read.component == written.component


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_either_layout_gives_back_the_same_updates(tmp_path: Path, family: str, uneven: bool) -> None:
    written, network = random_lora(family, uneven), NETWORKS[family]()
    for file in (
        write_diffusers(written, tmp_path / "new" / "run"),
        write_kohya(written, tmp_path / "k.safetensors"),
    ):
        assert same_updates(read_lora(file, network), written)
    assert [file.name for file in (tmp_path / "new" / "run").iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert same_updates(read_lora(tmp_path / "new" / "run", network), written), "a directory"


@pytest.mark.parametrize("family", NETWORKS)
def test_diffusers_layout_has_alpha_equal_to_rank_with_and_without_its_metadata(tmp_path: Path, family: str) -> None:
    written = random_lora(family, uneven=True)
    file = write_diffusers(written, tmp_path)
    prefix, _ = PREFIX[family]
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    settings = json.loads(metadata["lora_adapter_metadata"])
    assert all(name.startswith(f"{prefix}.") for name in settings)
    assert settings[f"{prefix}.alpha_pattern"] == settings[f"{prefix}.rank_pattern"] != {}
    assert settings[f"{prefix}.lora_alpha"] == settings[f"{prefix}.r"]
    assert settings[f"{prefix}.target_modules"] == sorted(written.layers)
    tensors = load_file(file)
    assert set(tensors) == {f"{prefix}.{path}.lora_{m}.weight" for path in written.layers for m in "AB"}
    for path, matrices in written.layers.items():
        product = tensors[f"{prefix}.{path}.lora_B.weight"].flatten(1) @ tensors[
            f"{prefix}.{path}.lora_A.weight"
        ].flatten(1)
        assert torch.allclose(product, matrices.delta().flatten(1), rtol=1e-5, atol=1e-5)
    save_file(tensors, tmp_path / "plain.safetensors")
    assert same_updates(read_lora(tmp_path / "plain.safetensors", NETWORKS[family]()), written)


@pytest.mark.parametrize("family", NETWORKS)
def test_kohyas_layout_has_the_true_alpha_and_the_matrices_as_they_are(tmp_path: Path, family: str) -> None:
    written = random_lora(family)
    tensors = load_file(write_kohya(written, tmp_path / "k.safetensors"))
    _, prefix = PREFIX[family]
    assert len(tensors) == 3 * len(written.layers)
    for path, matrices in written.layers.items():
        name = prefix + path.replace(".", "_")
        assert tensors[f"{name}.alpha"].item() == 6.5
        assert tensors[f"{name}.alpha"].shape == ()
        assert torch.equal(tensors[f"{name}.lora_down.weight"], matrices.down)
        assert torch.equal(tensors[f"{name}.lora_up.weight"], matrices.up)


def test_kohyas_layout_has_one_alpha_for_all_layers(tmp_path: Path) -> None:
    file = write_kohya(random_lora("unet", uneven=True), tmp_path / "k.safetensors")
    assert len({values.item() for name, values in load_file(file).items() if name.endswith(".alpha")}) == 1


def test_a_kohya_layer_without_alpha_has_that_of_its_rank(tmp_path: Path) -> None:
    name = "lora_transformer_transformer_blocks_0_attn_to_q"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 16), f"{name}.lora_up.weight": torch.ones(16, 2)}
    save_file(tensors, tmp_path / "k.safetensors")
    read = read_lora(tmp_path / "k.safetensors", sd3())
    assert {path: (m.rank, m.alpha) for path, m in read.layers.items()} == {QUERY: (2, 2.0)}


def query(down: tuple[int, ...] = (2, 16), up: tuple[int, ...] = (16, 2), path: str = QUERY) -> dict[str, Tensor]:
    return {
        f"transformer.{path}.lora_A.weight": torch.ones(down),
        f"transformer.{path}.lora_B.weight": torch.ones(up),
    }


def test_the_alpha_of_a_file_of_diffusers_is_that_of_its_metadata(tmp_path: Path) -> None:
    other = "transformer_blocks.1.attn.to_q"
    settings = {"transformer.lora_alpha": 3, "transformer.r": 2, "transformer.alpha_pattern": {f"^{other}": 5}}
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(query() | query(path=other), tmp_path / "d.safetensors", metadata)
    read = read_lora(tmp_path / "d.safetensors", sd3())
    assert {path: matrices.alpha for path, matrices in read.layers.items()} == {QUERY: 3.0, other: 5.0}


K = "lora_transformer_transformer_blocks_0_attn_to_q"
ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (query() | {f"transformer.{QUERY}.lora_magnitude_vector": ONE}, "is a DoRA, only a plain LoRA can be read"),
        ({f"{K}.lora_down.weight": ONE, f"{K}.dora_scale": ONE}, "is a DoRA"),
        ({f"{K}.lora_down.weight": ONE, f"{K}.lora_mid.weight": ONE}, "is a LoCon with a convolution between"),
        ({f"{K}.hada_w1_a": ONE}, "is a LoHa"),
        ({f"{K}.lokr_w1": ONE}, "is a LoKr"),
        (query() | {"text_encoder.layers.0.lora_A.weight": ONE}, r"is also for a text encoder.*\('text_encoder.layers"),
        ({f"{K}.lora_down.weight": ONE, "lora_te1_text_model.lora_up.weight": ONE}, "is also for a text encoder"),
        ({f"unet.{QUERY}.lora_A.weight": ONE}, "is of another model: its keys begin otherwise than 'transformer.'"),
        ({"lora_unet_a.lora_up.weight": ONE}, "is of another model: its keys begin otherwise than 'lora_transformer_'"),
        ({"blocks.0.weight": ONE}, r"is in no known LoRA layout \('blocks.0.weight'\)"),
        ({f"transformer.{QUERY}.weight": ONE}, "is in no known LoRA layout"),
        ({f"{K}.lora_down.weight": ONE, f"{K}.diff": ONE}, r"is in no known LoRA layout \(.*\.diff'\)"),
        ({f"{QUERY}.lora_A.weight": ONE}, "is in no known LoRA layout"),
        ({f"transformer.{QUERY}.lora_A.weight": ONE}, f"lacks the up matrix of '{QUERY}'"),
        ({f"{K}.lora_up.weight": ONE}, f"lacks the down matrix of '{QUERY}'"),
        (query(up=(16, 3)), f"'{QUERY}': matrices of 2x16 and 16x3 are not a LoRA's"),
        (query(up=(8, 2)), f"is of another model: '{QUERY}' is 8x16 there and 16x16 in SD3Transformer2DModel"),
        (query(path="blocks.9.to_q"), r"SD3Transformer2DModel has no layer 'blocks.9.to_q' \(16x16\)"),
        ({f"lora_transformer_a.lora_{m}.weight": ONE.reshape(1, 1) for m in ("up", "down")}, r"has no layer 'a' \(1x1\)"),
        ({}, "holds no LoRA: it is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file({key: values.clone() for key, values in tensors.items()}, file)
    with pytest.raises(ModelError, match=message) as refused:
        read_lora(file, sd3())
    assert str(refused.value).startswith(f"'{file}'")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "is not a plain LoRA: use_dora is True"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"modules_to_save": ["proj_out"]}, "modules_to_save is"),
        ({"use_something_new": 3}, "use_something_new is 3"),
        ({"lora_alpha": None}, "lora_alpha that is no number"),
        ({"alpha_pattern": {"to_q": "4"}}, "lora_alpha that is no number"),
        ({"init_lora_weights": "gaussian", "lora_dropout": 0.1, "target_modules": ["to_q"]}, None),
    ],
)
def test_settings_that_change_the_meaning_of_the_matrices_are_refused(
    tmp_path: Path, settings: Mapping[str, object], message: str | None
) -> None:
    written = {f"transformer.{name}": value for name, value in ({"lora_alpha": 2, "r": 2} | dict(settings)).items()}
    save_file(query(), tmp_path / "d.safetensors", {"lora_adapter_metadata": json.dumps(written)})
    if message is None:
        assert read_lora(tmp_path / "d.safetensors", sd3()).layers[QUERY].alpha == 2
        return
    with pytest.raises(ModelError, match=message):
        read_lora(tmp_path / "d.safetensors", sd3())


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_lora(tmp_path / name, sd3())
    save_file(query(), tmp_path / "d.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(ModelError, match="metadata that is not JSON"):
        read_lora(tmp_path / "d.safetensors", sd3())


def test_names_that_coincide_in_kohyas_layout_are_refused(tmp_path: Path) -> None:
    matrices = LoraMatrices(torch.ones(1, 2), torch.ones(2, 1), 1.0)
    with pytest.raises(ModelError, match=r"'a.b_c' and 'a_b.c' have the same name in kohya's layout"):
        write_kohya(LoraWeights("unet", {"a.b_c": matrices, "a_b.c": matrices}), tmp_path / "k.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_on_a_network_that_has_adapters(tmp_path: Path) -> None:
    from fewstep.interop.lora import add_lora

    written, network = random_lora("unet"), unet()
    add_lora(network, 2)
    assert same_updates(read_lora(write_kohya(written, tmp_path / "k.safetensors"), network), written)
