"""Manifests agree with the program: commands, ports, paths, variables and options.

The programs' own parsers read the commands and the options of the run. Variables are looked up in
Dask's configuration.
"""

import re
from importlib import import_module
from pathlib import Path

import click
import dask
import distributed
import pytest
import yaml

from srch_dist.cli.command import parse_training
from srch_dist.config.loading import load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.runtime import local_cluster
from tests.helpers.manifests import KUBERNETES, OVERLAYS, ROOT, build, one, process

FOLDERS = [f"overlays/{name}" for name in OVERLAYS]
# Overlays whose workers and job share a volume; test_store_overlay has the other one.
WITH_VOLUME = [folder for folder in FOLDERS if "object-store" not in folder]
STORE_VARIABLES = {*("BUCKET", "FEATURES", "RUN", "SCRATCH", "AWS_REGION", "S3_ENDPOINT_URL")} | {
    "AWS_SHARED_CREDENTIALS_FILE"
}
DASK_COMMANDS = {
    ("dask", "scheduler"): "distributed.cli.dask_scheduler",
    ("dask", "worker"): "distributed.cli.dask_worker",
}
# Variables that Dask does not read: for the allocator, for files of deploy/, or of the operator.
OTHER_VARIABLES = {*("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MEMORY_LIMIT")} | {
    *("HEALTH_PORT", "DASK_WORKER_NAME")
}


def options(args: list[str]) -> dict:
    """Options of a `dask …` command, by its own parser. Raises click.UsageError."""
    command = import_module(DASK_COMMANDS[tuple(args[:2])]).main
    return command.make_context("dask", list(args[2:])).params


def ports(container: dict) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_schedulers_command_ports_probes_and_service_agree(folder):
    documents = build(folder)
    scheduler = process(documents, "scheduler", "pod-1")
    parsed = options(scheduler.args)
    opened = ports(scheduler.container)
    assert parsed["port"] == str(opened["tcp-comm"])
    assert parsed["dashboard_address"] == f":{opened['http-dashboard']}"
    service = one(documents, "Service", "srch-dist-scheduler")["spec"]
    assert {p["port"]: p["targetPort"] for p in service["ports"]} == {
        8786: "tcp-comm",
        8787: "http-dashboard",
    }
    assert {p["port"] for p in service["ports"]} == set(opened.values())
    scheme, host, port = re.fullmatch(
        r"(\w+)://([\w-]+):(\d+)", scheduler.env["DASK_SCHEDULER_ADDRESS"]
    ).groups()
    assert (host, int(port)) == (service_name(documents), opened["tcp-comm"])
    assert scheme == ("tcp" if folder.endswith("-without-tls") else "tls")


