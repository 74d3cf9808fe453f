"""Images of the CUDA kernels for the driver to load: compiled when the package was built, or at first use.

Without either, an error says how to get them. The CPU never steps in.
"""

from pathlib import Path

from . import image_cache, kernel_sources, nvrtc
from .ahead_of_time import Manifest, read_manifest

_PACKAGE = Path(__file__).parents[1]
_IMAGES = _PACKAGE / "_images"

_HOW_TO_GET = (
    f"with pip: {nvrtc.pip_install(12)} for a torch of CUDA 12, {nvrtc.pip_install(13)} for a torch of CUDA 13; "
    "or compiled when ladderseg_fast is built: install nvcc, then `pip install .` again"
)

# Where the images came from that this process has asked for: what is visible in `describe`.
_origins: dict[str, str] = {}


class KernelsUnavailableError(RuntimeError):
    """No kernels exist that this machine's GPU can run, though it has one."""


def image(name: str, architecture: tuple[int, int], driver_version: int | None = None) -> bytes:
    """Image `name` ("bn_relu_float32") for a device of compute capability `architecture` ((8, 6)).

    It is a fatbin, machine code, or PTX: what cuModuleLoadData accepts. driver_version is that of cuDriverGetVersion
    (12040), if known.

    Raises:
        ValueError: no image has this name.
        KernelsUnavailableError: there is no image for this device, and no compiler that can make one.
        RuntimeError: the sources do not compile.
    """
    if name not in kernel_sources.image_names(sources()):
        raise ValueError(f"there is no CUDA kernel image {name!r} in {sources()}")
    manifest = read_manifest(_IMAGES)
    obstacle = _obstacle(manifest, architecture, driver_version)
    if manifest is not None and obstacle is None:
        _origins[name] = f"ahead of time by nvcc {manifest.nvcc}"
        return (_IMAGES / f"{name}.fatbin").read_bytes()
    try:
        return _compiled(name, f"sm_{architecture[0]}{architecture[1]}", driver_version)
    except nvrtc.NvrtcNotFound as error:
        device = f"a device of compute capability {architecture[0]}.{architecture[1]}"
        raise KernelsUnavailableError(
            f"no CUDA kernels {name} for {device}. From the build of this package: {obstacle}. At first use: {error}. "
            f"Get them {_HOW_TO_GET}"
        ) from error


def sources() -> Path:
    """Directory of the kernels' sources; an installed package has a copy."""
    installed = _PACKAGE / "_kernels"
    return installed if installed.is_dir() else _PACKAGE.parent / "csrc" / "cuda" / "kernels"


def describe() -> str:
    """One line about the source of this installation's kernels. Opens NVRTC, and no driver."""
    if not kernel_sources.operators(sources()):
        return f"none: there are no sources in {sources()}"
    ways = []
    manifest = read_manifest(_IMAGES)
    if manifest is not None and _stale(manifest) is None:
        ways.append(f"by nvcc {manifest.nvcc} for {manifest.devices}")
    try:
        compiler = nvrtc.open_nvrtc()
        oldest, newest = compiler.architectures[0], compiler.architectures[-1]
        others = "for other devices " if ways else ""
        known = f"sm_{oldest} to sm_{newest}, PTX for newer devices"
        ways.append(f"{others}compiled at first use with {compiler.name} from {compiler.path} ({known})")
    except nvrtc.NvrtcNotFound:
        pass
    return "; ".join([*ways, *_unusual()]) or f"none; get them {_HOW_TO_GET}"


def _unusual() -> list[str]:
    """Images of this process that are not machine code for their device."""
    return [f"{name} is {origin}" for name, origin in sorted(_origins.items()) if "PTX" in origin]


def _obstacle(manifest: Manifest | None, architecture: tuple[int, int], driver_version: int | None) -> str | None:
    """Reason why the images in the package do not suit, or None if they do."""
    if manifest is None:
        return "it was built without nvcc"
    return _stale(manifest) or manifest.obstacle(architecture, driver_version)


def _stale(manifest: Manifest) -> str | None:
    """Reason why the images no longer match a source tree, whose kernels were edited since; None if they match."""
    if manifest.sources == kernel_sources.digest(sources()):
        return None
    return f"the sources in {sources()} have changed since it was built"


def _compiled(name: str, architecture: str, driver_version: int | None) -> bytes:
    """Image made by NVRTC, from the cache if possible."""
    compiler = nvrtc.open_nvrtc()
    if driver_version is not None and driver_version // 1000 < compiler.version[0]:
        driver = driver_version // 1000
        raise KernelsUnavailableError(
            f"{compiler.name} ({compiler.path}) makes code that this driver, one for CUDA {driver}, does not load. "
            f"Update the driver, or use a torch for CUDA {driver} and NVRTC for it: {nvrtc.pip_install(driver)}"
        )
    target = nvrtc.target_for(architecture, compiler)
    operator, element = kernel_sources.operator_and_element(name)
    directory = sources()
    facts = [compiler.name, kernel_sources.digest(directory), *kernel_sources.options(element)]
    entry = image_cache.entry_name(name, target, facts)
    result = image_cache.load(entry)
    if result is None:
        result = nvrtc.compile(directory / f"{operator}.cu", directory, element, architecture).image
        image_cache.store(entry, result)
    finished = f"PTX of {target} that the driver finishes for {architecture}"
    _origins[name] = f"{'machine code' if target == architecture else finished}, by {compiler.name}"
    return result
