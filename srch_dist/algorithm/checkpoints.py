"""Checkpoints of the loop: commit an iteration; verify the last iteration, and resume after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask.delayed import Delayed

from srch_dist.algorithm.b_step import CodeUpdate
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.s_step import EdgeReweighting, s_step
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.algorithm.z_step import Embedding, allowed_residual, stored_embedding
from srch_dist.config.identity import fingerprint
from srch_dist.errors import StorageError, StorageUnavailableError
from srch_dist.kernels.code_basis import first_basis, leading_basis
from srch_dist.kernels.code_update import CodeSums
from srch_dist.kernels.types import Matrix
from srch_dist.runtime import tasks
from srch_dist.storage import arrays


@dataclass(frozen=True)
class LoopState:
    """State that an iteration of the loop passes to the next iteration, besides B and Z.

    Attributes
    ----------
    iteration : number of the last committed iteration, whose checkpoint holds B and Z. 0 before
        the first iteration.
    cross_covariance : X_g Bᵀ as (d_g, l) float64, by modality.
    basis : (l, r) basis in which the next Z-step solves for Z; None means all l columns.
    objective : value of Eq. 9; infinite before the first iteration.
    changed : share of bits (0 to 1) that the B-step changed; 1 before the first iteration.
    reason : why the loop stopped; empty while it continues.
    resumed : true if an interrupted attempt may have stored a part of the next iteration.
    """

    iteration: int
    cross_covariance: Mapping[str, Matrix]
    basis: Matrix | None
    objective: float
    changed: float
    reason: str
    resumed: bool = False

    def stopped(self) -> bool:
        """Return whether the stopping rule is met."""
        return bool(self.reason)

    @classmethod
    def after(
        cls, iteration: Iteration, record: Mapping[str, Any], sums: CodeSums, reason: str
    ) -> LoopState:
        """Make the state after an iteration, from ``record``, its entry in the history.

        ``sums`` are those of the iteration's B-step.
        """
        basis = None
        if iteration.basis is not None:
            basis = leading_basis(sums.code_gram, iteration.basis)
        return cls(
            record["iteration"],
            sums.cross_covariance,
            basis,
            record["objective"],
            record["changed_bits"],
            reason,
        )


class _OtherRunError(StorageError):
    """A checkpoint belongs to another run."""


def resume_state(job: Job, statistics: Statistics) -> LoopState:
    """Read the last committed iteration, or start from the random first codes.

    History lines of iterations without a checkpoint are removed.

    Raises
    ------
    StorageError : the checkpoint is damaged or belongs to another run.
    """
    run, manifest = job.run, job.run.latest()
    if manifest is None:
        run.restart_history([])
        config, columns, basis = job.config, job.config.embedding_columns, None
        if columns < config.loop_bits:
            basis = first_basis(config.loop_bits, columns)
        matrices = statistics.cross_covariance
        return LoopState(0, matrices, basis, float("inf"), 1.0, "", resumed=True)
    iteration, history = manifest["iteration"], manifest["history"]
    _refuse_other_run(job, manifest)
    run.restart_history(history)
    folder = run.checkpoint(iteration, "cross_covariance")
    matrices = run.read_matrices(folder, manifest["checksums"]["cross_covariance"])
    bases = run.read_matrices(
        run.checkpoint(iteration, "basis"), manifest["checksums"].get("basis", {})
    )
    last = history[-1]
    return LoopState(
        iteration,
        matrices,
        bases.get("next"),
        last["objective"],
        last["changed_bits"],
        manifest["reason"],
        resumed=True,
    )


def resume_z_and_s(
    job: Job, graph: BlockGraph, state: LoopState
) -> tuple[Embedding | None, EdgeReweighting | None]:
    """Return Z and S of the last committed iteration.

    Checkpoints hold Z, from which S is computed. Before the first commit, both results are None:
    then Z = 0 and S = 1.
    """
    if not state.iteration:
        return None, None
    z = stored_embedding(job, state.iteration)
    return z, s_step(job, graph, z.groups)


def next_iteration(job: Job, state: LoopState) -> Iteration:
    """Return the number and the CG tolerance of the next iteration."""
    tolerance = allowed_residual(job.config, state.changed)
    return Iteration(state.iteration + 1, tolerance, state.basis, state.resumed)


def commit_iteration(
    job: Job, state: LoopState, record: Mapping[str, Any], z: Embedding, b: CodeUpdate
) -> None:
    """Commit an iteration, whose B and Z are stored already; add ``record`` to the history.

    Raises
    ------
    StorageError : another process has taken over the run.
    """
    run, rows, bits = job.run, job.plan.rows, len(b.sums.bit_sums)
    run.append_history(record)
    folder = run.checkpoint(state.iteration, "cross_covariance")
    matrices = run.write_matrices(folder, state.cross_covariance)
    bases = {} if state.basis is None else {"next": state.basis}
    written = run.write_matrices(run.checkpoint(state.iteration, "basis"), bases)
    run.commit(
        state.iteration,
        {
            "iteration": state.iteration,
            "rows": rows,
            "bits": bits,
            "shapes": {"codes": [rows, bits // 8], "z": [rows, job.config.embedding_columns]},
            "starts": job.plan.starts,
            "alpha": record["alpha"],
            "config": fingerprint(job.config),
            "data": _data_identity(job),
            "reason": state.reason,
            "checksums": {
                "codes": b.checksums,
                "z": list(z.checksums),
                "cross_covariance": matrices,
                "basis": written,
            },
            "history": run.history(),
        },
    )
    job.check_lock()


def _refuse_other_run(job: Job, manifest: Mapping[str, Any]) -> None:
    """Raise an error if a checkpoint belongs to a run with other options or other data."""
    known = manifest.get("data") in (None, _data_identity(job))  # None: of an earlier version
    same = manifest["config"] == fingerprint(job.config) and manifest["rows"] == job.plan.rows
    if not (known and same):
        place = job.run.checkpoint(manifest["iteration"])
        raise _OtherRunError(
            f"{place} belongs to another run, with other options or data; remove {job.run.path}"
        )


def _data_identity(job: Job) -> dict[str, int] | None:
    """Return the crc32 of each array of the run's feature store, by name; None if not recorded."""
    record = job.stages.find("rows")
    return None if record is None else dict(record.values["checksums"])


