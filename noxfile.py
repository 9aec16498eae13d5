"""Every check of the project, by name; CI and the Makefile run these and nothing else.

1. Python code is tested as users get it: a wheel built from this tree is installed, never the tree itself.
2. Plain `nox` runs what has to hold for every commit, on the Python that runs nox. `nox -s tests` runs the
   tests on every supported Python that is on this machine, `nox -s jit` with the compiler of those that have one.
3. Nothing but Python with pip, and Rust, is needed; a check that can't run here says what is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "virtualenv"  # brings a pip of its own, where Python's venv module may not
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = list(dict.fromkeys(["3.11", "3.12", "3.13", "3.14", "3.15", CURRENT]))
WITH_JIT = [version for version in PYTHONS if version >= "3.14"]

nox.options.sessions = [
    "rust",
    "elsewhere",
    "loom",
    f"tests-{CURRENT}",
    "stress(form='quick')",
    "doctests",
    "types",
    "docs",
]

MANYLINUX = "manylinux_2_17"
# So that profilers and debuggers can walk a stack (PEP 831). It costs nothing that can be measured.
FRAME_POINTERS = "-Cforce-frame-pointers=yes"
# std has some of them in any case: 370 where ours have none, and 2,100 where they do.
FEWEST_FRAME_POINTERS = 1000
ORDINARY = ["--ignore=tests/stress", "--ignore=tests/recipes", "--ignore=tests/gui", "tests"]

built: dict[str, Path] = {}


def find_pythons() -> None:
    """Puts where Pythons are on PATH, where nox finds them: the folders that SYNCLINE_PYTHONS names in front, those of
    the Pythons that pyenv has, but doesn't show, at the end."""
    if named := os.environ.get("SYNCLINE_PYTHONS"):
        os.environ["PATH"] = named + os.pathsep + os.environ["PATH"]
    if (pyenv := shutil.which("pyenv")) is None:
        return
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
    for version in PYTHONS:
        for folder in sorted(Path(root).glob(f"versions/{version}.*/bin")):
            os.environ["PATH"] += os.pathsep + str(folder)


find_pythons()


def rustflags(*flags: str) -> dict[str, str]:
    """The environment that compiles with these flags, besides those that were asked for."""
    return {"RUSTFLAGS": " ".join([*filter(None, [os.environ.get("RUSTFLAGS")]), *flags])}


def install(session: nox.Session, *groups: str) -> None:
    """Installs dependency groups of pyproject.toml."""
    session.install(*nox.project.dependency_groups(GROUPS, *groups))


def install_wheel(session: nox.Session) -> None:
    """Installs the wheel of this tree, built once for each Python in one run of nox (by 1)."""
    # Unlike the cache's tag, this one tells a free-threaded build from others.
    tag = session.run(
        "python", "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))", silent=True
    )
    assert isinstance(tag, str)
    tag = tag.strip()
    if tag not in built:
        folder = ROOT / "build" / "wheels" / tag
        shutil.rmtree(folder, ignore_errors=True)
        # Two Pythons that share a target folder would each rebuild what the other built.
        env = {"CARGO_TARGET_DIR": str(TARGET / tag), "MATURIN_PEP517_ARGS": "--locked"}
        env |= rustflags(FRAME_POINTERS)
        options = ["--quiet", "--no-deps", f"--wheel-dir={folder}"]
        session.run("python", "-m", "pip", "wheel", *options, str(ROOT), env=env)
        (built[tag],) = folder.glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(built[tag]))
    session.install(str(built[tag]))  # what it depends on


def pytest(session: nox.Session, *args: str, env: dict[str, str] | None = None) -> None:
    """Runs pytest with the wheel; tests/conftest.py sees to it that nothing else gets tested."""
    install(session, "test")
    install_wheel(session)
    session.run("python", "-m", "pytest", *args, env={"SYNCLINE_TEST_WHEEL": "1", **(env or {})})


def cargo(session: nox.Session, *args: str, env: dict[str, str] | None = None) -> None:
    """Runs cargo; PyO3 builds against the Python that runs nox."""
    if shutil.which("cargo") is None:
        session.error("cargo is not on PATH: install a Rust toolchain")
    session.run("cargo", *args, env={"PYO3_PYTHON": sys.executable, **(env or {})}, external=True)


