"""Imports the runs of `runs.jsonl`, which `repro export-logs --format mlflow` has written beside this file, into MLflow.

    python import.py --tracking-uri sqlite:///mlflow.db
    mlflow ui --backend-store-uri sqlite:///mlflow.db

It needs the package `mlflow`, or `mlflow-skinny` with what the tracking store needs. A run that was imported before is
left as it is. If it has been continued since, it is deleted and imported again.
"""

import argparse
import json
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

VERSION = 1

# Tags of an imported run: which run it is, and its state when its import was complete.
IDENTITY = "repro.identity"
STATE = "repro.state"

# The limits of a request to MLflow.
METRICS = 1000
ITEMS = 100
PARAM_LENGTH = 6000
TAG_LENGTH = 8000


def shortened(text, length):
    """The text, or its beginning with a note that the rest is missing."""
    if len(text) <= length:
        return text
    note = f"... (shortened: {len(text)} characters)"
    return text[: length - len(note)] + note


def chunks(items, size):
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Importer:
    def __init__(self, tracking_uri):
        self.client = MlflowClient(tracking_uri=tracking_uri)
        self.experiments = {}
        self.stores_artifacts = True

    def experiment(self, name):
        """The id of the experiment, which is created if it does not exist."""
        if name not in self.experiments:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage != "active":
                sys.exit(f"the experiment {name} is deleted in MLflow: restore it, or delete it permanently")
            self.experiments[name] = found.experiment_id if found else self.client.create_experiment(name)
        return self.experiments[name]

    def start(self, run):
        """The id of a new MLflow run; None where the run was imported before. Also says what happened."""
        experiment = self.experiment(run["experiment"])
        wanted = f"tags.`{IDENTITY}` = '{run['identity']}'"
        what = "imported"
        for known in self.client.search_runs([experiment], wanted):
            if known.data.tags.get(STATE) == run["state"]:
                return None, "imported before"
            # Continued since, or its import was not completed.
            self.client.delete_run(known.info.run_id)
            what = "imported again"
        tags = run["tags"] | {IDENTITY: run["identity"]}
        tags = {name: shortened(text, TAG_LENGTH) for name, text in tags.items()}
        created = self.client.create_run(experiment, run["start_time"], tags, run["name"])
        return created.info.run_id, what

    def describe(self, run_id, run):
        """Logs the parameters and the artifacts."""
        artifacts = dict(run["artifacts"])
        params = []
        for name, text in run["params"].items():
            if len(text) > PARAM_LENGTH:
                artifacts[f"params/{name}.txt"] = text
            params.append(Param(name, shortened(text, PARAM_LENGTH)))
        for some in chunks(params, ITEMS):
            self.client.log_batch(run_id, params=some)
        for name, text in artifacts.items():
            self.log_artifact(run_id, name, text)

    def log_artifact(self, run_id, name, text):
        if not self.stores_artifacts:
            return
        try:
            self.client.log_text(run_id, text, name)
        except Exception as error:  # Each kind of artifact store has its own errors.
            self.stores_artifacts = False
            print(f"warning: manifests and networks are not stored as artifacts: {error}", file=sys.stderr)

    def import_all(self, lines):
        """Imports the runs, each as its lines are read. Returns the number of those that are new."""
        imported = 0
        run = run_id = None
        metrics = []
        for line in lines:
            line = json.loads(line)
            if line["kind"] == "run":
                if line["version"] != VERSION:
                    sys.exit("runs.jsonl is of another version of repro than import.py: export both again")
                run, metrics = line, []
                run_id, what = self.start(run)
                if run_id is not None:
                    self.describe(run_id, run)
            elif run_id is not None and line["kind"] == "metric":
                name = line["name"]
                metrics += [Metric(name, value, time, step) for step, time, value in line["points"]]
                while len(metrics) >= METRICS:
                    self.client.log_batch(run_id, metrics=metrics[:METRICS])
                    metrics = metrics[METRICS:]
            elif line["kind"] == "end":
                if run_id is not None:
                    self.client.log_batch(run_id, metrics=metrics)
                    self.end(run_id, run)
                    imported += 1
                print(f"run {run['run']} of {run['experiment']}: {what}")
                run = run_id = None
        if run is not None:
            sys.exit("runs.jsonl is incomplete: export it again")
        return imported

    def end(self, run_id, run):
        if run["end_time"] is not None:
            self.client.set_terminated(run_id, run["status"], run["end_time"])
        # Last, so that an import that was stopped is done again.
        tags = [RunTag(STATE, run["state"])]
        self.client.log_batch(run_id, tags=tags)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracking-uri", required=True, help="as in sqlite:///mlflow.db or http://localhost:5000")
    arguments = parser.parse_args()
    with open(Path(__file__).with_name("runs.jsonl"), encoding="utf-8") as lines:
        imported = Importer(arguments.tracking_uri).import_all(lines)
    print(f"{imported} imported into {arguments.tracking_uri}")


if __name__ == "__main__":
    main()
