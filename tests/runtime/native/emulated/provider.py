"""Libraries of CUDA's names over the emulated runtime, so that onnxruntime's CUDA provider starts without a GPU.

Its own kernels do not run: a launch of one fails. Libraries of which it only needs handles (cuBLAS, cuDNN) say yes.
"""

import re
import subprocess
from pathlib import Path

from tests.runtime.native.emulated.build import EXACT, HERE, NATIVE, OPERATORS, build, nvcc, run_all

RUNTIME, DRIVER = "libcudart.so.13", "libcuda.so.1"
HANDLES = ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10")
# cuDNN is looked up by name when the provider starts.
CUDNN = """
static long state[64];
extern "C" int cudnnCreate(void** handle) { *handle = state; return 0; }
extern "C" int cudnnDestroy(void*) { return 0; }
extern "C" int cudnnSetStream(void*, void*) { return 0; }
extern "C" unsigned long cudnnGetVersion() { return 92800; }
extern "C" unsigned long cudnnGetCudartVersion() { return 13000; }
extern "C" const char* cudnnGetErrorString(int) { return "emulated"; }
"""


def wanted(provider: Path, library: str) -> list[str]:
    """The functions of a library that the provider links."""
    found = subprocess.run(["readelf", "-W", "--dyn-syms", provider], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(rf" UND (\w+)@{re.escape(library)}\b", found)))


def toolkit() -> Path:
    """The folder of CUDA's headers."""
    said = subprocess.run(
        [nvcc() or "nvcc", "--dryrun", "-x", "cu", "-c", "/dev/null"], capture_output=True, text=True, check=False
    )
    for folder in re.findall(r'"?-I([^"\s]+)"?', said.stderr):
        if (Path(folder) / "driver_types.h").exists():
            return Path(folder)
    raise FileNotFoundError("driver_types.h, in the folders of nvcc")


def libraries(folder: Path, provider: Path, architecture: int = 90) -> Path:
    """CUDA's libraries and our operators in `folder`, for a libonnxruntime_providers_cuda.so. The operators' path."""
    build(folder, [architecture])
    here = "\n".join((HERE / name).read_text("utf-8") for name in ("runtime.cc", "provider.cc"))
    missing = [name for name in wanted(provider, RUNTIME) if not re.search(rf"\b{name}\(", here)]
    texts = {
        RUNTIME: "#include <cstdio>\n" + "\n".join(
            f'extern "C" int {name}() {{ std::fprintf(stderr, "emulated CUDA: no {name}\\n"); return 801; }}'
            for name in missing
        ),
        DRIVER: 'extern "C" int cuTensorMapEncodeTiled() { return 801; }',
        "libcudnn.so.9": CUDNN,
    }  # fmt: skip
    for library in HANDLES:
        texts[library] = "static long state[64];\n" + "\n".join(
            f'extern "C" int {name}(void** handle) {{ *handle = state; return 0; }}' if "Create" in name
            else f'extern "C" int {name}() {{ return 0; }}'
            for name in wanted(provider, library)
        )  # fmt: skip
    objects = [HERE / "provider.cc", folder / "runtime.o", folder / str(architecture) / "kernels.o"]
    commands = []
    for library, text in texts.items():
        (folder / f"{library}.cc").write_text(text, "utf-8")
        (folder / f"{library}.map").write_text(f"{library} {{ global: *; }};", "utf-8")
        versioned = (
            []
            if library in (DRIVER, "libcudnn.so.9", "libcurand.so.10")
            else [f"-Wl,--version-script={folder / library}.map"]
        )
        more = [f"-I{toolkit()}", *objects] if library == RUNTIME else []
        flags = ["-std=c++20", "-O1", "-w", "-fPIC", "-shared", f"-I{HERE}", f"-Wl,-soname,{library}", *versioned]
        commands.append(["g++", *flags, "-o", folder / library, folder / f"{library}.cc", *more])
    run_all(commands)
    flags = ["-std=c++17", "-O2", *EXACT, "-fPIC", "-fvisibility=hidden", "-DGRAPHPASS_CUDA", "-shared"]
    sources = [NATIVE / name for name in ("ops.cc", "operator_kernel.cc", "cpu.cc")]
    run_all([["g++", *flags, "-o", folder / OPERATORS, *sources, folder / "cuda.o", folder / RUNTIME]])
    return folder / OPERATORS
