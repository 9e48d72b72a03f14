"""AUTOMATIC1111's API, by the requests that its clients send."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.pictures import read_record
from fewstep.pictures.generated import GeneratedImage, with_record
from fewstep.serving.http.keys import hashed
from servers import Answer, Gate, Running, call, until

SIDE = 16


def asked(server: Running, path: str, body: Any = None, **headers: str) -> Answer:
    return call(server.url, f"/sdapi/v1/{path}", body, **headers)


def pictures(answer: Answer) -> list[Image.Image]:
    assert answer.status == 200, answer.body
    files = [base64.b64decode(file, validate=True) for file in answer.body["images"]]
    return [with_record(Image.open(io.BytesIO(file)), file) for file in files]


def info(answer: Answer) -> Any:
    return json.loads(answer.body["info"])


def b64(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def red_square() -> Image.Image:
    image = Image.new("RGB", (32, 32), "white")
    image.paste((220, 0, 0), (8, 8, 24, 24))
    return image


def test_open_webui_looks_around_chooses_the_model_and_draws(server: Running) -> None:
    options = asked(server, "options").body
    titles = [model["title"] for model in asked(server, "sd-models").body]
    assert options["sd_model_checkpoint"] in titles
    # it sends back all options, with the model changed
    assert asked(server, "options", {**options, "sd_model_checkpoint": titles[0]}).status == 200
    body = {"prompt": "a blue cat", "batch_size": 2, "width": 64, "height": 48, "steps": 2, "negative_prompt": "dog"}
    answer = asked(server, "txt2img", body)
    drawn = pictures(answer)
    assert [picture.size for picture in drawn] == [(64, 48), (64, 48)]
    about = info(answer)
    assert about["all_prompts"] == ["a blue cat"] * 2
    assert about["all_seeds"] == [about["seed"], about["seed"] + 1]
    assert about["steps"] == 2
    assert "Steps: 2" in about["infotexts"][0]
    assert about["extra_generation_params"]["Not used"] == "negative_prompt"
    assert answer.body["parameters"]["prompt"] == "a blue cat"


def test_silly_tavern_s_settings_for_stable_diffusion_draw_and_are_told(server: Running) -> None:
    body = {
        "prompt": "a blue cat",
        "negative_prompt": "bad hands",
        "sampler_name": "DPM++ 2M Karras",
        "scheduler": "karras",
        "steps": 4,
        "cfg_scale": 7,
        "width": 64,
        "height": 64,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True,
        "restore_faces": True,
        "enable_hr": False,
        "hr_scale": 2,
        "denoising_strength": 0.7,
        "styles": [],
        "seed": -1,
        "save_images": True,
        "do_not_save_grid": False,
        "alwayson_scripts": {"ADetailer": {"args": [True]}},
    }
    about = info(asked(server, "txt2img", body))
    assert set(about["extra_generation_params"]["Not used"].split("; ")) == {
        "restore_faces",
        "alwayson_scripts.ADetailer",
        "sampler DPM++ 2M Karras",
        "cfg_scale 7 beyond 4",
        "negative_prompt",
    }
    assert about["cfg_scale"] == 4


def test_the_same_seed_is_the_same_picture_as_on_every_other_surface(server: Running) -> None:
    (drawn,) = pictures(asked(server, "txt2img", {"prompt": "a blue cat", "seed": 7, "sampler_name": "consistency"}))
    body = {"prompt": "a blue cat", "seed": 7}
    (image,) = call(server.url, "/v1/images/generations", body).body["data"]
    other = Image.open(io.BytesIO(base64.b64decode(image["b64_json"])))
    assert drawn.tobytes() == other.tobytes()
    assert isinstance(drawn, GeneratedImage)
    assert drawn.record.seed == 7


def test_an_image_is_varied_and_a_mask_says_where(server: Running) -> None:
    start = red_square()
    (varied,) = pictures(asked(server, "img2img", {"init_images": [b64(start)], "prompt": "a cat", "seed": 1}))
    assert isinstance(varied, GeneratedImage)
    assert varied.record.sampler_settings["strength"] == 0.75
    mask = Image.new("L", (64, 64), "black")  # of another size than the image
    mask.paste("white", (0, 0, 64, 32))
    painted = Image.new("RGBA", (32, 32), (0, 0, 0, 0))  # as a canvas gives it: transparent where nothing is painted
    painted.paste((0, 0, 0, 255), (0, 0, 32, 16))
    for each, invert, kept in ((mask, 0, slice(16, 32)), (mask, 1, slice(0, 16)), (painted, 0, slice(16, 32))):
        body = {"init_images": [f"data:image/png;base64,{b64(start)}"], "mask": b64(each), "prompt": "a cat"}
        (made,) = pictures(asked(server, "img2img", {**body, "inpainting_mask_invert": invert}))
        ours, theirs = (np.asarray(image.convert("RGB"))[kept] for image in (made, start))
        assert np.array_equal(ours, theirs)
        assert isinstance(made, GeneratedImage)
        assert made.record.sampler_settings["edit"] == "inpaint"
    two = {"init_images": [b64(start)] * 2, "prompt": "a cat"}
    assert info(asked(server, "img2img", two))["extra_generation_params"]["Not used"] == "init_images[1]"


@pytest.mark.parametrize("name", ["controlnet", "ControlNet"])
def test_a_unit_of_controlnet_is_the_sketch(server: Running, name: str) -> None:
    def drawn(units: list[dict[str, Any]]) -> bytes:
        body = {"prompt": "a cat", "seed": 1, "alwayson_scripts": {name: {"args": units}}}
        (made,) = pictures(asked(server, "txt2img", body))
        return made.tobytes()

    sketch = b64(red_square())
    assert drawn([{"image": sketch}]) == drawn([{"enabled": False, "image": "x"}, {"input_image": sketch}])
    assert drawn([{"image": {"image": sketch, "mask": ""}}]) == drawn([{"image": sketch, "weight": 1.0}])
    assert drawn([{"image": sketch}]) != drawn([]) == drawn([{"image": sketch, "weight": 0}])


def test_what_an_image_says_is_read_back(server: Running) -> None:
    answer = asked(server, "txt2img", {"prompt": "a blue cat", "seed": 3})
    text = asked(server, "png-info", {"image": f"data:image/png;base64,{answer.body['images'][0]}"}).body["info"]
    assert text == info(answer)["infotexts"][0]
    assert text.startswith("a blue cat\n")
    record = read_record(base64.b64decode(answer.body["images"][0]))
    assert record is not None
    assert record.seed == 3
    assert asked(server, "png-info", {"image": b64(red_square())}).body["info"] == ""
    assert asked(server, "png-info", {"image": "!"}).status == 400


@pytest.mark.parametrize(
    "path",
    [
        *("samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-vae", "loras", "embeddings"),
        *("hypernetworks", "face-restorers", "prompt-styles", "scripts", "memory", "progress", "cmd-flags"),
    ],
)
def test_lists_are_there(server: Running, path: str) -> None:
    answer = asked(server, path)
    assert answer.status == 200
    assert isinstance(answer.body, (list, dict))


def test_samplers_are_those_that_the_model_can_use(server: Running) -> None:
    names = [each["name"] for each in asked(server, "samplers").body]
    assert names[0] == "consistency"
    for name in names:
        assert asked(server, "txt2img", {"prompt": "cat", "sampler_name": name}).status == 200
    assert "heun" not in names


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("txt2img", {"prompt": "x", "steps": 100_000}, 400, "steps must be"),
        ("txt2img", {"prompt": "x", "batch_size": 0}, 400, "batch_size must be at least 1, got 0"),
        ("txt2img", {"prompt": "x", "batch_size": 4, "n_iter": 100}, 400, "batch_size must be"),
        ("txt2img", {"prompt": "x", "width": 7}, 400, "width must be"),
        ("txt2img", {"prompt": "x", "seed": -5}, 400, "seed must be"),
        ("txt2img", {"prompt": 5}, 400, "prompt must be text"),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "sdxl [123]"}}, 404, "there is no model 'sdxl'"),
        ("img2img", {"prompt": "x"}, 400, "init_images is required"),
        ("img2img", {"init_images": []}, 400, "init_images must have at least 1 entries"),
        ("img2img", {"init_images": ["AAAA"]}, 400, "init_images is not an image that can be read"),
        ("img2img", {"init_images": [b64(red_square())], "mask": "AAAA"}, 400, "mask is not an image"),
        ("img2img", {"init_images": [b64(red_square())], "denoising_strength": 2}, 400, "denoising_strength must be"),
        ("options", {"sd_model_checkpoint": "sdxl"}, 404, "there is no model 'sdxl'"),
        ("options", {"CLIP_stop_at_last_layers": 2}, 400, "only sd_model_checkpoint can be set here"),
        ("nothing", None, 404, "there is nothing at /sdapi/v1/nothing"),
    ],
)
def test_mistakes_are_told_where_these_clients_look(
    server: Running, path: str, body: Any, status: int, said: str
) -> None:
    answer = asked(server, path, body)
    assert answer.status == status
    assert said in answer.body["detail"]
    assert answer.body["error"]["message"] == answer.body["detail"]


def test_the_keys_are_the_same_also_as_a_password(serve: Callable[..., Running], tmp_path: Any) -> None:
    (tmp_path / "keys").write_text(hashed("secret") + "\n", encoding="utf-8")
    server = serve(keys_file=tmp_path / "keys")

    def basic(text: str) -> int:
        return asked(server, "options", authorization=f"Basic {base64.b64encode(text.encode()).decode()}").status

    assert basic("anyone:secret") == basic(":secret") == 200
    assert basic("secret:anyone") == basic("secret") == 401
    assert asked(server, "options", authorization="Basic !!!").status == 401
    refused = asked(server, "txt2img", {"prompt": "x"})
    assert refused.status == 401
    assert "give an API key" in refused.body["detail"]


def test_progress_and_interruption(serve: Callable[..., Running]) -> None:
    gate = Gate()
    server = serve(through=gate)
    gate.open.clear()
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(asked(server, "txt2img", {"prompt": "x", "steps": 4})))
    thread.start()
    assert gate.entered.acquire(timeout=20)
    state = asked(server, "progress").body["state"]
    assert (state["job"], state["job_count"], state["sampling_step"]) == ("drawing", 1, 0)
    assert asked(server, "interrupt", {}).status == 200
    thread.join(20)
    gate.open.set()
    assert answers[0].body["images"] == []
    assert info(answers[0])["interrupted"] is True
    until(lambda: asked(server, "progress").body["state"]["job"] == "")


def test_a_client_may_ask_for_no_images(server: Running) -> None:
    answer = asked(server, "txt2img", {"prompt": "a cat", "send_images": False})
    assert answer.body["images"] == []
    assert info(answer)["seed"] >= 0


def test_it_is_counted_as_every_other_request(server: Running) -> None:
    asked(server, "txt2img", {"prompt": "a cat"})
    asked(server, "txt2img", {"prompt": 5})
    text = server.metrics.text().decode()
    assert 'surface="a1111"' in text