def cargo_loom(session: nox.Session, *args: str) -> None:
    """Runs cargo on the core with loom's primitives in the place of std's, in a target folder of its own."""
    env = {
        "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} --cfg loom".strip(),
        "CARGO_TARGET_DIR": str(TARGET / "loom"),
        # Optimized for loom's sake, but not at the length that a wheel is.
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    }
    cargo(session, *args, env=env)


def has_component(*command: str) -> bool:
    """Whether the Rust toolchain has what this command needs."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lints, of Rust and Python."""
    for component, command in {"rustfmt": "fmt", "clippy": "clippy"}.items():
        if not has_component("cargo", command, "--version"):
            session.error(f"`cargo {command}` doesn't run: rustup component add {component}")
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    cargo(session, "fmt", "--all", "--check")
    cargo(session, "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings")
    cargo_loom(session, "clippy", "--locked", "-p", "syncline-core", "--all-targets", "--", "-D", "warnings")


@nox.session(python=False)
def rust(session: nox.Session) -> None:
    """The core's own tests."""
    cargo(session, "test", "--locked", "-p", "syncline-core", *session.posargs)


@nox.session(python=False)
def elsewhere(session: nox.Session) -> None:
    """Whether the extension compiles for the other systems that rustup has a target for."""
    if not has_component("rustup", "--version"):
        session.skip("needs rustup")
    listed = session.run("rustup", "target", "list", "--installed", silent=True, external=True)
    others = [target for target in str(listed).split() if "-linux-" not in target]
    if not others:
        session.skip("needs a target: rustup target add x86_64-apple-darwin x86_64-pc-windows-gnu")
    env = {
        "PYO3_CROSS": "1",
        "PYO3_CROSS_PYTHON_VERSION": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    for target in others:
        cargo(
            session, "check", "--locked", "-p", "syncline-py", "--target", target, *session.posargs, env=env
        )


@nox.session(python=False)
def loom(session: nox.Session) -> None:
    """The core's races, in every order that loom can think of."""
    cargo_loom(
        session, "test", "--locked", "--release", "-p", "syncline-core", "--test", "loom", *session.posargs
    )


@nox.session(python=False)
def miri(session: nox.Session) -> None:
    """The core's own tests, and loom's models, under Miri, which sees undefined behaviour; 16 orders of threads."""
    if not has_component("cargo", "+nightly", "miri", "--version"):
        session.skip("needs Miri: rustup toolchain install nightly --component miri,rust-src")
    # Isolated: time is Miri's own, and a seed's run can be repeated. rustix makes a pointer of an integer for a futex.
    flags = "-Zmiri-many-seeds=0..16 -Zmiri-many-seeds-keep-going -Zmiri-permissive-provenance"
    env = {"MIRIFLAGS": os.environ.get("MIRIFLAGS", flags), "CARGO_TARGET_DIR": str(TARGET / "miri")}
    what = ("test", "--locked", "-p", "syncline-core", "--lib", "--test", "loom")
    cargo(session, "+nightly", "miri", *what, *session.posargs, env=env)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The Python tests, against the built wheel. Arguments go to pytest."""
    pytest(session, *(session.posargs or ORDINARY))


@nox.session(python=WITH_JIT)
def jit(session: nox.Session) -> None:
    """The same with the interpreter's compiler on. A Python that was built without one is skipped."""
    available = "import sys; sys.exit(not sys._jit.is_available())"
    if not has_component(str(Path(session.bin) / "python"), "-c", available):
        session.skip("this Python was built without its JIT compiler")
    pytest(session, *(session.posargs or ORDINARY), env={"PYTHON_JIT": "1"})


@nox.session(python=PYTHONS)
def recipes(session: nox.Session) -> None:
    """The recipes of docs/ with programs that are large to install, and a program frozen by PyInstaller."""
    install(session, "recipes")
    # It comes as C code only. Where that can't be built, its test is skipped, and pytest says so.
    session.install("uwsgi>=2.0.31", success_codes=[0, 1])
    pytest(session, *(session.posargs or ["tests/recipes"]))


@nox.session
@nox.parametrize("form", ["quick", "full"])
def stress(session: nox.Session, form: Literal["quick", "full"]) -> None:
    """Many threads that call in every way, close and fork: in half a minute (quick) or some minutes (full)."""
    limit = "faulthandler_timeout=1800"  # beyond the limits that these tests set themselves
    pytest(session, "-o", limit, "tests/stress", *session.posargs, env={"SYNCLINE_STRESS": form})


@nox.session(python=PYTHONS)
def random(session: nox.Session) -> None:
    """Random programs against a model of them: `nox -s random-3.12 -- 600`, in seconds; a minute by default."""
    seconds = session.posargs[0] if session.posargs else "60"
    env = {"SYNCLINE_RANDOM_SECONDS": seconds}
    limit = f"faulthandler_timeout={float(seconds) + 2500}"
    pytest(session, "-s", "-o", limit, "tests/test_random_programs.py", *session.posargs[1:], env=env)


@nox.session
def mutants(session: nox.Session) -> None:
    """Puts faults into a copy of the tree, one at a time, and says which no test notices; words choose some by name."""
    install(session, "test")
    session.run("python", "tests/mutants.py", *session.posargs)


@nox.session
def gui(session: nox.Session) -> None:
    """Real dialogs of Qt and Tk, without a screen; what is missing here (tkinter, Xvfb) is skipped."""
    install(session, "gui")
    pytest(session, *(session.posargs or ["tests/gui"]))


@nox.session
def doctests(session: nox.Session) -> None:
    """The examples in README.md and docs/, run by Sybil."""
    # Sybil stumbles over chained exceptions in all other styles.
    pytest(session, "--tb=native", *(session.posargs or ["README.md", "docs"]))


@nox.session
def types(session: nox.Session) -> None:
    """The package and its typing tests under mypy and pyright, all public names, and the stub against the extension."""
    install(session, "types")
    install_wheel(session)
    checked = [path for path in ("python", "tests/sdk", "tests/typing") if (ROOT / path).is_dir()]
    session.run("mypy", *checked)
    session.run("pyright", *checked)
    session.run("python", "-m", "mypy.stubtest", "syncline._core")
    # All that users can import has a type that needs no guess.
    session.run("pyright", "--verifytypes", "syncline", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation, the reference from the wheel's docstrings; a warning is an error."""
    install(session, "docs")
    install_wheel(session)
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-q", "-b", "html", "docs", "docs/_build/html")
    session.log(f"The documentation is in {(ROOT / 'docs/_build/html/index.html').as_uri()}")


@nox.session
def demo(session: nox.Session) -> None:
    """Runs examples/quickstart.py."""
    install(session, "examples")
    install_wheel(session)
    session.run("python", "examples/quickstart.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures against the peers, in a quick form unless arguments say otherwise; `-- workload` or `-- growth`, with
    their arguments, run one of the other programs."""
    install(session, "bench")
    install_wheel(session)
    program, *arguments = session.posargs or [""]
    if program in ("growth", "workload"):
        session.run("python", f"bench/{program}.py", *arguments)
        return
    session.run("python", "bench/bench.py", *(session.posargs or ["--quick"]))
    if not session.posargs:
        session.run("python", "bench/workload.py", "--quick")


@nox.session
def wheels(session: nox.Session) -> None:
    """What is released, in dist/: the sdist, and from it a wheel for each Python here, which is tried without Rust.

    Each is compiled twice: the second time for what calls did in the first one (bench/training.py). Arguments choose
    Pythons: `nox -s wheels -- 3.12`.
    """
    profdata = llvm_profdata(session)
    install(session, "release")
    pythons = released_pythons()
    if session.posargs:
        pythons = {version: pythons[version] for version in session.posargs}
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    # zig links against the C library of that manylinux, whatever this machine's is.
    options = ["--zig", "--compatibility", MANYLINUX] if sys.platform == "linux" else []
    build = ["maturin", "build", "--sdist", "--release", "--locked", *options, f"--out={dist}"]
    for version, python in pythons.items():
        profile = trained_profile(session, profdata, version, python)
        env = {"CARGO_TARGET_DIR": str(TARGET / "wheels")}
        env |= rustflags(FRAME_POINTERS, f"-Cprofile-use={profile}")
        session.run(*build, "--interpreter", python, env=env)
        (wheel,) = dist.glob(f"*-cp{version.replace('.', '')}-cp*.whl")
        if sys.platform == "linux":
            shown = session.run("auditwheel", "show", str(wheel), silent=True)
            if f'"{MANYLINUX}_{platform.machine()}"' not in str(shown):
                session.error(f"{wheel.name} needs more than {MANYLINUX} has:\n{shown}")
        check_frame_pointers(session, wheel)
        smoke_test(session, wheel, python)
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    for path in sorted(dist.iterdir()):
        session.log(f"{path.stat().st_size / 1e3:7,.0f} kB  {path.name}")


def llvm_profdata(session: nox.Session) -> Path:
    """The tool that makes a profile of what an instrumented build has counted; it is the compiler's own."""
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    found = next(Path(sysroot).glob("lib/rustlib/*/bin/llvm-profdata*"), None)
    return found or session.error("there is no llvm-profdata: rustup component add llvm-tools")


def trained_profile(session: nox.Session, profdata: Path, version: str, python: str) -> Path:
    """How often each way through the code is taken, as the compiler wants to know it.

    Not by maturin's own `--pgo`, which builds the instrumented wheel as the last one: zig does not take the argument by
    which rustc links what counts.
    """
    folder = TARGET / "profiles" / version
    shutil.rmtree(folder, ignore_errors=True)
    raw, profile = folder / "raw", folder / "merged.profdata"
    build = ["maturin", "build", "--release", "--locked", "--compatibility", "linux", f"--out={folder}"]
    env = {"CARGO_TARGET_DIR": str(TARGET / "trained")} | rustflags(
        FRAME_POINTERS, f"-Cprofile-generate={raw}"
    )
    session.run(*build, "--interpreter", python, env=env)
    (wheel,) = folder.glob("*.whl")
    with tempfile.TemporaryDirectory() as environment:
        session.run("virtualenv", "--quiet", "--python", python, environment, silent=True)
        own = str(Path(environment) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        session.run(own, "-m", "pip", "install", "--quiet", str(wheel), external=True)
        session.run(own, str(ROOT / "bench" / "training.py"), external=True)
    session.run(str(profdata), "merge", f"--output={profile}", str(raw), external=True)
    return profile


def check_frame_pointers(session: nox.Session, wheel: Path) -> None:
    """Most functions of the extension have to keep a frame pointer; for the one processor whose code we can read."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return
    with zipfile.ZipFile(wheel) as packed:
        (extension,) = (packed.read(name) for name in packed.namelist() if name.endswith(".so"))
    keeps = extension.count(b"\x55\x48\x89\xe5")  # push rbp; mov rbp, rsp
    session.log(f"{keeps} functions keep a frame pointer")
    if keeps < FEWEST_FRAME_POINTERS:
        session.error(f"{wheel.name} was compiled without frame pointers")


def released_pythons() -> dict[str, str]:
    """The supported Pythons of this machine: of each version the first that runs."""
    which = (
        "import os, sys; assert sys.implementation.name == 'cpython'; print(os.path.realpath(sys.executable))"
    )
    found: dict[str, str] = {}
    for version in sorted(PYTHONS, key=lambda version: int(version.partition(".")[2])):
        for folder in os.environ["PATH"].split(os.pathsep):
            python = Path(folder) / f"python{version}"
            # pyenv has a program of that name for each Python that it knows, and most don't run.
            if has_component(str(python), "-c", which):
                found[version] = subprocess.check_output([python, "-c", which], text=True).strip()
                break
    return found


def smoke_test(session: nox.Session, wheel: Path, python: str) -> None:
    """Installs a wheel as users do who have no Rust, in an environment of its own, and makes calls."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("virtualenv", "--quiet", "--python", python, folder, silent=True)
        programs = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        bare = {"PATH": str(programs)}
        installing = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", str(wheel)]
        session.run(str(programs / "python"), *installing, env=bare, external=True)
        session.run(str(programs / "python"), "-I", str(ROOT / "tests" / "smoke.py"), env=bare, external=True)


@nox.session
def dev(session: nox.Session) -> None:
    """Makes .nox/dev: what the checks use, and this tree's package (`maturin develop` rebuilds it)."""
    install(session, "lint", "types", "test", "docs", "examples")
    session.install("maturin>=1.16,<2")
    session.run("maturin", "develop", "--release", "--locked")
