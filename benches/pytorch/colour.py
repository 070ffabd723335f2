"""The images that src/data/colour.rs is compared with: colour operations of Pillow on small pictures.

    python benches/pytorch/colour.py tests/it/fixtures/colour.json

Needs Pillow 12 or newer.
"""

import json
import random
import sys

from PIL import Image, ImageEnhance, ImageOps

OPERATIONS = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, threshold),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "invert": lambda image, _: ImageOps.invert(image),
}
FACTORS = [0.1, 0.73, 1.0, 1.27, 1.9]
AMOUNTS = {
    "posterize": [4, 7, 8],
    "solarize": [0.0, 128.0, 179.2, 256.0],
    "equalize": [0],
    "autocontrast": [0],
    "invert": [0],
}


def pictures():
    """Noise of several ranges, a gradient, and one colour; in colour and in grey."""
    draw = random.Random(1)
    for mode, channels in [("RGB", 3), ("L", 1)]:
        for height, width, low, high in [(7, 5, 0, 255), (16, 24, 40, 90), (2, 3, 0, 255), (4, 4, 9, 9)]:
            count = height * width * channels
            yield mode, height, width, bytes(draw.randint(low, high) for _ in range(count))
    yield "L", 16, 40, bytes(i * 200 // 640 for i in range(640))


def main():
    cases = []
    for mode, height, width, pixels in pictures():
        image = Image.frombytes(mode, (width, height), pixels)
        results = []
        for name, operation in OPERATIONS.items():
            for amount in AMOUNTS.get(name, FACTORS):
                after = operation(image, amount).tobytes()
                results.append({"operation": name, "amount": amount, "pixels": after.hex()})
        shape = [height, width, 3 if mode == "RGB" else 1]
        cases.append({"shape": shape, "pixels": pixels.hex(), "results": results})
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(cases, file, indent=None, separators=(",", ":"))
        file.write("\n")


main()
