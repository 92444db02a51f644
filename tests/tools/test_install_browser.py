import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT


@pytest.fixture
def install(tmp_path):
    """Run the script with nothing but the named commands, each a line of shell."""

    def run(**commands):
        for name in ("bash", "timeout", "env"):
            (tmp_path / name).symlink_to(shutil.which(name))
        for name, line in commands.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!{shutil.which('bash')}\n{line}\n")
            path.chmod(0o755)
        script = ROOT / "tools" / "install_browser.sh"
        environment = {**os.environ, "PATH": str(tmp_path), "LOG": str(tmp_path / "log")}
        result = subprocess.run([script], env=environment, capture_output=True, text=True)
        log = tmp_path / "log"
        return result.returncode, result.stdout + result.stderr, log.read_text() if log.exists() else ""

    return run


APT = 'echo "$@" >>"$LOG"'


def test_it_installs_what_is_missing(install):
    code, said, log = install(id="echo 0", apt_get=APT, chromium="true")
    assert (code, said) == (0, "") and log.splitlines()[-1].endswith("chromium chromium-driver")


def test_it_does_nothing_where_the_browser_is(install):
    assert install(id="echo 0", apt_get=APT, chromium="true", chromedriver="true") == (0, "", "")


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ({"id": "echo 1000", "apt_get": APT}, "only root may install them"),
        ({"id": "echo 0"}, "there is no apt-get"),
        ({"id": "echo 0", "apt_get": "echo E: no network >&2; exit 100"}, "apt-get failed"),
    ],
)
def test_it_says_so_where_it_cannot(install, commands, reason):
    assert install(**commands) == (
        0,
        f"chromium and chromium-driver are not installed ({reason}); the page is not tested in a browser.\n",
        "",
    )
