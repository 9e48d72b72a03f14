"""An acceleration LoRA on diffusers networks: where it goes, what learns, and the teacher below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.core.arrays import Condition
from fewstep.core.parameterisations import Edm
from fewstep.interop.lora import TRANSFORMER_TARGETS, UNET_TARGETS, adapters_off, add_lora
from fewstep.interop.lora_weights import LoraMatrices, LoraWeights, adaptable
from fewstep.models.parts import ModelError
from fewstep.objectives import Diffusion
from fewstep.training.loop import train
from fewstep.training.optimizers import OptimizerConfig
from fewstep.training.trainable import fingerprint, sharing_copy, trainable
from lora_networks import NETWORKS, flux, inputs, output, sd3, unet
from training_runs import CONFIG, Rows


def randomise(network: nn.Module, seed: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2)
    return network


def with_lora(family: str, rank: int = 4, alpha: float = 6.5) -> nn.Module:
    network = NETWORKS[family]()
    add_lora(network, rank, alpha)
    return randomise(network)


def kinds(paths: tuple[str, ...], targets: tuple[str, ...]) -> Counter[str]:
    return Counter(next(target for target in targets if path.endswith(f".{target}")) for path in paths)


def test_a_unet_is_adapted_in_the_fourteen_kinds_of_layer_of_lcm_lora() -> None:
    network = unet()
    paths = add_lora(network)
    assert len(paths) == 79
    assert set(kinds(paths, UNET_TARGETS)) == set(UNET_TARGETS)
    assert len(UNET_TARGETS) == 14
    untouched = set(adaptable(network)) - set(paths)
    assert untouched == {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert set(LoraWeights.of(network).layers) == set(paths)
    assert {(m.rank, m.alpha) for m in LoraWeights.of(network).layers.values()} == {(64, 64.0)}


def test_a_transformer_is_adapted_in_its_blocks() -> None:
    joint, single = add_lora(sd3()), add_lora(flux())
    common = Counter(dict.fromkeys(TRANSFORMER_TARGETS[:12], 1))
    last = Counter({"to_q": 1, "to_k": 1, "to_v": 1, "to_out.0": 1, "ff.net.0.proj": 1, "ff.net.2": 1})
    added = Counter({"add_q_proj": 1, "add_k_proj": 1, "add_v_proj": 1})
    assert kinds(joint, TRANSFORMER_TARGETS) == common + last + added, "the last block's text ends there"
    alone = Counter({"to_q": 1, "to_k": 1, "to_v": 1, "proj_mlp": 1, "proj_out": 1})
    assert kinds(single, TRANSFORMER_TARGETS) == common + alone
    assert "proj_out" not in {*joint, *single}, "the last projection is in no block"


def test_targets_are_ends_of_paths() -> None:
    network = flux()
    assert add_lora(network, targets=["proj_out"]) == ("single_transformer_blocks.0.proj_out", "proj_out")
    assert set(LoraWeights.of(network).layers) == {"single_transformer_blocks.0.proj_out", "proj_out"}
    paths = add_lora(unet(), targets=["attn2.to_k", "conv_in"])
    assert "conv_in" in paths
    assert all(path.endswith(("attn2.to_k", "conv_in")) for path in paths)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ["to_q", "to_x"]}, "no linear or convolution layer of UNet2DConditionModel is called 'to_x'"),
        ({"targets": ["attn1"]}, "is called 'attn1'"),
        ({"targets": ["norm1"]}, "is called 'norm1'"),
        ({"targets": [""]}, "is called ''"),
        ({"targets": ["o_q"]}, "is called 'o_q'"),
        ({"targets": []}, "targets must name at least one layer"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        ({"alpha": float("inf")}, "alpha must be positive and finite, got inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused_and_change_nothing(
    settings: dict[str, object], message: str
) -> None:
    network = unet()
    with pytest.raises(ValueError, match=message):
        add_lora(network, **settings)
    assert not hasattr(network, "peft_config")
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_convolutions_in_groups_are_refused() -> None:
    network = unet()
    network.conv_in = nn.Conv2d(4, 8, 3, padding=1, groups=2)
    with pytest.raises(ValueError, match="'conv_in' of UNet2DConditionModel is a convolution in groups"):
        add_lora(network, targets=["conv_in"])


@pytest.mark.parametrize(
    "network",
    [nn.Linear(2, 2), diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4)],
    ids=lambda network: type(network).__name__,
)
def test_other_networks_are_refused(network: nn.Module) -> None:
    with pytest.raises(
        ModelError, match=f"UNet2DConditionModel or one of its transformers, got a {type(network).__name__}"
    ):
        add_lora(network)


def test_a_second_lora_is_refused() -> None:
    network = unet()
    add_lora(network, adapter="fast")
    with pytest.raises(ModelError, match=r"already has adapters \(fast\): fuse or unload them"):
        add_lora(network, adapter="faster")


@pytest.mark.parametrize("family", NETWORKS)
def test_a_new_lora_changes_nothing_and_only_it_learns(family: str) -> None:
    network = NETWORKS[family]()
    before = output(network, family)
    paths = add_lora(network, 4)
    assert torch.equal(output(network, family), before)
    assert set(trainable(network)) == {f"{path}.lora_{m}.default.weight" for path in paths for m in "AB"}


@pytest.mark.parametrize("family", ["unet", "flux"])
def test_training_moves_the_student_and_leaves_the_teacher(family: str) -> None:
    network = NETWORKS[family]()
    teacher = output(network, family)
    add_lora(network, 4)
    base, average = fingerprint(network), sharing_copy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(trainable(network).values(), 1e-2)
    for _ in range(2):  # after the first step B is no longer 0, so that A learns too
        with adapters_off(network), torch.no_grad():
            aim = network(**inputs(family), return_dict=False)[0] * 1.1
        loss = (network(**inputs(family), return_dict=False)[0] - aim).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert fingerprint(network) == base
    assert not torch.equal(output(network, family), teacher)
    with adapters_off(network):
        assert torch.equal(output(network, family), teacher)
    start = dict(average.named_parameters())
    moved = {name for name, parameter in trainable(network).items() if not torch.equal(parameter, start[name])}
    assert {name for name in moved if "lora_A" in name}
    assert len(moved) > len(trainable(network)) / 2


class Conditioned(nn.Module):
    """An SD3-like transformer with a fixed text, as the training loop calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, at: Tensor, to: Tensor, cond: Condition) -> Tensor:
        text = {name: values[:1].expand(len(x), *values.shape[1:]) for name, values in inputs("sd3").items()}
        given = text | {"hidden_states": x, "timestep": at.to(x.dtype)}
        predicted: Tensor = self.network(**given, return_dict=False)[0]
        return predicted


