"""The U-Net: derivatives in forward mode, conditions and their absence, dropout by keys, configuration."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.parameterisations import Edm, Parameterised, Targets
from fewstep.networks.registry import build, describe
from fewstep.networks.unet import UNet, UNetConfig
from students import stirred

CONFIG = UNetConfig(
    channels=3,
    control=2,
    widths=(32, 64),
    depths=(1, 1),
    attention=(False, True),
    embedding=32,
    canvas=(2, 3),
    prior=(16, 4),
    size=8,
    text=5,
    text_length=4,
    text_width=32,
    text_layers=1,
    classes=3,
    guidance=True,
    dropout=0.3,
)


def unet(moved: bool = True, dtype: torch.dtype = torch.float32, **settings: Any) -> UNet:
    torch.manual_seed(0)
    network = UNet(replace(CONFIG, **settings)).to(dtype)
    if moved:
        stirred(network, size=0.05)
    return network


def inputs(size: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, 8, 8, generator=generator, dtype=dtype)
    return x, torch.linspace(0.2, 1.4, size, dtype=dtype), torch.linspace(0.1, 0.3, size, dtype=dtype)


def conditions(size: int = 3, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    mask = torch.zeros(size, 4, dtype=dtype)
    mask[:, :3] = 1.0
    return {
        "text": torch.randn(size, 4, 5, generator=generator, dtype=dtype),
        "text_mask": mask,
        "label": torch.arange(size) % 3,
        "guidance": torch.linspace(1.0, 4.0, size, dtype=dtype),
        "control": torch.randn(size, 2, 8, 8, generator=generator, dtype=dtype),
        "control_mask": torch.ones(size, dtype=dtype),
        "dropout": torch.arange(size) + 7,
    }


def differs(a: Tensor, b: Tensor) -> bool:
    return float((a - b).detach().abs().max()) > 1e-4


def test_a_new_network_gives_zero_and_the_shape_of_x() -> None:
    output = unet(moved=False)(*inputs(), conditions())
    assert output.shape == (3, 3, 8, 8)
    assert not output.any()


@pytest.mark.parametrize("moved", ["x", "time_at", "time_to"])
def test_forward_mode_derivatives_match_central_differences(moved: str) -> None:
    network, cond = unet(dtype=torch.float64), conditions(dtype=torch.float64)
    where = dict(zip(("x", "time_at", "time_to"), inputs(dtype=torch.float64), strict=True))
    tangent = torch.randn(where[moved].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def along(values: Tensor) -> Tensor:
        return network(**{**where, moved: values}, cond=cond)

    _, derivative = torch.func.jvp(along, (where[moved],), (tangent,))
    h = 1e-5
    with torch.no_grad():
        difference = (along(where[moved] + h * tangent) - along(where[moved] - h * tangent)) / (2 * h)
    assert differs(derivative, torch.zeros_like(derivative))
    torch.testing.assert_close(derivative, difference, rtol=1e-5, atol=1e-7)


def test_a_network_that_never_saw_a_target_ignores_it_and_learns_to_see_it() -> None:
    network = unet()
    with torch.no_grad():
        network.embedding.to_target.weight.zero_()  # as in a denoiser's weights
    x, at, to = inputs()
    same = network(x, at, at, conditions())
    torch.testing.assert_close(network(x, at, to, conditions()), same, rtol=0, atol=0)
    network(x, at, to, conditions()).square().sum().backward()
    assert differs(network.embedding.to_target.weight.grad, torch.zeros(32, 64))  # type: ignore[arg-type]
    assert differs(unet()(x, at, to, conditions()), unet()(x, at, at, conditions()))


def test_a_target_equal_to_the_level_adds_nothing_whatever_was_learned() -> None:
    network, other = unet(), unet()
    with torch.no_grad():
        other.embedding.to_target.weight.mul_(3.0)
    x, at, _ = inputs()
    torch.testing.assert_close(other(x, at, at, {}), network(x, at, at, {}), rtol=0, atol=0)


def test_the_target_part_of_a_new_network_is_zero() -> None:
    assert not unet(moved=False).embedding.to_target.weight.any()


def test_a_denoiser_and_a_student_of_its_weights_give_the_same_estimate() -> None:
    network = unet()
    with torch.no_grad():
        network.embedding.to_target.weight.zero_()
    from fewstep.core.levels import CLEAN, Trig

    x, at, _ = inputs()
    level, cond = Trig().level(at.double()), conditions()
    denoiser = Parameterised(network, Edm(), Targets.SAME)(x, level, level, cond)
    student = Parameterised(network, Edm(), Targets.CLEAN)(x, level, CLEAN.like(x).batch(3), cond)
    torch.testing.assert_close(student, denoiser, rtol=0, atol=0)


def test_the_empty_prompt_is_no_prompt() -> None:
    network, cond = unet(), conditions()
    nothing = network(*inputs(), {k: v for k, v in cond.items() if not k.startswith("text")})
    empty = {**cond, "text": torch.zeros_like(cond["text"]), "text_mask": torch.zeros_like(cond["text_mask"])}
    torch.testing.assert_close(network(*inputs(), empty), nothing, rtol=0, atol=0)
    assert differs(network(*inputs(), cond), nothing)


def test_what_the_mask_hides_has_no_effect() -> None:
    network, cond = unet(), conditions()
    other = cond["text"].clone()
    other[:, 3] = 100.0
    torch.testing.assert_close(
        network(*inputs(), {**cond, "text": other}), network(*inputs(), cond), rtol=1e-5, atol=1e-6
    )


def test_the_order_of_words_matters() -> None:
    network, cond = unet(), conditions()
    swapped = cond["text"][:, [1, 0, 2, 3]]
    assert differs(network(*inputs(), {**cond, "text": swapped}), network(*inputs(), cond))


def test_a_word_reaches_the_image_by_attention_as_well_as_by_the_summary() -> None:
    network, cond = unet(), conditions()
    with torch.no_grad():
        assert network.embedding.text is not None
        network.embedding.text.weight.zero_()
    other = cond["text"].clone()
    other[:, 1] += 1.0
    assert differs(network(*inputs(), {**cond, "text": other}), network(*inputs(), cond))


def test_a_control_that_is_absent_is_no_control() -> None:
    network, cond = unet(), conditions()
    without = network(*inputs(), {k: v for k, v in cond.items() if not k.startswith("control")})
    masked = {**cond, "control_mask": torch.zeros(3)}
    torch.testing.assert_close(network(*inputs(), masked), without, rtol=0, atol=0)
    blank = network(*inputs(), {**cond, "control": torch.zeros_like(cond["control"])})
    assert differs(blank, without)  # an empty canvas that is there is not the same as none
    assert differs(network(*inputs(), cond), blank)


def test_the_label_none_is_the_last_one() -> None:
    network, cond = unet(), conditions()
    none = network(*inputs(), {k: v for k, v in cond.items() if k != "label"})
    last = network(*inputs(), {**cond, "label": torch.full((3,), 3)})
    torch.testing.assert_close(last, none, rtol=0, atol=0)
    assert differs(network(*inputs(), cond), none)


def test_the_guidance_scale_is_felt_and_finite_from_0_on() -> None:
    network, cond = unet(), conditions()
    outputs = [network(*inputs(), {**cond, "guidance": torch.full((3,), w)}) for w in (0.0, 1.0, 1.5, 7.5, 16.0)]
    assert all(bool(torch.isfinite(output).all()) for output in outputs)
    assert all(differs(a, b) for a, b in pairwise(outputs))


@pytest.mark.parametrize("level", ["0", "1"])
def test_the_prompt_draws_on_each_canvas_a_different_thing_at_each_place(level: str) -> None:
    network, cond = unet(dtype=torch.float64), conditions(dtype=torch.float64)
    with torch.no_grad():
        embedded = torch.randn(1, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        drawn = network.canvas[level](embedded)
        assert drawn.shape == ((1, 32, 8, 8) if level == "0" else (1, 64, 4, 4))
        assert float(drawn.std(dim=(2, 3)).min()) > 1e-3
        before = network(*inputs(dtype=torch.float64), cond)
        network.canvas[level].spread.weight.zero_()
        after = network(*inputs(dtype=torch.float64), cond)
    assert differs(after, before)


def test_a_canvas_may_be_missing_at_a_resolution() -> None:
    assert list(unet(canvas=(0, 3)).canvas) == ["1"]
    assert not unet(canvas=(), size=0, prior=()).canvas


def test_the_prior_is_a_picture_of_the_prompt_and_the_class_that_the_network_is_given() -> None:
    network, cond = unet(dtype=torch.float64), conditions(dtype=torch.float64)
    assert network.prior is not None
    assert network.text is not None
    x = inputs(dtype=torch.float64)[0]

    def picture(cond: dict[str, Tensor]) -> Tensor:
        assert network.prior is not None
        assert network.text is not None
        drawn: Tensor = network.prior(3, cond, network.text.read(x, cond)[2])
        return drawn

    with torch.no_grad():
        drawn = picture(cond)
        assert drawn.shape == x.shape
        assert float(drawn.std(dim=(2, 3)).min()) > 1e-3
        assert differs(picture({**cond, "label": (cond["label"] + 1) % 3}), drawn)
        assert differs(picture({**cond, "text": cond["text"] + 1}), drawn)
        assert not differs(picture({**cond, "guidance": cond["guidance"] + 1}), drawn)
        without = {name: values for name, values in cond.items() if name != "label"}
        last = {**cond, "label": torch.full((3,), 3)}
        torch.testing.assert_close(picture(without), picture(last), rtol=0, atol=0)
        before = network(*inputs(dtype=torch.float64), cond)
        network.prior.out.bias += 1
        assert differs(network(*inputs(dtype=torch.float64), cond), before)


def test_a_network_without_a_condition_ignores_it() -> None:
    network = unet(control=0, text=0, classes=0, guidance=False, dropout=0.0)
    torch.testing.assert_close(network(*inputs(), conditions()), network(*inputs(), {}), rtol=0, atol=0)


def test_samples_do_not_depend_on_their_batch_companions() -> None:
    network = unet(dtype=torch.float64)
    together = network(*inputs(dtype=torch.float64), conditions(dtype=torch.float64))
    for i in range(3):
        alone = network(
            *(v[i : i + 1] for v in inputs(dtype=torch.float64)),
            {k: v[i : i + 1] for k, v in conditions(dtype=torch.float64).items()},
        )
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-9, atol=1e-11)


def test_dropout_is_fixed_by_its_keys_and_absent_without_them() -> None:
    network, cond = unet(), conditions()
    dropped = network(*inputs(), cond)
    torch.testing.assert_close(network(*inputs(), cond), dropped, rtol=0, atol=0)
    other = network(*inputs(), {**cond, "dropout": cond["dropout"] + torch.tensor([0, 1, 0])})
    assert differs(other[1], dropped[1])
    torch.testing.assert_close(other[[0, 2]], dropped[[0, 2]])
    whole = network(*inputs(), {k: v for k, v in cond.items() if k != "dropout"})
    assert differs(whole, dropped)
    assert not differs(unet(dropout=0.0)(*inputs(), cond), whole)


def test_each_layer_drops_by_its_own_mask() -> None:
    network = unet(depths=(2, 3))
    layers = [m.layer for m in network.modules() if hasattr(m, "layer")]
    assert sorted(layers) == list(range(10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (32, 64, 96)}, "one entry for each resolution, got 3, 2 and 2"),
        ({"widths": (), "depths": (), "attention": (), "canvas": ()}, "one entry for each resolution, got 0"),
        ({"widths": (32, 48)}, r"multiples of 32, got \(32, 48\)"),
        ({"canvas": (2,)}, r"one entry for each of 2 resolutions.*got \(2,\)"),
        ({"size": 1}, "a canvas needs.*size of the input, got .* size 1"),
        ({"canvas": (), "size": 0}, "a prior needs the size of the input, got size 0"),
        ({"prior": (16,)}, r"prior must be an embedding's length and a number of features, got \(16,\)"),
        ({"text_width": 30}, "text_width must be a multiple of 4.*30"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **settings)


def test_a_description_builds_the_same_network() -> None:
    import json

    network = unet()
    again = build(json.loads(json.dumps(describe(network))))
    assert again.config == network.config
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(*inputs(), conditions()), network(*inputs(), conditions()), rtol=0, atol=0)
