"""What the results database holds of its runs, read without the program that wrote it."""

import json
import sqlite3

RUNS = """
    SELECT r.id, r.method, r.dataset, r.seed, m.name AS experiment, m.text, m.space_name, m.settings, a.*,
           first.started_at AS first_started_at, e.git_revision, e.device,
           n.macs AS arch_macs, n.params AS arch_params, t.test_top1, t.test_loss, t.weights_sha256
    FROM runs AS r
    JOIN manifests AS m ON m.sha256 = r.manifest
    JOIN attempts AS a ON a.run = r.id AND a.number = (SELECT max(number) FROM attempts WHERE run = r.id)
    JOIN attempts AS first ON first.run = r.id AND first.number = 1
    JOIN environments AS e ON e.id = a.environment
    LEFT JOIN architectures AS n ON n.id = a.architecture
    LEFT JOIN results AS t ON t.run = a.run AND t.attempt = a.number
    ORDER BY r.id"""


class Run:
    def __init__(self, connection, row):
        self.row = row
        key = (row["id"], row["number"])
        rows = connection.execute(
            "SELECT metric, step, value FROM measurements WHERE run = ? AND attempt = ? ORDER BY metric, step", key
        )
        # Series by the name that trackers have: lists of steps and values.
        self.series = {}
        for metric, step, value in rows:
            self.series.setdefault(metric.replace(".", "/"), []).append((step, value))
        self.measured = set(self.series)
        self.add("cost/macs", row["arch_macs"])
        self.add("cost/params", row["arch_params"])
        self.add("result/test_top1", row["test_top1"])
        self.add("result/test_loss", row["test_loss"])
        for phase in connection.execute("SELECT * FROM phases WHERE run = ? AND attempt = ?", key):
            for what in ("seconds", "peak_bytes", "images", "macs"):
                self.add(f"phase/{phase['phase']}/{what}", phase[what])

    def add(self, name, value):
        if value is not None:
            assert name not in self.series, name
            self.series[name] = [(0, float(value))]

    @property
    def name(self):
        return f"{self.row['method']}-seed{self.row['seed']}-run{self.row['id']}"

    @property
    def start(self):
        return self.row["first_started_at"]

    @property
    def end(self):
        return self.row["ended_at"] or self.row["heartbeat_at"]

    @property
    def settings(self):
        settings = json.loads(self.row["settings"] or "{}")
        own = {"method": "method", "dataset": "dataset", "seed": "seed", "space": "space_name", "device": "device"}
        settings |= {name: self.row[column] for name, column in own.items()}
        return settings | {"precision": "f32"}


def read(path):
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return [Run(connection, row) for row in connection.execute(RUNS).fetchall()]
