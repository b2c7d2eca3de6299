#!/bin/sh
# Train on machines reached by ssh. Scheduler and command run on this machine:
#   HOSTS="node1 node2" WORKERS=8 MEMORY=16GiB ./train-by-ssh.sh --config run.yaml
# All machines must share the file system of the Python environment, of this folder and of the paths
# in run.yaml. Anyone who reaches the scheduler's port can run code. Use a closed network, or
# certificates (tls:// in Dask's configuration).
set -eu

file=$PWD/scheduler-$$.json
python=$(command -v python)
started=
# Stop workers first, so that they can deregister from the scheduler.
stop() {
    rm -f "$file"
    kill $started 2>/dev/null || true
    sleep 2
    kill $scheduler 2>/dev/null || true
}
trap stop EXIT
trap 'exit 75' INT TERM

"$python" -m dask scheduler --port 0 --no-dashboard --scheduler-file "$file" &
scheduler=$!
count=0
for host in $HOSTS; do
    # Workers exit when the scheduler exits.
    ssh -n "$host" "cd '$PWD' && exec env MALLOC_TRIM_THRESHOLD_=67108864 \
        MALLOC_MMAP_THRESHOLD_=33554432 '$python' -m dask worker --scheduler-file '$file' \
        --no-dashboard --nworkers $WORKERS --nthreads 1 --memory-limit $MEMORY \
        --local-directory /tmp --death-timeout 60" &
    started="$started $!"
    count=$((count + WORKERS))
done
"$python" -m srch_dist.train --scheduler "$file" --workers-min "$count" --workers-wait 300 "$@"
