"""``sppnet detect --ray`` finds what the plain command finds, whatever happens to its workers."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from importlib.util import find_spec

import pytest
from many_photographs import link_scenes
from random_models import random_model
from sppnet.data.parquet import Parts, read_rows
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main

pytest.importorskip("pyarrow")
# It is not imported here: it reads variables then that the package sets before it imports it.
if find_spec("ray") is None:
    pytest.skip("could not import 'ray'", allow_module_level=True)
from sppnet.detector.cluster.detect import TRIES, Job, Worker, connected, workers_of

COUNT = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photographs, most of them links to a few scenes, one damaged; a model; and what the plain command writes."""
    folder = tmp_path_factory.mktemp("cluster")
    make_scenes(folder / "scenes", {"val": 4}, seed=0, size=(96, 128))
    link_scenes(folder, "many", COUNT)
    (folder / "many" / "00007.png").write_text("no picture")
    random_model().save(folder / "model.safetensors")
    assert main([*command(folder, "many", folder / "plain"), "--format", "parquet"]) == 1
    return folder


def command(folder, photographs, out, *more):
    model = ["--model", str(folder / "model.safetensors"), "--max-windows", "20", "--threshold", "-10"]
    return ["detect", str(folder / photographs), "-o", str(out), *model, *more]


def classes_of(parts):
    return json.loads((parts / "_header.json").read_text())["classes"]


def rows(path, names):
    """What is in a Parquet file, or in a folder of them, in the order of the files' names; equal text, equal bits."""
    paths = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    found = [row for one in paths for row in read_rows(one, names)]
    return sorted((row.file, row.error, json.dumps(row.image and row.image.to_record())) for row in found)


def pictures(out):
    return {path.name: path.read_bytes() for path in (out / "images").iterdir()}


