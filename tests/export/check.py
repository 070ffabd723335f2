#!/usr/bin/env python3
"""Compares exported networks with the program that exported them.

    python tests/export/check.py FOLDER...

Each folder holds `input.safetensors` (tensor `input`), the program's `logits.safetensors` (tensor `logits`),
and exported files: `*.onnx`, and `*.py` with its safetensors file. Every file must give the same logits, in
ONNX Runtime and in PyTorch, and every ONNX file must pass ONNX's checker. Prints a line per file.
"""

import importlib.util
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
from safetensors.numpy import load_file

# Largest difference of a logit, as a share of the distance between the largest and the smallest logit.
TOLERANCE = 1e-4


def run_onnx(path, images):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    domains = {node.domain for node in model.graph.node}
    assert domains <= {""}, f"{path}: operators of {domains}"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = session.run(["logits"], {"input": images})[0]
    # The size of the batch is free.
    single = session.run(["logits"], {"input": images[:1]})[0]
    assert single.shape == (1, whole.shape[1]), f"{path}: {single.shape} for one image"
    return whole


def run_pytorch(path, images):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    with torch.no_grad():
        return module.load()(torch.from_numpy(images)).numpy()


def difference(found, expected):
    if found.shape != expected.shape:
        return numpy.inf
    return numpy.abs(found - expected).max() / numpy.ptp(expected)


def main():
    failed = False
    for folder in map(Path, sys.argv[1:]):
        images = load_file(folder / "input.safetensors")["input"]
        expected = load_file(folder / "logits.safetensors")["logits"]
        files = sorted(folder.glob("*.onnx")) + sorted(folder.glob("*.py"))
        assert files, f"{folder}: nothing was exported"
        for path in files:
            run = run_onnx if path.suffix == ".onnx" else run_pytorch
            share = difference(run(path, images), expected)
            passed = share <= TOLERANCE
            failed |= not passed
            print(f"{'passed' if passed else 'FAILED'} {share:.1e} {folder.name}/{path.name}")
    sys.exit(1 if failed else 0)


main()