def discard_damaged_checkpoints(job: Job) -> None:
    """Verify the last committed iteration; if damaged, remove it and verify the previous iteration.

    Raises
    ------
    StorageError : all checkpoints are damaged, and the first codes are no longer stored; or a
        checkpoint belongs to another run.
    """
    while committed := job.run.committed():
        last = committed[-1]
        try:
            work = _verification(job)
            with job.progress.stage("verify checkpoint", len(work)) as stage:
                tasks.run_all(work, stage)
            return
        except (StorageUnavailableError, _OtherRunError):
            raise  # nothing shows that the checkpoint is damaged
        except StorageError as error:
            # The first codes are removed with the checkpoint of iteration 0.
            if len(committed) == 1 and not job.run.checkpoint(0, "codes").exists():
                raise
            job.progress.warn(
                f"the checkpoint of iteration {last} is damaged: {error}. Resuming after "
                f"iteration {committed[-2] if len(committed) > 1 else 0}."
            )
            job.run.discard_checkpoint(last)


def _verification(job: Job) -> list[Delayed]:
    """Create tasks that compare the arrays of the last committed iteration with their checksums."""
    run, manifest = job.run, job.run.latest()
    assert manifest is not None
    _refuse_other_run(job, manifest)
    paths = {kind: run.checkpoint(manifest["iteration"], kind) for kind in ("codes", "z")}
    return [
        tasks.task(arrays.verify_rows, path, *job.plan.span(p), manifest["checksums"][kind][p])
        for kind, path in paths.items()
        for p in job.plan.partitions
    ]
