"""The units for plain hosts, as systemd itself reads and rates them."""

import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
EXPOSURE_MAX = 20  # tenths, of 100: 1.4 and 1.5 when written


def analyze(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *argv], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for unit in (path for path in UNITS.rglob("*") if path.is_file()):
        text = unit.read_text(encoding="utf-8")
        for program in ("workmesh", "nats-server"):  # not installed there in a test
            text = text.replace(f"/opt/workmesh/bin/{program} ", "/bin/true ")
        assert "/opt/workmesh/bin/" not in text
        for instance in ("executor", "uplink") if "@." in unit.name else ("",):
            path = tmp_path / unit.relative_to(UNITS).with_name(unit.name.replace("@.", f"@{instance}."))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    units = sorted(str(path) for path in tmp_path.iterdir() if path.is_file())
    assert any("workmesh@uplink.service" in each for each in units)
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")


def test_a_misspelt_directive_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.service").write_text("[Service]\nExecStart=/bin/true\nNoNewPriviliges=yes\n", encoding="utf-8")
    assert "NoNewPriviliges" in analyze("verify", "--man=no", str(tmp_path / "wrong.service")).stderr


@pytest.mark.parametrize("unit", ["workmesh@.service", "workmesh-nats.service"])
def test_a_service_has_few_rights(unit: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(UNITS / unit))
    assert done.returncode == 0, done.stdout[-400:]
