"""A chat agent that draws: a language model with one tool, the images from a running `fewstep serve`.

fewstep serve &
python examples/chat_agent.py                      # a scripted model, offline
CHAT_URL=http://localhost:11434/v1 CHAT_MODEL=qwen3 python examples/chat_agent.py   # any OpenAI-compatible one
"""

import base64
import json
import os
import re
from pathlib import Path

from openai import OpenAI

from fewstep.serving.tools import tool_schema

images = OpenAI(base_url=os.environ.get("FEWSTEP_URL", "http://127.0.0.1:8642/v1"), api_key="none")


def scripted(messages: list[dict]) -> dict:
    """A language model for want of one: asks for what comes after 'draw', and tells what came back."""
    last = messages[-1]
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"Here it is: {last['content']}"}
    wish = re.sub(r"(?i)^.*?\bdraw( me)?\b\s*", "", last["content"]).strip(" .!?") or "a red apple"
    call = {"name": "draw_image", "arguments": json.dumps({"prompt": wish})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": call}]}


def asked(messages: list[dict]) -> dict:
    """A real language model, if one is named."""
    if "CHAT_URL" not in os.environ:
        return scripted(messages)
    chat = OpenAI(base_url=os.environ["CHAT_URL"], api_key=os.environ.get("CHAT_KEY", "none"))
    answer = chat.chat.completions.create(
        model=os.environ["CHAT_MODEL"], messages=messages, tools=[tool_schema("openai")]
    )
    return answer.choices[0].message.model_dump(exclude_none=True)


def draw(prompt: str, **choices: object) -> str:
    """The tool: an image file, and what an agent should know of it."""
    image = images.images.generate(prompt=prompt, extra_body=choices).data[0]
    file = Path(f"{re.sub('[^a-z0-9]+', '-', prompt.lower())[:40]}.png")
    file.write_bytes(base64.b64decode(image.b64_json))
    return json.dumps({"file": str(file), "recognised_as": image.recognised, "unknown_words": image.unknown_words})


def answer(messages: list[dict]) -> str:
    """One turn: the model may draw as often as it likes before it speaks."""
    while True:
        message = asked(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            return message["content"]
        for call in message["tool_calls"]:
            result = draw(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


if __name__ == "__main__":
    history: list[dict] = []
    while said := input("you: ").strip():
        history.append({"role": "user", "content": said})
        print("agent:", answer(history))
