"""Description of the machine of a measurement: a time means nothing without it."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..data.cores import cpu_count

# OpenCV has four package names; each provides the same cv2.
_OPENCV = (
    "opencv-contrib-python-headless",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-python",
)
_PACKAGES = ("sppnet", "torch", "torchvision", "numpy", "numba", "scikit-learn", *_OPENCV)


def cpu_model() -> str:
    """Name of the processor, if the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def gpu_model() -> str | None:
    """Name of the first CUDA device; None without one, or if this process has not imported torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that affect speed and results."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def describe_machine() -> dict[str, object]:
    """Processor, cores, GPU, system and versions, ready for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": cpu_count(),
        "gpu": gpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": package_versions(),
    }
