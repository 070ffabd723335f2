"""An image classifier in PyTorch, written by `repro export`.

Its weights are in the safetensors file of the same name beside this file. `load()` returns the network
with them; executed as a script, this file runs a forward pass. It needs torch and safetensors.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).with_suffix(".safetensors")