def test_the_training_loop_averages_and_saves_only_the_lora(tmp_path: Path) -> None:
    network = sd3()
    teacher = output(network, "sd3")
    add_lora(network, 2)
    base = fingerprint(network)
    config = replace(CONFIG, images=40, checkpoint_every=4, optimizer=OptimizerConfig(warmup=0))
    average = train(Conditioned(network), Edm(), Diffusion(), Rows((4, 8, 8)), config, tmp_path)
    learned = {f"network.{name}" for name in trainable(network)}
    for name in ("student", "average"):
        saved = set(load_file(tmp_path / "checkpoints" / "step-00000010" / f"{name}.safetensors"))
        assert saved == {*learned, "network.pos_embed.pos_embed"}, "buffers are saved too"
    assert fingerprint(network) == base
    with adapters_off(network):  # the loop may have changed the layout in memory, and with it the rounding
        assert torch.allclose(output(network, "sd3"), teacher, atol=1e-6)
    averaged = average.get_submodule("network")
    fused = output(LoraWeights.of(averaged).fused(sd3()), "sd3")
    assert torch.allclose(fused, output(averaged, "sd3"), atol=1e-6)
    assert not torch.allclose(fused, teacher, atol=1e-3)


def test_adapters_come_back_after_an_error_and_in_nested_contexts() -> None:
    network = with_lora("sd3")
    student, learned = output(network, "sd3"), set(trainable(network))
    with adapters_off(network):
        teacher = output(network, "sd3")
        assert not trainable(network)
        with adapters_off(network):
            assert torch.equal(output(network, "sd3"), teacher)
        assert torch.equal(output(network, "sd3"), teacher), "still off in the outer context"
    with pytest.raises(KeyError), adapters_off(network):
        raise KeyError
    assert torch.equal(output(network, "sd3"), student)
    assert set(trainable(network)) == learned
    assert not torch.equal(student, teacher)


def test_an_average_stays_frozen_when_its_adapters_come_back() -> None:
    average = sharing_copy(with_lora("sd3")).requires_grad_(False)
    with adapters_off(average):
        pass
    assert not trainable(average)


def test_a_network_without_adapters_has_none_to_turn_off() -> None:
    with pytest.raises(ModelError, match="no adapters to turn off"), adapters_off(unet()):
        pass