def service_name(documents) -> str:
    (service,) = [document for document in documents if document["kind"] == "Service"]
    return service["metadata"]["name"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_workers_command_ports_paths_and_memory_agree(folder):
    worker = process(build(folder), "worker", "pod-1")
    parsed = options(worker.args)
    opened = ports(worker.container)
    assert parsed["worker_port"] == str(opened["tcp-worker"])
    assert parsed["nanny_port"] == str(opened["tcp-nanny"])
    assert parsed["dashboard_address"] == f":{opened['http-dashboard']}"
    assert worker.env["HEALTH_PORT"] == str(opened["http-dashboard"])
    assert parsed["nthreads"] == 1
    assert parsed["nanny"]
    assert parsed["memory_limit"] == str(16 << 30)
    assert worker.container["resources"]["limits"]["memory"] == "16Gi"
    assert parsed["name"] == "pod-1"
    scratch = worker.mounts[parsed["local_directory"]]
    (volume,) = [v for v in worker.pod["volumes"] if v["name"] == scratch]
    size, disk = volume["emptyDir"]["sizeLimit"], worker.container["resources"]["limits"]
    assert int(size.removesuffix("Gi")) < int(disk["ephemeral-storage"].removesuffix("Gi"))


@pytest.mark.parametrize("name", ["scheduler", "worker"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_probes_request_an_existing_page_at_an_open_port(folder, name):
    container = process(build(folder), name, "pod-1").container
    assert "distributed.http.health" in dask.config.get(f"distributed.{name}.http.routes")
    pages = [route[0] for route in import_module("distributed.http.health").routes]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"].lstrip("/") in [p.lstrip("/") for p in pages]
        assert container[probe]["httpGet"]["port"] in ports(container)


@pytest.mark.parametrize("folder", WITH_VOLUME)
def test_the_jobs_command_and_options_are_valid(folder, tmp_path):
    documents = build(folder)
    job = process(documents, "train", "pod-1")
    assert job.args[:3] == ["python", "-m", "srch_dist.train"]
    path = Path(job.args[job.args.index("--config") + 1])
    (volume,) = [v for v in job.pod["volumes"] if v["name"] == job.mounts[str(path.parent)]]
    text = one(documents, "ConfigMap", volume["configMap"]["name"])["data"][path.name]
    local = tmp_path / path.name
    local.write_text(text)
    config = parse_training([str(local) if a == str(path) else a for a in job.args[3:]])
    assert config == load_config(local)
    # Data and run directory are on the volume that job and workers share.
    worker = process(documents, "worker", "pod-1")
    for used in (config.data, config.out):
        (mount,) = [m for m in job.mounts if m != "/" and used.startswith(f"{m}/")]
        for role in (worker, job):
            assert role.mounts[mount] == "work"
            (volume,) = [v for v in role.pod["volumes"] if v["name"] == "work"]
            assert volume["persistentVolumeClaim"]["claimName"] == "srch-dist"
    replicas = one(documents, "Deployment", "srch-dist-worker")["spec"].get("replicas", 4)
    assert config.workers_min <= replicas


def test_a_retried_run_resumes():
    names = TrainConfig.__dataclass_fields__
    settings = yaml.safe_load((KUBERNETES / "settings" / "run.yaml").read_text())
    assert settings.get("resume", False) == ("resume" in names)


@pytest.mark.parametrize("folder", ["overlays/s3-without-tls", "overlays/production"])
def test_containers_copy_the_data_and_results_of_the_run(folder, tmp_path):
    documents = build(folder)
    (tmp_path / "run.yaml").write_text((KUBERNETES / "settings" / "run.yaml").read_text())
    config = load_config(tmp_path / "run.yaml")
    fetch = process(documents, "fetch", "pod-1")
    upload = process(documents, "upload", "pod-1")
    assert fetch.args[-2:] == [f"{fetch.env['DATA_URL']}/*", f"{config.data}/"]
    assert upload.args[-2:] == [f"{config.out}/", f"{upload.env['RUN_URL']}/"]


def _known_variables() -> set[str]:
    """Variables that Dask reads, from its default configuration."""
    known = {"DASK_SCHEDULER_ADDRESS"}

    def walk(value, path):
        known.add("DASK_" + "__".join(path).replace("-", "_").upper())
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key))

    folder = Path(distributed.__file__).parent
    walk(yaml.safe_load((folder / "distributed.yaml").read_text()), ())
    return known


@pytest.mark.parametrize("name", ["scheduler", "worker", "train"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_is_known(folder, name):
    env = process(build(folder), name, "pod-1").env
    for variable in set(env) - OTHER_VARIABLES - STORE_VARIABLES:
        assert variable in _known_variables(), variable
    read = dask.config.collect_env({k: v for k, v in env.items() if k.startswith("DASK_")})
    scheduler = read["distributed"]["scheduler"]
    assert dask.utils.parse_timedelta(scheduler["no_workers_timeout"]) == 1800
    assert scheduler["allowed_failures"] > dask.config.get("distributed.scheduler.allowed-failures")


def test_workers_have_the_allocator_settings_of_a_local_cluster():
    env = process(build("overlays/pvc-without-tls"), "worker", "pod-1").env
    local = {name.rsplit(".", 1)[1]: str(value) for name, value in local_cluster.ALLOCATOR.items()}
    assert local.items() <= env.items()


@pytest.mark.parametrize("name", ["scheduler", "worker", "train"])
def test_with_tls_every_process_has_its_certificate_at_the_configured_path(name):
    for folder in ("overlays/tls", "overlays/production"):
        container = process(build(folder), name, "pod-1")
        read = dask.config.collect_env(container.env)
        merged = dask.config.merge(dask.config.config, read)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dask.config, "global_config", merged)
            security = distributed.Security()
            role = "client" if name == "train" else name
            used = security.get_tls_config_for_role(role)
        assert security.require_encryption is True
        files = {used["ca_file"], used["cert"], used["key"]}
        assert files == {"/srv/tls/ca.crt", "/srv/tls/tls.crt", "/srv/tls/tls.key"}
        assert container.mounts["/srv/tls"] == "tls"
        (volume,) = [v for v in container.pod["volumes"] if v["name"] == "tls"]
        assert volume["secret"]["secretName"] == "srch-dist-tls"


def test_the_example_certificate_has_the_secret_and_host_name_of_the_manifests():
    path = KUBERNETES / "components" / "tls" / "cert-manager.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    (certificate,) = [d for d in documents if d["metadata"]["name"] == "srch-dist"]
    assert certificate["spec"]["secretName"] == "srch-dist-tls"
    assert service_name(build("overlays/tls")) in certificate["spec"]["dnsNames"]
    issuers = {d["metadata"]["name"] for d in documents if d["kind"] == "Issuer"}
    for document in documents:
        if document["kind"] == "Certificate":
            assert document["spec"]["issuerRef"]["name"] in issuers


def test_the_image_contains_the_pre_stop_script():
    worker = process(build("overlays/pvc-without-tls"), "worker", "pod-1")
    command = worker.container["lifecycle"]["preStop"]["exec"]["command"]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (copied,) = re.findall(r"^COPY (deploy/\S+\.py deploy/\S+\.py) /opt/$", dockerfile, re.M)
    assert Path(command[1]).name in {Path(name).name for name in copied.split()}
    grace = worker.pod["terminationGracePeriodSeconds"]
    assert float(command[command.index("--seconds") + 1]) < grace


def test_drift_is_detected(tmp_path):
    worker = process(build("overlays/pvc-without-tls"), "worker", "pod-1")
    with pytest.raises(click.UsageError):
        options([*worker.args, "--memory-limits", "1GiB"])
    path = tmp_path / "run.yaml"
    path.write_text("outt: /srv/work/runs/first\n")
    with pytest.raises(ConfigError, match="did you mean out"):
        load_config(path)
    with pytest.raises(ConfigError, match="did you mean --workers-min"):
        parse_training(["--workers-minimum", "3"])
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILES" not in _known_variables()
