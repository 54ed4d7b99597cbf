"""``sppnet train --ray`` writes the file that any crew gives, whatever happens to its workers."""

import os
import re
import signal
from importlib.util import find_spec

import pytest
from crews import PickledCrew
from sppnet.data.errors import ImageError, InputError
from sppnet.data.scenes import make_scenes
from sppnet.scripts import train
from sppnet.scripts.cli import main

# It is not imported here: it reads variables then that the package sets before it imports it.
if find_spec("ray") is None:
    pytest.skip("could not import 'ray'", allow_module_level=True)
from sppnet.detector.cluster.crew import TRIES, RayCrew
from sppnet.detector.cluster.detect import connected

OPTIONS = ["--backbone", "squeezenet1_1", "--weights", "none", "--scales", "96", "--max-windows", "60", "--no-report"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crew")
    make_scenes(folder / "scenes", {"trainval": 20}, seed=0, size=(96, 128))
    return folder


def command(out, *more):
    return ["train", "scenes", "-o", str(out), *OPTIONS, "--effort", "quick", *more]


def test_workers_of_a_cluster_train_what_any_crew_trains(world, tmp_path, monkeypatch, capsys):
    """Also one in this process, whose calls go through pickle; the photographs are at a relative path."""
    monkeypatch.chdir(world)
    assert main(command(tmp_path / "ray.safetensors", "--ray")) == 0
    said = capsys.readouterr().err
    assert re.search(r"\d+ workers on cpu, each with num_cpus 1", said)
    assert re.search(r"a round of 20 images: \d+ new hard negatives of \d+, \d+ MB", said)
    monkeypatch.setattr(train, "training_crew", PickledCrew.alone)
    assert main(command(tmp_path / "here.safetensors")) == 0
    assert (tmp_path / "ray.safetensors").read_bytes() == (tmp_path / "here.safetensors").read_bytes()


def test_workers_may_be_lost_and_say_what_is_wrong(tmp_path):
    # Inside of the test, so that they go to the workers as a whole: these do not find the tests' modules.
    def lost_once(mark, number):
        if number == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def lost(number):
        os.kill(os.getpid(), signal.SIGKILL)

    def refused(number):
        raise ImageError(f"{number}.png: no picture")

    with connected(""):
        crew = RayCrew(2, "cpu", {"num_cpus": 1})
        mark = crew.put(tmp_path / "mark")
        assert list(crew.map(lost_once, [mark], [(number,) for number in range(20)])) == list(range(20))
        assert (tmp_path / "mark").exists()
        with pytest.raises(ImageError, match=r"^7\.png: no picture$"):
            list(crew.map(refused, [], [(7,)]))
        with pytest.raises(InputError, match=f"lost {TRIES + 1} times over the same photographs") as caught:
            list(crew.map(lost, [], [(1,)]))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--device", "cuda:1"], "each worker has a device of its own; expected --device auto, cpu or cuda"),
        (["--ray", "nonsense://x"], "--ray nonsense://x: no such cluster ("),
    ],
)
def test_what_cannot_be_is_refused(world, tmp_path, capsys, monkeypatch, more, said):
    monkeypatch.chdir(world)
    assert main(command(tmp_path / "m.safetensors", "--ray", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "m.safetensors").exists()
