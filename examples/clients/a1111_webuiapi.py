"""webuiapi, a client of AUTOMATIC1111's API: looks around, draws, edits with a mask, reads a picture's settings."""

import json
import sys
from urllib.parse import urlsplit

import webuiapi
from PIL import Image

address = urlsplit(sys.argv[1])
api = webuiapi.WebUIApi(host=address.hostname, port=address.port)
models, samplers = api.util_get_model_names(), [sampler["name"] for sampler in api.get_samplers()]
drawn = api.txt2img(prompt="a red apple", negative_prompt="ugly", seed=7, cfg_scale=7, steps=4, width=512, height=512)
mask = Image.new("L", drawn.image.size, 0)
mask.paste(255, (0, 0, 512, 256))
changed = api.img2img(images=[drawn.image], mask_image=mask, prompt="a green apple", seed=1, steps=4)
info = api.png_info(drawn.image)
assert drawn.info["seed"] == 7
unused = drawn.info["extra_generation_params"].get("Not used")
sizes, text = f"{drawn.image.size} (not used: {unused}), {changed.image.size}", info.info.splitlines()[0]
got = f"{models}, {samplers}, {sizes}, {text!r}"
print(json.dumps({"sent": "models, samplers, txt2img, img2img with a mask, png-info", "got": got}))
