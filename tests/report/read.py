"""Reads the CSV and Parquet files of a report with pandas and pyarrow: both have the same values, and the
values of the JSON report. Usage: read.py FOLDER STEM"""

import json
import math
import sys
from pathlib import Path

import pandas
import pyarrow.parquet

folder, stem = Path(sys.argv[1]), sys.argv[2]
page = json.loads((folder / f"{stem}.json").read_text())


def same(a, b):
    missing = [x is None or (isinstance(x, float) and math.isnan(x)) or x is pandas.NA for x in (a, b)]
    if any(missing):
        return all(missing)
    return a == b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and float(a) == float(b))


def check(name, expected):
    table = pyarrow.parquet.read_table(folder / f"{name}.parquet")
    parquet = table.to_pylist()
    # CSV has no types: a text may look like a number.
    texts = {field.name: str for field in table.schema if pyarrow.types.is_string(field.type)}
    csv = pandas.read_csv(folder / f"{name}.csv", dtype=texts, keep_default_na=False, na_values=[""])
    assert len(parquet) == len(csv) == len(expected), name
    for i, row in enumerate(expected):
        assert set(row) == set(parquet[i]) == set(csv.columns), (name, set(row) ^ set(csv.columns))
        for key, value in row.items():
            value = " ".join(map(str, value)) if key == "run_ids" else value
            read = csv[key].iloc[i]
            read = read.item() if hasattr(read, "item") else read
            # pandas reads a column of whole numbers with gaps as floating point.
            assert same(value, parquet[i][key]), (name, i, key, value, parquet[i][key])
            assert same(value, read), (name, i, key, value, read)
    return len(expected)


checked, seen = check(stem, page["data"]), {}
for section in page["sections"]:
    for part in section["parts"]:
        if "table" in part and part["table"]["rows"]:
            name = part["table"]["name"]
            seen[name] = seen.get(name, 0) + 1
            number = "" if seen[name] == 1 else f"-{seen[name]}"
            checked += check(f"{stem}-{name}{number}", part["table"]["rows"])
print(f"{checked} rows, pandas {pandas.__version__}, pyarrow {pyarrow.__version__}")
