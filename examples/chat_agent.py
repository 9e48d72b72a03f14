"""A chat agent that draws: a language model with one tool, the images from a running `fewstep serve`.

python examples/chat_agent.py        # a scripted model, offline; CHAT_URL and CHAT_MODEL name a real one:
CHAT_URL=http://localhost:11434/v1 CHAT_MODEL=qwen3 python examples/chat_agent.py
"""

import base64
import json
import os
import re
import sys
from pathlib import Path

from openai import OpenAI

from fewstep.serving.mcp.tools import tool_schema
from fewstep.serving.settings import settings_from_environment

images = OpenAI(base_url=os.environ.get("FEWSTEP_URL", "http://127.0.0.1:8642/v1"), api_key="none")


def draw(prompt: str, **choices: object) -> str:
    """The tool: an image file, and what an agent should know of it."""
    image = images.images.generate(prompt=prompt, extra_body=choices).data[0]
    file = Path(f"{re.sub(r'[^a-z0-9]+', '-', prompt.lower())[:40].strip('-') or 'image'}.png")
    file.write_bytes(base64.b64decode(image.b64_json))
    return json.dumps({"file": str(file), "recognised_as": image.recognised, "unknown_words": image.unknown_words})


def scripted(messages: list[dict]) -> dict:
    """A language model for want of one: draws what comes after "draw" or "draw me", then tells what came back."""
    said = messages[-1]["content"]
    if messages[-1]["role"] == "tool":
        return {"role": "assistant", "content": f"Here it is: {said}"}
    if not (wish := re.search(r"\bdraw(?: me)?\s+(.*\w)", said, re.IGNORECASE)):
        return {"role": "assistant", "content": 'I only draw. Say "draw me a blue dog".'}
    call = {"name": "draw_image", "arguments": json.dumps({"prompt": wish[1]})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": call}]}


def asked(messages: list[dict]) -> dict:
    """The language model's next message."""
    if "CHAT_URL" not in os.environ:
        return scripted(messages)
    chat = OpenAI(base_url=os.environ["CHAT_URL"], api_key=os.environ.get("CHAT_KEY", "none")).chat.completions
    tool = tool_schema("openai", settings_from_environment().limits)
    answer = chat.create(model=os.environ["CHAT_MODEL"], messages=messages, tools=[tool])
    return answer.choices[0].message.model_dump(exclude_none=True)


history: list[dict] = []
print("What shall I draw? (an empty line ends)", flush=True)
for line in iter(lambda: sys.stdin.readline().strip(), ""):
    history.append({"role": "user", "content": line})
    while calls := (history.append(asked(history)) or history[-1]).get("tool_calls"):
        for call in calls:
            result = draw(**json.loads(call["function"]["arguments"]))
            history.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    print(history[-1]["content"], flush=True)