def test_a_cluster_of_this_machine_gives_the_rows_of_the_plain_command(world, tmp_path, capsys):
    assert main(command(world, "many", tmp_path, "--ray")) == 1
    said = capsys.readouterr().err
    parts, plain = tmp_path / "detections.parquet", world / "plain"
    names = classes_of(parts)
    assert rows(parts, names) == rows(plain / "detections.parquet", names)
    assert len(rows(parts, names)) == COUNT + 1
    assert pictures(tmp_path) == pictures(plain)
    assert len(pictures(tmp_path)) == COUNT
    assert said.count("00007.png: not an image") == 1
    assert re.search(rf"objects in {COUNT} images, [0-9.]+ images a second: {re.escape(str(parts))}", said)
    assert [path.name for path in parts.iterdir() if not path.name.startswith("part-")] == ["_header.json"]
    # Nothing is lost by a second call without --resume.
    before = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert main(command(world, "many", tmp_path, "--ray")) == 2
    assert "has results already; --resume goes on with them" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in parts.iterdir()} == before
    # With it, what is missing, cannot be read or has no picture is done again.
    sorted(parts.glob("part-*"))[0].unlink()
    (tmp_path / "images" / "00003.jpg").unlink()
    (parts / "_tries-of-a-stopped-run").write_text("....")
    assert main(command(world, "many", tmp_path, "--ray", "--resume")) == 1
    assert [path.name for path in parts.iterdir() if not path.name.startswith("part-")] == ["_header.json"]
    assert rows(parts, names) == rows(plain / "detections.parquet", names)
    assert pictures(tmp_path) == pictures(plain)
    # Another model would find something else.
    assert main([*command(world, "many", tmp_path, "--ray", "--resume"), "--max-windows", "10"]) == 2
    assert "was made with another max_windows (20, now 10)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--report"], "leave --report and --draw-truth out"),
        (["--format", "json,csv"], "writes DIR/detections.parquet, a folder of Parquet files, alone"),
        (["--device", "cuda:1"], "each worker has a device of its own; expected --device auto, cpu or cuda"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(world, tmp_path, capsys, more, said):
    assert main(command(world, "many", tmp_path / "out", "--ray", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_one_line(world, tmp_path, capsys):
    assert main(command(world, "many", tmp_path / "out", "--ray", "nonsense://x")) == 2
    error = capsys.readouterr().err
    assert "sppnet: error: --ray nonsense://x: no such cluster (" in error
    assert "Traceback" not in error


def test_without_ray_it_is_said_how_to_install_it(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(command(world, "many", tmp_path / "out", "--ray")) == 2
    assert "sppnet: error: --ray needs Ray: pip install 'sppnet[ray]'" in capsys.readouterr().err


@pytest.fixture
def worker(world, tmp_path):
    """A worker in this process."""
    header = {"model": "m", "version": "1", "classes": list(random_model().class_names)}
    parts = Parts(tmp_path / "parts", header)
    return Worker(Job((world / "model.safetensors",), tmp_path, "float32", -10, parts, None))


def block(world, count=3):
    return {"photographs": [(str(path), "") for path in sorted((world / "many").iterdir())[:count]]}


def test_a_block_that_has_cost_workers_is_left_out(world, worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert worker(block(world))["images"] == 3
    monkeypatch.setattr(worker, "_rows", lost)
    for _ in range(TRIES):
        with pytest.raises(SystemExit):
            worker(block(world, 2))
    done = worker(block(world, 2))
    assert (done["photographs"], done["images"], done["objects"]) == (2, 0, 0)
    assert len(done["errors"]) == 2
    assert "00000.jpg: left out: 3 workers were lost over this photograph and the 1 of its block" in done["errors"][0]
    assert Counter(row.error is None for row in worker._job.parts.read()) == {True: 3, False: 2}
    assert not list(worker._job.parts.folder.glob("_tries*"))


def lost(photographs):
    raise SystemExit  # the nearest thing to the end of a process


def test_a_place_that_cannot_be_written_is_named(world, worker, tmp_path):
    worker._job.parts.folder.joinpath("_header.json").unlink()
    worker._job.parts.folder.rmdir()
    worker._job.parts.folder.write_text("a file")
    refused = worker(block(world))["refused"]
    assert refused.startswith(str(tmp_path / "parts"))
    assert "cannot be written by a worker" in refused


@pytest.mark.parametrize(
    ("there", "device", "expected"),
    [
        ({"CPU": 8.0}, "auto", (8, "cpu", {"num_cpus": 1})),
        ({"CPU": 16.0, "GPU": 2.0}, "auto", (2, "cuda", {"num_gpus": 1, "num_cpus": 8})),
        ({"CPU": 1.0, "GPU": 2.0}, "cuda", (2, "cuda", {"num_gpus": 1, "num_cpus": 1})),
        ({"CPU": 16.0, "GPU": 2.0}, "cpu", (16, "cpu", {"num_cpus": 1})),
        ({"CPU": 8.0}, "cuda", "--device cuda: the cluster has no GPU"),
        ({}, "auto", "the cluster has no core"),
    ],
)
def test_workers_take_the_cluster(monkeypatch, there, device, expected):
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            workers_of(device)
    else:
        assert workers_of(device) == expected


@pytest.mark.corpus
def test_a_cluster_of_this_machine_lets_nobody_in():
    """Its ports are open to the network, and whoever is behind them may run code: a secret keeps others out."""
    code = (
        "import ray, sys; ray.init(address=sys.argv[1], logging_level='error'); print(ray.cluster_resources()['CPU'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with connected(""):
        import ray

        address = ray.get_runtime_context().gcs_address
        secret = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        for more, let_in in (({}, False), (secret | {"RAY_AUTH_TOKEN": "0" * 64}, False), (secret, True)):
            called = [sys.executable, "-c", code, address]
            done = subprocess.run(called, env=environment | more, capture_output=True, text=True, timeout=120)
            assert (done.returncode == 0) is let_in, done.stderr


@pytest.mark.corpus
def test_two_nodes_whose_workers_are_killed_at_ten_moments_lose_nothing(world, tmp_path):
    """2,000 photographs; a worker is killed with signal 9, which its block alone may cost."""
    from ray.cluster_utils import Cluster

    link_scenes(world, "more", 2000)
    assert main([*command(world, "more", tmp_path / "plain"), "--format", "parquet", "--no-draw"]) == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    called = [sys.executable, "-m", "sppnet", *command(world, "more", tmp_path / "out", "--no-draw")]
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_workers, args=(stop, killed))
    killer.start()
    try:
        subprocess.run([*called, "--ray", cluster.address], check=True, timeout=1200)
    finally:
        stop.set()
        killer.join()
        cluster.shutdown()
    assert len(killed) == 10
    names = classes_of(tmp_path / "out" / "detections.parquet")
    found = rows(tmp_path / "out" / "detections.parquet", names)
    assert found == rows(tmp_path / "plain" / "detections.parquet", names)
    assert len({file for file, *_ in found}) == len(found) == 2000


def kill_workers(stop, killed):
    """Kill ten workers in the middle of their work, a few seconds apart."""
    moments = random.Random(0)
    while len(killed) < 10 and not stop.wait(moments.uniform(0.5, 4)):
        busy = [pid for pid in processes("ray::MapWorker") if pid not in killed]
        if busy:
            killed.append(moments.choice(busy))
            os.kill(killed[-1], signal.SIGKILL)


def processes(title):
    """Processes whose title begins so."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=1) for line in found.splitlines()[1:])
    return [int(pid) for pid, called in lines if called.startswith(title)]
