"""The unchanged scripts for SSH and SLURM; `ssh` and `srun` are stubs that start processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srch_dist.storage import arrays
from srch_dist.storage.run.open import open_run
from tests.helpers.manifests import ROOT
from tests.helpers.processes import SECONDS
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.cluster

SCRIPTS = ROOT / "deploy" / "other-clusters"
# Starts one process per task. Options of `srun` have their value after = or none.
SRUN = """#!/bin/bash
tasks=1
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#*=}
    shift
done
started=()
for _ in $(seq "$tasks"); do "$@" & started+=($!); done
trap 'kill "${started[@]}"' TERM
code=0
for process in "${started[@]}"; do wait "$process" || code=$?; done
exit $code
"""
ACTIVATE = 'echo once >> "$PWD/activated"'
SSH = """#!/bin/sh
test "$1" = -n || exit 9
echo "$2" >> hosts-asked
exec sh -c "$3"
"""


@pytest.mark.parametrize(
    ("script", "variables", "workers"),
    [
        ("train-by-ssh.sh", {"HOSTS": "node1 node2", "WORKERS": "1", "MEMORY": "1GiB"}, 2),
        (
            "train.sbatch",
            {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "1024"},
            2,
        ),
    ],
)
def test_the_script_trains_the_codes_of_a_local_run(tmp_path, script, variables, workers):
    store = make_store(tmp_path / "data", 25, **make_pairs())
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": SRUN, "ssh": SSH}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join(
        [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    (tmp_path / "run.yaml").write_text(f"data: {store.path}\nout: run\nbits: 16\ngraph: {{k: 5}}\n")
    done = subprocess.run(
        ["bash" if script.endswith("sbatch") else "sh", SCRIPTS / script, "--config", "run.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "ACTIVATE": ACTIVATE, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{workers} workers of 1.0 GiB" in done.stdout + done.stderr
    if "HOSTS" in variables:
        asked = (tmp_path / "hosts-asked").read_text().split()
        assert sorted(asked) == variables["HOSTS"].split()
    assert not [*tmp_path.glob("scheduler-*.json"), *tmp_path.glob("certificates-*")]
    activated = (tmp_path / "activated").read_text().split()
    assert len(activated) == (3 if "HOSTS" in variables else 1)  # here, and on each host
    assert "tls://" in done.stderr
    assert "tcp://" not in done.stderr
    alone = train_here(store.path, tmp_path / "alone")
    np.testing.assert_array_equal(
        arrays.read_rows(open_run(tmp_path / "run").codes), arrays.read_rows(alone.run.codes)
    )
