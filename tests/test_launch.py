"""The files of launch/: they are well formed, and restart a training that was lost."""

import pathlib
import subprocess

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
RESTART = LAUNCH / "restart.sh"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_well_formed(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def test_kubernetes_begins_anew_what_was_lost_and_only_that():
    *_, service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    claims = list(yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text()))[:-2]
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims)
    template = job["spec"]["template"]["spec"]
    used = {v["persistentVolumeClaim"]["claimName"] for v in template["volumes"]}
    assert used == {claim["metadata"]["name"] for claim in claims}
    fails = [r for r in job["spec"]["podFailurePolicy"]["rules"] if r["action"] == "FailJob"]
    assert [rule["onExitCodes"]["values"] for rule in fails] == [[1, 2]]
    assert fails[0]["onExitCodes"]["containerName"] == template["containers"][0]["name"]
    assert template["restartPolicy"] == "Never"
    assert template["subdomain"] == service["metadata"]["name"]
    count = job["spec"]["completions"]
    assert f"--num-processes {count} " in template["containers"][0]["args"][0]


def run_restarting(tmp_path, statuses, restarts=5):
    """Run a command that ends with one status after the other; return the last and the count."""
    (tmp_path / "left").write_text("\n".join(map(str, statuses)) + "\n")
    command = 'read -r status < left; sed -i 1d left; echo run; exit "$status"'
    finished = subprocess.run(
        ["bash", RESTART, "bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "RESTARTS": str(restarts), "RESTART_WAIT": "0"},
        capture_output=True,
        text=True,
    )
    return finished.returncode, finished.stdout.count("run")


@pytest.mark.parametrize(
    "statuses, outcome",
    [((75, 137, 0), (0, 3)), ((1, 0), (1, 1)), ((143, 0), (143, 1)), ((75,) * 9, (75, 6))],
)
def test_restarts(tmp_path, statuses, outcome):
    assert run_restarting(tmp_path, statuses) == outcome


def test_sigterm_reaches_the_training_and_ends_the_restarts(tmp_path):
    command = (
        "trap 'sleep 0.2; echo saved; exit 143' TERM; echo begun; while :; do sleep 0.05; done"
    )
    restarting = subprocess.Popen(
        ["bash", RESTART, "bash", "-c", command], stdout=subprocess.PIPE, text=True
    )
    assert restarting.stdout.readline() == "begun\n"
    restarting.terminate()
    assert restarting.communicate(timeout=30)[0] == "saved\n"
    assert restarting.returncode == 143
