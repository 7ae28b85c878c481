"""`bench new` writes packages that can be installed and keep their contracts."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.contracts.check import REGISTRIES
from bench.contracts.new import TEMPLATES, TOYS, renamed, write_plug_in
from bench.errors import BadInput

ROOT = Path(__file__).parent.parent
KINDS = list(TOYS)


def installed(folder: Path, site: Path) -> dict[str, str]:
    """What `pip install` would write of a package's metadata -> the environment that finds it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    paths = [str(site), str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_the_template_and_only_names_change(kind: str, tmp_path: Path) -> None:
    toy = TOYS[kind].name
    example = ROOT / "examples" / f"{toy}-{kind}"
    assert (TEMPLATES / kind).resolve() == example
    folder = write_plug_in(kind, "my_waves", tmp_path)
    files = {path.name for path in folder.iterdir()}
    assert files == {"pyproject.toml", f"my_waves_{kind}.py", f"test_my_waves_{kind}.py"}
    for path in folder.iterdir():
        text = (example / path.name.replace("my_waves", toy)).read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8") == renamed(text, kind, "my_waves")
        assert len(path.read_text(encoding="utf-8").splitlines()) == len(text.splitlines())
        back = path.read_text(encoding="utf-8").replace("my_waves", toy).replace("MyWaves", TOYS[kind].title)
        assert back == text, "a name of the toy was changed where it is no name"
        if path.suffix == ".py":
            compile(path.read_text(encoding="utf-8"), path.name, "exec")


@pytest.mark.parametrize("kind", ["method", "metric"])
def test_what_it_writes_is_found_and_keeps_its_contracts(
    kind: str, tmp_path: Path, toy_env: dict[str, str]
) -> None:
    folder = write_plug_in(kind, "my_waves", tmp_path)
    environment = installed(folder, tmp_path / "site")
    environment["PYTHONPATH"] += os.pathsep + toy_env["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "check", "my_waves", "--domain", "toy"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my_waves: " in done.stdout and " 0 broken" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_test_passes_after_pip_install(kind: str, tmp_path: Path) -> None:
    folder = write_plug_in(kind, "my_waves", tmp_path)
    site = tmp_path / "site"
    flags = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(folder)], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    test = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_my_waves_{kind}.py"]
    done = subprocess.run(
        [sys.executable, *test],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "A", "a-b", "1a", "a b", "../a", "class", "a" * 41, "ä"])
def test_a_name_that_is_no_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a domain cannot be called"):
        write_plug_in("domain", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["edge", "local", "reproduced"])
def test_a_domain_whose_records_nobody_would_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"results/{name} is a folder of other records"):
        write_plug_in("domain", name, tmp_path)
    write_plug_in("method", name, tmp_path)


def test_a_name_or_a_folder_that_is_taken_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="there is a domain 'toy' already"):
        write_plug_in("domain", "toy", tmp_path)
    with pytest.raises(BadInput, match="there is a method 'int8' already"):
        write_plug_in("method", "int8", tmp_path)
    assert main(["new", "metric", "waves", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"next: pip install -e {tmp_path / 'waves-metric'} && python -m bench check waves" in said
    assert main(["new", "metric", "waves", "--output", str(tmp_path)]) == 2
    assert "exists: remove it" in capsys.readouterr().err
    assert KINDS == list(REGISTRIES), "each kind that can be checked can be begun"
