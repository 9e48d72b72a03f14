"""LiteLLM, as a library: the server behind its name for OpenAI-compatible images."""

import base64
import io
import json
import sys

import litellm
from PIL import Image

answer = litellm.image_generation(
    model="openai/gpt-image-1", prompt="a red apple", api_base=f"{sys.argv[1]}/v1", api_key="none", n=2
)
sizes = [Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))).size for image in answer.data]
print(json.dumps({"sent": "image_generation, n 2", "got": f"{len(sizes)} images of {sizes[0]}"}))
