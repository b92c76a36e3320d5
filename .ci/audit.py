"""Known vulnerabilities in the pinned packages, asked of pip-audit; and whether everything installed is pinned at all.

pip-audit alone reports success where its advisory service knows none of the packages, as behind a mirror that holds
packages and no advisories. Then this says NOT AUDITED, for a person to see; a vulnerability, an unpinned package or a
half answer fails.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
NOT_PINNED = {"fablewright", "pip", "setuptools", "wheel"}  # ourselves, and what installs


def main() -> int:
    """Print what was found; return 1 where somebody must act."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;+]+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE))
    installed = {_plain(package.name): package.version.partition("+")[0] for package in distributions()}
    loose = {name: version for name, version in installed.items() if pins.get(name) != version}
    for name in NOT_PINNED:
        loose.pop(name, None)
    for name, version in loose.items():
        print(f"{name} {version} is installed, constraints.txt says {pins.get(name, 'nothing')}: run `make lock`")
    return 1 if _audit() or loose else 0


def _audit() -> bool:
    """Ask for every pin; say whether somebody must act."""
    command = [sys.executable, "-m", "pip_audit", f"--requirement={CONSTRAINTS}", "--no-deps", "--disable-pip"]
    told = subprocess.run([*command, "--format=json"], capture_output=True, text=True, check=False)
    if not told.stdout:
        print(f"NOT AUDITED: no advisory service was reached: {told.stderr.strip().splitlines()[-1]}")
        return False
    packages = json.loads(told.stdout)["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    known = [package for package in packages if "skip_reason" not in package]
    for package in known:
        for found in package["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {found['id']}, mended in {mended}")
    if not known:
        print(f"NOT AUDITED: the advisory service knows none of the {len(packages)} packages")
        return False
    if unknown:
        print(f"not audited, unlike the others: {', '.join(unknown)}")
    vulnerable = [package for package in known if package["vulns"]]
    print(f"{len(known)} packages audited, {len(vulnerable)} with known vulnerabilities")
    return bool(unknown or vulnerable)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
