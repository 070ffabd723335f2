#!/usr/bin/env python3
"""Imports an export into a tracking store, and compares what MLflow's client reads with the results database.

    python tests/export/check_mlflow.py DATABASE FOLDER STORE

STORE is a folder for MLflow's database and artifacts; it may have earlier imports. Prints the importer's lines and a
line per run.
"""

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import load_text

import database

STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}


def import_all(folder, store):
    uri = f"sqlite:///{store / 'mlflow.db'}"
    command = [sys.executable, folder / "import.py", "--tracking-uri", uri]
    done = subprocess.run(command, cwd=store, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    return MlflowClient(tracking_uri=uri)


def check(run, imported, client):
    row, info, data = run.row, imported.info, imported.data
    assert info.status == STATUS[row["status"]], f"{run.name}: {info.status}"
    assert info.start_time == round(1000 * run.start), run.name
    ended = None if row["status"] == "running" else round(1000 * run.end)
    assert info.end_time == ended, f"{run.name}: {info.end_time}, expected {ended}"
    check_texts(run, data.params, data.tags, info)
    assert set(data.metrics) == set(run.series), f"{run.name}: {set(data.metrics) ^ set(run.series)}"
    for name, points in run.series.items():
        history = client.get_metric_history(info.run_id, name)
        read = sorted((point.step, point.value) for point in history)
        assert read == points, f"{run.name}: {name}"
        times = [point.timestamp for point in history]
        limits = 1000 * run.start - 1, 1000 * run.end + 60_000
        assert limits[0] <= min(times) and max(times) <= limits[1], f"{run.name}: {name}"


def check_texts(run, params, tags, info):
    row = run.row
    for name, value in run.settings.items():
        text = params.pop(name)
        if isinstance(value, (list, dict)):
            value, text = str(value).replace(" ", ""), text.replace('"', "'")
        elif isinstance(value, bool):
            value = str(value).lower()
        assert text == str(value), f"{run.name}: {name}: {text}, expected {value}"
    assert not params, f"{run.name}: {params}"
    expected = {
        "mlflow.source.name": row["command"],
        "mlflow.source.git.commit": row["git_revision"],
        "repro.command": row["command"],
        "repro.device": row["device"],
        "repro.weights_sha256": row["weights_sha256"],
        "repro.run": str(row["id"]),
        "repro.attempts": str(row["number"]),
    }
    for name, value in expected.items():
        assert tags.get(name) == value, f"{run.name}: {name}: {tags.get(name)}, expected {value}"
    error = row["error"]
    if error is not None and len(error) <= 8000:
        assert tags["repro.error"] == error, run.name
    elif error is not None:
        note = f"... (shortened: {len(error)} characters)"
        assert tags["repro.error"] == error[: 8000 - len(note)] + note, run.name
    manifest = load_text(f"{info.artifact_uri}/manifest.toml")
    assert manifest == row["text"], run.name


def main():
    path, folder, store = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    client = import_all(folder, store)
    runs = database.read(path)
    imported = {}
    for name in {run.row["experiment"] for run in runs}:
        experiment = client.get_experiment_by_name(name).experiment_id
        for found in client.search_runs([experiment]):
            assert found.info.run_name not in imported, f"{found.info.run_name} was imported twice"
            imported[found.info.run_name] = found
    assert set(imported) == {run.name for run in runs}, set(imported)
    for run in runs:
        check(run, imported[run.name], client)
        print(f"passed {run.name}: {sum(map(len, run.series.values()))} metrics")


if __name__ == "__main__":
    main()
