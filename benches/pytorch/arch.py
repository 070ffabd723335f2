"""Prints a mid-sized architecture of a manifest's space, for timing.

python benches/pytorch/arch.py MANIFEST > arch.json
"""

import json
import sys
from pathlib import Path

from space import load_manifest, middle_arch

if __name__ == "__main__":
    _, space = load_manifest(Path(sys.argv[1]))
    print(json.dumps(middle_arch(space), separators=(",", ":")))
