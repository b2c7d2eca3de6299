"""A `Job` belongs to the client: it never travels into a task."""

import copy
import pickle
from dataclasses import replace
from functools import partial

import cloudpickle
import pytest

from srch_dist.algorithm.job import Job
from srch_dist.config.loading import build_config
from srch_dist.runtime import tasks
from srch_dist.runtime.cluster import connect
from srch_dist.storage.run.directory import RunDirectory
from tests.helpers.plans import make_plan

pytestmark = pytest.mark.cluster

REFUSAL = "a Job cannot be pickled, because a Job belongs to the client"


@pytest.fixture
def job(tmp_path):
    config = build_config({})
    plan = make_plan(1000, {"image": 8, "text": 6}, config, 1, 4 << 30)
    return Job(RunDirectory(tmp_path), plan, config, ("image", "text"))


def rows_of(job):
    return job.plan.rows


@pytest.mark.parametrize(
    "travel",
    [
        pickle.dumps,
        cloudpickle.dumps,
        copy.deepcopy,
        lambda job: cloudpickle.dumps(partial(rows_of, job)),
        lambda job: cloudpickle.dumps(lambda: job.plan),
        lambda job: pickle.dumps([job]),
    ],
    ids=["pickle", "cloudpickle", "deepcopy", "argument", "closure", "list"],
)
def test_a_job_cannot_be_pickled(job, travel):
    with pytest.raises(TypeError, match=REFUSAL):
        travel(job)


@pytest.mark.cluster
def test_a_task_with_a_job_is_refused_by_the_client(job):
    with connect(workers=1), pytest.raises(TypeError, match="Could not serialize"):
        tasks.run_one(tasks.task(rows_of, job))


def test_records_of_a_job_travel(job):
    for record in (job.run, job.plan, job.config, job.stages, job.modalities):
        assert pickle.loads(pickle.dumps(record)) == record


def test_a_job_takes_another_plan(job):
    plan = replace(job.plan, cached=not job.plan.cached)
    assert replace(job, plan=plan).plan is plan
