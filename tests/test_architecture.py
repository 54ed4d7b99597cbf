"""Structure of the package: layers, fast imports, no code execution on loading, no traces of a machine."""

import ast
import configparser
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import sppnet
from PIL import Image
from sppnet.scripts.benchmark import BENCHMARKS
from sppnet.scripts.classify import JOBS
from sppnet.scripts.cli import COMMANDS

PACKAGE = Path(sppnet.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# A floor and the floors it may use besides itself.
FLOORS = {
    "data": set(),
    "proposals": {"data"},
    "eval": {"data"},
    "detector": {"data", "proposals", "eval"},
    "scripts": {"data", "proposals", "eval", "detector"},
}
# Inside the detector: a room or file may use those before it.
DETECTOR = (
    "values",
    "options",
    "device",
    "modelfile",
    "pooling",
    "convolutions",
    "head",
    "windows",
    "learners",
    "descent",
    "detection",
    "cluster",
    "training",
    "classification",
    "distillation",
    "recipes",
    "load",
)
INIT = PACKAGE / "__init__.py"
#: Used where the user has them.
#: torch's builds for Linux bring Triton.
OPTIONAL = {"supervision", "triton", "ray", "pyarrow"}
MODULES = sorted(path for floor in FLOORS for path in (PACKAGE / floor).rglob("*.py"))
HEAVY = {"torch", "torchvision", "cv2", "numba", "sklearn", "scipy", "pycocotools", "selectivesearch", "matplotlib"}


def floor_of(path):
    return path.relative_to(PACKAGE).parts[0]


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def upward_imports(source, module):
    """The imports of ``module`` (``data.boxes``, say) that its floor may not make, as (line, imported) pairs."""
    package = module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [name.name for name in node.names if name.name.split(".")[0] == "sppnet"]
            found += [(node.lineno, target) for target in targets]  # inside the package imports are relative
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.split(".")[0] == "sppnet":
            found.append((node.lineno, node.module))
        elif isinstance(node, ast.ImportFrom) and node.level > 0:
            base = package[: len(package) - node.level + 1]
            names = [name.name for name in node.names]
            targets = [[*base, *node.module.split(".")]] if node.module else [[*base, name] for name in names]
            allowed = {*FLOORS[package[0]], package[0], "__version__"}
            found += [(node.lineno, ".".join(target)) for target in targets if not may_use(module, target, allowed)]
    return found


def may_use(module, target, allowed):
    """Whether ``module`` may import ``target``, the parts of a name, when it may use the floors ``allowed``."""
    if target[0] != "detector" or module.split(".")[0] != "detector":
        return target[0] in allowed
    room, used = module.split(".")[1], target[1]
    return DETECTOR.index(used) <= DETECTOR.index(room)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downwards(path):
    assert upward_imports(path.read_text(encoding="utf-8"), name_of(path)) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from ..detector.learners.svm import fit", "eval.report"),
        ("from ..eval.report import table", "proposals.graph"),
        ("from .. import proposals", "eval.report"),
        ("def f():\n    from ...scripts import cli", "detector.training.train"),
        ("from ..training.train import train", "detector.head.head"),
        ("def f():\n    from ..detection.detector import Detector", "detector.windows.features"),
        ("import sppnet.data.boxes", "eval.report"),
        ("from sppnet.data import boxes", "eval.report"),
    ],
)
def test_the_check_of_imports_sees_one_that_does_not(source, module):
    assert len(upward_imports(source, module)) == 1


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from .boxes import iou\nimport numpy", "data.image"),
        ("from .. import __version__", "eval.report"),
        ("from ...data import boxes\nfrom ..options import X\nfrom .stages import Y", "detector.training.train"),
        ("from ...data import boxes", "scripts.group.command"),
    ],
)
def test_the_check_of_imports_lets_the_others_pass(source, module):
    assert upward_imports(source, module) == []


def circles(imports):
    """Files that import each other in a loop, from a mapping of each to those that it imports."""
    left = {name: set(used) & set(imports) for name, used in imports.items()}
    before = None
    while left != before:
        # Whoever imports none of those that are left, or is imported by none of them, is in no loop.
        before, wanted = left, set().union(*left.values())
        left = {name: used & left.keys() for name, used in left.items() if used & left.keys() and name in wanted}
    return set(left)


