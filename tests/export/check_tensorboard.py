#!/usr/bin/env python3
"""Opens exported event files with TensorBoard's own readers, and compares them with the results database.

    python tests/export/check_tensorboard.py DATABASE FOLDER

Prints a line per run.
"""

import sys
from pathlib import Path

import numpy
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

import database

STATUS = {
    "finished": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
    "interrupted": api_pb2.STATUS_FAILURE,
    "running": api_pb2.STATUS_RUNNING,
}
ALL = {kind: 0 for kind in (event_accumulator.SCALARS, event_accumulator.TENSORS)}


def check_scalars(run, folder):
    events = event_accumulator.EventAccumulator(str(folder), size_guidance=ALL)
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags == set(run.series), f"{run.name}: {tags ^ set(run.series)}"
    for name, points in run.series.items():
        read = events.Scalars(name)
        assert [point.step for point in read] == [step for step, _ in points], f"{run.name}: {name}"
        with numpy.errstate(over="ignore"):
            values = [float(numpy.float32(value)) for _, value in points]
        assert [point.value for point in read] == values, f"{run.name}: {name}"
        times = [point.wall_time for point in read]
        assert times == sorted(times), f"{run.name}: {name}"
        assert run.start <= times[0] and times[-1] <= run.end + 60, f"{run.name}: {name}: {times[0]} to {times[-1]}"


def check_texts(run, path, multiplexer):
    texts = multiplexer.PluginRunToTagToContent("text")[path]
    wanted = {"run", "environment", "manifest", "space"} | ({"architecture"} if run.row["architecture"] else set())
    assert set(texts) == wanted, f"{run.name}: {set(texts)}"
    [event] = multiplexer.Tensors(path, "manifest")
    [text] = event.tensor_proto.string_val
    # With dimensions it would be shown as a table.
    assert not event.tensor_proto.tensor_shape.dim, run.name
    assert run.row["text"].strip() in text.decode(), f"{run.name}: {text}"


def check_descriptions(run, path, multiplexer):
    for name in run.series:
        description = multiplexer.SummaryMetadata(path, name).summary_description
        assert description.endswith("."), f"{run.name}: {name}: {description}"


def hparam(value):
    kind = value.WhichOneof("kind")
    return getattr(value, kind)


def check_hparams(run, path, sessions):
    session = sessions[path]
    settings = {}
    for name, value in run.settings.items():
        settings[name] = str(value).replace(" ", "") if isinstance(value, (list, dict)) else value
        # Integers that a floating-point number cannot hold are texts.
        if type(value) is int and value > 2**53:
            settings[name] = str(value)
    group, session = session
    read = {name: hparam(value) for name, value in group.hparams.items()}
    read = {name: value.replace('"', "'") if isinstance(value, str) else value for name, value in read.items()}
    settings = {name: value.replace('"', "'") if isinstance(value, str) else value for name, value in settings.items()}
    assert read == settings, f"{run.name}: {set(read.items()) ^ set(settings.items())}"
    assert session.status == STATUS[run.row["status"]], f"{run.name}: {session.status}"
    assert session.start_time_secs == run.start, run.name
    values = {metric.name.tag: metric.value for metric in session.metric_values}
    for name, points in run.series.items():
        # Its column in the HParams table is the last value.
        last = max(points)[1]
        with numpy.errstate(over="ignore"):
            assert values[name] == float(numpy.float32(last)), f"{run.name}: {name}"


def read_sessions(multiplexer, folder):
    """The sessions of the HParams plugin by run, each with its group."""
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request, plain = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=1000), context.RequestContext()
    request.allowed_statuses.extend(STATUS.values())
    experiment = backend.experiment_from_metadata(
        plain, "", True, backend.hparams_metadata(plain, ""), backend.hparams_from_data_provider(plain, "", 0)
    )
    assert experiment.hparam_infos and experiment.metric_infos
    for info in experiment.hparam_infos:
        request.col_params.add(hparam=info.name, include_in_result=True)
    for info in experiment.metric_infos:
        request.col_params.add(metric=info.name)
    answer = list_session_groups.Handler(plain, backend, "", request).run()
    return {session.name: (group, session) for group in answer.session_groups for session in group.sessions}


def main():
    path, folder = sys.argv[1], Path(sys.argv[2])
    multiplexer = plugin_event_multiplexer.EventMultiplexer(size_guidance=ALL)
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    runs = database.read(path)
    paths = {f"{run.row['experiment']}/{run.name}": run for run in runs}
    assert set(multiplexer.Runs()) == set(paths), f"{set(multiplexer.Runs())}, expected {set(paths)}"
    sessions = read_sessions(multiplexer, folder)
    for path, run in paths.items():
        check_scalars(run, folder / path)
        check_texts(run, path, multiplexer)
        check_descriptions(run, path, multiplexer)
        check_hparams(run, path, sessions)
        print(f"passed {run.name}: {sum(map(len, run.series.values()))} scalars")


if __name__ == "__main__":
    main()