@pytest.mark.parametrize("family", NETWORKS)
def test_a_fused_network_is_the_adapted_one(family: str) -> None:
    network = with_lora(family)
    weights, adapted = LoraWeights.of(network), output(network, family)
    for base in (NETWORKS[family](), network):
        fused = weights.fused(base)
        assert not any("lora_" in name for name, _ in fused.named_parameters())
        assert not getattr(fused, "peft_config", None)
        assert (output(fused, family) - adapted).abs().max() < 2e-6 * adapted.abs().max()
    assert torch.equal(output(network, family), adapted), "the network itself keeps its adapters"


def test_fusing_adds_the_update_once_and_shares_the_rest() -> None:
    network = unet()
    shapes = {path: (layer.weight.shape, layer.weight) for path, layer in adaptable(network).items()}
    chosen = ("conv_in", "mid_block.attentions.0.proj_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    torch.manual_seed(0)
    layers = {}
    for path in chosen:
        out, inputs_, *kernel = shapes[path][0]
        one = [1] * len(kernel)
        layers[path] = LoraMatrices(torch.randn(3, inputs_, *kernel), torch.randn(out, 3, *one), 1.5)
    fused = dict(LoraWeights("unet", layers).fused(network).named_parameters())
    for path, parameter in network.named_parameters():
        layer = path.removesuffix(".weight")
        if layer not in chosen:
            assert fused[path] is parameter
            continue
        m = layers[layer]
        delta = 0.5 * torch.einsum("or...,ri...->oi...", m.up, m.down)
        assert torch.allclose(fused[path], parameter + delta, rtol=1e-6, atol=1e-6)


def test_fusing_in_half_precision_rounds_once() -> None:
    weights = LoraWeights.of(with_lora("sd3"))
    network = sd3().to(torch.bfloat16)
    path = "transformer_blocks.0.attn.to_q"
    fused = weights.fused(network).get_submodule(path).weight
    assert fused.dtype == torch.bfloat16
    exact = network.get_submodule(path).weight.float() + weights.layers[path].delta()
    assert torch.equal(fused, exact.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            lambda: unet(cross_attention_dim=24),
            "the LoRA is of another model: 'down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k' is 8x16 there "
            "and 8x24 in UNet2DConditionModel",
        ),
        (
            lambda: unet(down_block_types=("DownBlock2D", "DownBlock2D")),
            "the LoRA is of another model: UNet2DConditionModel has no layer 'down_blocks.0.attentions.0.proj_in' "
            "(8x8x1x1)",
        ),
        (sd3, "the LoRA is for a unet, the network is a SD3Transformer2DModel"),
    ],
)
def test_a_lora_of_another_model_is_refused_in_one_line(base: Callable[[], nn.Module], message: str) -> None:
    weights = LoraWeights.of(with_lora("unet"))
    with pytest.raises(ModelError) as refused:
        weights.fused(base())
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("down", "up", "alpha", "message"),
    [
        ((2, 3), (4, 3), 1.0, "matrices of 2x3 and 4x3 are not a LoRA's"),
        ((2, 3, 3, 3), (4, 2, 3, 3), 1.0, "matrices of 2x3x3x3 and 4x2x3x3 are not a LoRA's"),
        ((2, 3, 1, 1), (4, 2), 1.0, "matrices of 2x3x1x1 and 4x2 are not"),
        ((0, 3), (4, 0), 1.0, "are not a LoRA's"),
        ((2,), (4,), 1.0, "are not a LoRA's"),
        ((2, 3), (4, 2), 0.0, "alpha must be finite and not 0, got 0.0"),
        ((2, 3), (4, 2), float("nan"), "alpha must be finite"),
    ],
)
def test_matrices_that_fit_no_layer_are_refused(
    down: tuple[int, ...], up: tuple[int, ...], alpha: float, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        LoraMatrices(torch.zeros(down), torch.zeros(up), alpha)


def test_folding_keeps_the_update() -> None:
    matrices = LoraMatrices(torch.randn(4, 3), torch.randn(5, 4), 6.5)
    folded = matrices.folded()
    assert (folded.alpha, folded.rank) == (4.0, 4)
    assert torch.equal(folded.down, matrices.down)
    assert torch.allclose(folded.delta(), matrices.delta(), rtol=1e-6)
    assert matrices.folded(6.5) is matrices


def test_adapters_that_are_no_plain_lora_are_refused() -> None:
    from peft import LoraConfig

    network = sd3()
    with pytest.raises(ModelError, match="the network has no adapter 'default': it has none"):
        LoraWeights.of(network)
    network.add_adapter(LoraConfig(use_rslora=True, target_modules=["to_q"]), "style")
    with pytest.raises(ModelError, match="the adapter 'style' is not a plain LoRA: use_rslora is True"):
        LoraWeights.of(network, "style")
    with pytest.raises(ModelError, match="no adapter 'default': it has style"):
        LoraWeights.of(network)