def imported_files(path):
    """The files of the package, as dotted names, that a file imports, in functions and for types as well."""
    package = name_of(path).split(".")[:-1]
    names = {name_of(other) for other in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            found |= {".".join([*base, name.name]) for name in node.names} | {".".join(base)}
    return found & names


def test_no_files_import_each_other_in_a_loop():
    assert circles({name_of(path): imported_files(path) for path in MODULES}) == set()


def test_the_check_of_loops_sees_one():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == {"b", "c"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def fresh_python(code):
    """What ``code`` prints as JSON in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_the_package_loads_nothing_heavy():
    loaded = fresh_python("import sppnet, sys, json; print(json.dumps(list(sys.modules)))")
    assert "sppnet" in loaded
    assert not {*HEAVY, "numpy", "PIL"} & set(loaded)


def test_help_loads_nothing_heavy_and_no_command():
    """What keeps ``sppnet --help`` under 0.3 s."""
    loaded = fresh_python(
        "import contextlib, io, json, sys\n"
        "from sppnet.scripts.cli import COMMANDS, main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    assert main(['--help']) == 0 and 'detect' in out.getvalue()\n"
        "print(json.dumps(list(sys.modules)))"
    )
    frame = {"__init__", "cli", "parser"}
    commands = {f"sppnet.{name_of(path)}" for path in (PACKAGE / "scripts").rglob("*.py") if path.stem not in frame}
    assert not commands & set(loaded)
    assert not {*HEAVY, "numpy", "PIL"} & set(loaded)


def loaded_by(names, statement):
    """The heavy modules that a statement about each of the names was the first to load."""
    return fresh_python(
        "import contextlib, importlib, io, json, sys\n"
        "from sppnet.scripts.cli import main\n"
        "before, found = set(), {}\n"
        f"for name in {names}:\n"
        f"    with contextlib.redirect_stdout(io.StringIO()): {statement}\n"
        f"    new = {HEAVY | {'numpy', 'PIL'}} & set(sys.modules) - before\n"
        "    if new: found[name] = sorted(new)\n"
        "    before |= new\n"
        "print(json.dumps(found))"
    )


def test_command_modules_load_nothing_heavy():
    modules = [path for path in MODULES if floor_of(path) == "scripts" and path.stem != "__init__"]
    # Pages are loaded when one is wanted, after everything else.
    names = [f"sppnet.{name_of(path)}" for path in modules if path.parent.name != "pages"]
    assert loaded_by(names, "importlib.import_module(name)") == {}


def test_no_help_loads_anything_heavy():
    names = [*COMMANDS, *(f"benchmark {name}" for name in BENCHMARKS), *(f"classify {name}" for name in JOBS)]
    assert loaded_by(names, "assert main([*name.split(), '--help']) == 0") == {}


def test_the_check_of_light_help_sees_one_that_is_not():
    assert loaded_by(["train"], "import numpy") == {"train": ["numpy"]}


def test_detecting_loads_only_what_it_needs(tmp_path):
    """What keeps ``sppnet detect`` of one photograph below twice the time that importing torch takes."""
    Image.new("RGB", (120, 90)).save(tmp_path / "photo.png")
    call = ["detect", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    needless = ["torchvision", "scipy.special", "scipy.optimize", "sklearn", "skimage", "matplotlib", "pycocotools"]
    # torch's compiler, which some of its functions load; where importing torch does so there is nothing to save.
    # torch 2.6 needs a part of it to fill tensors that have no memory.
    compiler = ["torch._dynamo", "torch.fx.experimental.symbolic_shapes", "sympy"]
    if version("torch").startswith("2.6"):
        compiler = compiler[:1]
    loaded = fresh_python(
        "import json, sys, numba, torch\n"
        "before = set(sys.modules)\n"
        "from sppnet.scripts.cli import main\n"
        f"assert main({call}) == 0\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert "sppnet.detector.detection.detector" in loaded
    assert not {*needless, *compiler, "selectivesearch", "tqdm"} & set(loaded)


@pytest.mark.parametrize("name", sppnet.__all__)
def test_every_public_name_is_there(name):
    assert getattr(sppnet, name) is not None
    assert name in dir(sppnet)


def test_type_checkers_see_the_public_names_where_the_lazy_table_has_them():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {name.asname: ("." * line.level + line.module, name.name) for line in block.body for name in line.names}
    assert seen == {name: (home, name) for name, home in sppnet._HOME.items()}


def test_the_package_says_that_it_is_typed():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert "py.typed" in setup["options.package_data"]["sppnet"].split()
    assert (PACKAGE / "py.typed").is_file()


def test_an_unknown_public_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"has no attribute 'Detector'; it has .*SPPDetector"):
        sppnet.Detector  # noqa: B018


def unsafe_loading(source):
    """Lines of code that could execute what they load: pickles, and numpy's or torch's loaders that allow them.

    The name of pickle's error is harmless: torch raises it for a file that is not what it should be.
    """
    unsafe = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [node.lineno for name in node.names if name.name.split(".")[0] in unsafe - {"pickle"}]
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names} - {"UnpicklingError"}
            found += [node.lineno] * bool(names and (node.module or "").split(".")[0] in unsafe)
        elif isinstance(node, ast.Attribute):
            found += [node.lineno] * (ast.unparse(node.value) == "pickle" and node.attr != "UnpicklingError")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [node.lineno] * (called in {"eval", "exec"})
            found += [node.lineno] * (called == "torch.load" and options.get("weights_only") != "True")
            found += [node.lineno] * (called.endswith("load") and options.get("allow_pickle", "False") != "False")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_executes_what_it_loads(path):
    assert unsafe_loading(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle; pickle.load(file)",
        "from pickle import UnpicklingError, loads",
        "import dill",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_check_of_loading_sees_one_that_does(source):
    assert unsafe_loading(source) == [1]


def test_the_check_of_loading_lets_the_safe_ones_pass():
    assert (
        unsafe_loading("import pickle\ntry: torch.load(p, weights_only=True)\nexcept pickle.UnpicklingError: pass")
        == []
    )
    assert unsafe_loading("np.load(p, allow_pickle=False); json.loads(text); model.eval()") == []


def machine_paths(text):
    """Absolute paths that hold on one machine only."""
    return re.findall(r"(?<![\w.:/~-])/(?:home|Users|root|work|mnt|srv)/[\w.]+", text)


def test_no_file_knows_a_machine():
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: which files are the project's is not known")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    found = {}
    for name in listed.splitlines():
        path = REPOSITORY / name
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
        except UnicodeDecodeError:  # a picture or weights
            continue
        if path != Path(__file__) and (paths := machine_paths(text)):
            found[name] = paths
    assert found == {}


def test_the_check_of_paths_sees_one():
    assert machine_paths('open("/home/me/photos")') == ["/home/me"]
    assert machine_paths("see https://example.org/home/page, ../home/x and data/root/x") == []


def test_setup_and_package_agree():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert setup["metadata"]["version"] == sppnet.__version__
    packages = set(setup["options"]["packages"].split())
    folders = {path.parent for floor in FLOORS for path in (PACKAGE / floor).rglob("*.py")}
    assert packages == {"sppnet", *(f"sppnet.{'.'.join(path.relative_to(PACKAGE).parts)}" for path in folders)}


#: Distributions whose modules have other names.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


def used_distributions(source):
    """What a file imports, in functions as well, or looks for with ``find_spec``, by the names that pip knows."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "find_spec":
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    modules = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"sppnet"}
    return {DISTRIBUTIONS.get(name, name) for name in modules}


def test_the_requirements_are_what_is_imported():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    declared = {re.split(r"[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    used = set().union(*(used_distributions(path.read_text(encoding="utf-8")) for path in [INIT, *MODULES]))
    assert used - OPTIONAL == declared


def test_the_check_of_requirements_sees_every_way_to_use_one():
    source = "import os, cv2\nfrom . import x\ndef f():\n    from PIL import Image\n    import scipy.linalg, sppnet\n"
    assert used_distributions(source) == {"opencv-python-headless", "pillow", "scipy"}
    assert used_distributions("from importlib.util import find_spec\nfind_spec('skimage')") == {"scikit-image"}
