"""`fewstep demo`: the comparison that the README shows."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.cli.output import check_json, check_picture, say, write_json

if TYPE_CHECKING:
    from PIL import Image

    from fewstep.generation import Model

PROMPTS = (
    "red apple", "cat face", "rocket", "hot beverage", "blue dog", "octopus",
    "sunflower", "pizza", "sailboat", "pixel art tree", "pastel birthday cake", "silhouette horse",
)  # fmt: skip
SCALE, MARGIN, HEAD = 3, 10, 46


def demo(
    out: Path = Path("demo.png"),
    model: str = "emoji",
    teacher: str = "emoji-teacher",
    seed: int = 7,
    json: str | None = None,
) -> int:
    """Draw a dozen prompts with the model in 1, 2 and 4 steps and with its diffusion teacher, and report the cost.

    Images are drawn one at a time, as for a single user. Milliseconds are medians over the prompts; evaluations are
    network evaluations per image. All images of a prompt have the same seed.

    Args:
        out: The image file to write.
        model: The few-step model.
        teacher: The diffusion model it was distilled from.
        seed: Seed of every image.
        json: Write the figures as JSON to this file, or to standard output with -.
    """
    from fewstep.generation import Request, load
    from fewstep.pictures import save

    check_picture(out)
    check_json(json)
    fast, slow = load(model), load(teacher)
    columns: list[tuple[str, Model, int | None]] = [
        ("teacher", slow, None),
        ("1 step", fast, 1),
        ("2 steps", fast, 2),
        ("4 steps", fast, 4),
    ]
    for _, used, steps in columns:
        used.generate(PROMPTS[0], seed=seed, steps=min(steps or 1, 1))  # warm-up: a network's first call is slower
    rows: list[dict[str, Any]] = []
    pictures: list[list[Image.Image]] = []
    for name, used, steps in columns:
        images = [
            used.generate_all(Request(prompt, seed=seed, steps=steps, background="white"))[0] for prompt in PROMPTS
        ]
        record = images[0].record
        spent = statistics.median(sum(image.record.timings.values()) for image in images)
        rows.append(
            {
                "column": name,
                "model": used.name,
                "sampler": record.sampler,
                "steps": record.steps,
                "evaluations": record.network_evaluations,
                "ms_per_image": round(spent, 2),
            }
        )
        pictures.append(list(images))
    for row in rows:
        row["times_faster"] = round(rows[0]["ms_per_image"] / row["ms_per_image"], 1)
        say(
            f"{row['column']:<8} {row['sampler']:<12} {row['steps']:>2} steps {row['evaluations']:>3} evaluations "
            f"{row['ms_per_image']:>8.1f} ms  {row['times_faster']:>5.1f}× the teacher's speed",
            json,
        )
    save(_sheet(rows, pictures), out)
    say(str(out), json)
    write_json(json, rows)
    return 0


def _sheet(rows: list[dict[str, Any]], pictures: list[list[Image.Image]]) -> Image.Image:
    """Prompts across, in two bands of six; the ways of sampling down, each with its cost at the left."""
    from PIL import Image, ImageDraw, ImageFont

    side = pictures[0][0].width * SCALE
    across = 6
    bands = -(-len(PROMPTS) // across)
    left, cell = 150, side + MARGIN
    width = left + across * cell + MARGIN
    band = HEAD + len(rows) * cell
    sheet = Image.new("RGB", (width, bands * band + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for i, prompt in enumerate(PROMPTS):
        x, y = left + (i % across) * cell, (i // across) * band
        for line, text in enumerate(_wrapped(prompt, 14)):
            draw.text((x, y + 12 + 14 * line), text, fill="black", font=small)
        for r, images in enumerate(pictures):
            big = images[i].convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(big, (x, y + HEAD + r * cell))
    for b in range(bands):
        for r, row in enumerate(rows):
            y = b * band + HEAD + r * cell + side // 4
            draw.text((MARGIN, y), row["column"], fill="black", font=title)
            draw.text((MARGIN, y + 20), f"{row['evaluations']} evaluations", fill="#555555", font=small)
            draw.text((MARGIN, y + 36), f"{row['ms_per_image']:.1f} ms", fill="#555555", font=small)
    return sheet


def _wrapped(text: str, most: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
