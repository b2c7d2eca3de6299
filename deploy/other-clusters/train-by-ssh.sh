#!/bin/sh
# Train on machines reached by ssh. Scheduler and command run on this machine:
#   HOSTS="node1 node2" WORKERS=8 MEMORY=16GiB ./train-by-ssh.sh --config run.yaml
# All machines must share the file system of the Python environment and of this folder, and that of
# the paths in run.yaml, unless these are s3:// URLs. ACTIVATE is a command that activates the Python
# environment, here and on the hosts: ACTIVATE=". /shared/venv/bin/activate".
# Connections use TLS, with certificates made for this run in a folder that only its user can read.
set -eu

activate=${ACTIVATE:-:}
eval "$activate"
file=$PWD/scheduler-$$.json
tls=$PWD/certificates-$$
python=$(command -v python)
started=
# Stop workers first, so that they can deregister from the scheduler.
stop() {
    rm -rf "$file" "$tls"
    kill $started 2>/dev/null || true
    sleep 2
    kill $scheduler 2>/dev/null || true
}
trap stop EXIT
trap 'exit 75' INT TERM

"$python" -m srch_dist.certificates "$tls" >/dev/null
"$python" -m dask scheduler --protocol tls --port 0 --no-dashboard --scheduler-file "$file" \
    --tls-ca-file "$tls/ca.pem" --tls-cert "$tls/scheduler.pem" --tls-key "$tls/scheduler-key.pem" &
scheduler=$!
count=0
for host in $HOSTS; do
    # Workers exit when the scheduler exits.
    ssh -n "$host" "cd '$PWD' && $activate && exec env MALLOC_TRIM_THRESHOLD_=67108864 \
        MALLOC_MMAP_THRESHOLD_=33554432 '$python' -m dask worker --scheduler-file '$file' \
        --no-dashboard --nworkers $WORKERS --nthreads 1 --memory-limit $MEMORY \
        --tls-ca-file '$tls/ca.pem' --tls-cert '$tls/worker.pem' --tls-key '$tls/worker-key.pem' \
        --local-directory /tmp --death-timeout 60" &
    started="$started $!"
    count=$((count + WORKERS))
done
"$python" -m srch_dist.train --scheduler "$file" --workers-min "$count" --workers-wait 300 \
    --tls.ca "$tls/ca.pem" --tls.cert "$tls/client.pem" --tls.key "$tls/client-key.pem" "$@"
