"""docs/deploy: units that systemd accepts, and no setting in any file that the program does not have."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs/deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    here = tmp_path / unit.name  # the same unit, with a program that exists
    here.write_text(unit.read_text().replace("/opt/fablewright/.venv/bin/python", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", here], check=False, capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_every_setting_named_in_a_deploy_file_exists() -> None:
    known = tomllib.loads((ROOT / "config.toml").read_text())
    files = [*UNITS, DEPLOY / "compose.yaml", ROOT / "docs/operating.md"]
    named = {pair for file in files for pair in re.findall(r"FABLEWRIGHT_([A-Z]+)__([A-Z_]+)", file.read_text())}
    assert named
    for table, key in named:
        assert key.lower() in known[table.lower()], f"[{table.lower()}] {key.lower()}"


def test_the_compose_file_names_only_volumes_networks_and_services_that_it_defines() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"web", "bot", "database", "proxy"}
    for service in services.values():
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", ())) <= set(services)
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(compose["volumes"])


def test_the_image_is_built_from_folders_that_exist() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    for source in (name for names in copied for name in names.split()):
        assert (ROOT / source).exists(), source
