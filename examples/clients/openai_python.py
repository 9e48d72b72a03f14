"""OpenAI's Python client: an image, a stream with partial images, an edit with a mask, the list of models."""

import base64
import io
import json
import sys

from openai import OpenAI
from PIL import Image

client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none")
image = client.images.generate(model="gpt-image-1.5", prompt="a red apple", size="1024x1024", quality="auto").data[0]
events = list(client.images.generate(prompt="a red apple", stream=True, partial_images=2, extra_body={"steps": 4}))
mask = Image.new("RGBA", (1024, 1024), (0, 0, 0, 255))
mask.paste((0, 0, 0, 0), (0, 0, 1024, 512))
file = io.BytesIO()
mask.save(file, "PNG")
edited = client.images.edit(
    image=("apple.png", base64.b64decode(image.b64_json)), mask=("mask.png", file.getvalue()), prompt="a green apple"
)
assert [event.type for event in events][-1] == "image_generation.completed"
print(
    json.dumps(
        {
            "sent": "generate, stream with 2 partial images, edit with a mask, models",
            "got": f"{Image.open(io.BytesIO(base64.b64decode(image.b64_json))).size}, {len(events)} events, "
            f"quality {edited.quality}, {[model.id for model in client.models.list()]}",
        }
    )
)
