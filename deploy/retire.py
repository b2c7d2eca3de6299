"""Retire the worker of this container before it stops: move its results to other workers.

Run in the worker's container, where DASK_WORKER_NAME, DASK_SCHEDULER_ADDRESS and the TLS variables
are set. It never fails: results that are not moved in time are computed again.
"""

import argparse
import os
import sys

from distributed import Client


def main() -> None:
    """Retire the worker within ``--seconds``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="longest time to wait, in seconds (default: 60)"
    )
    options = parser.parse_args()
    name = os.environ["DASK_WORKER_NAME"]
    try:
        with Client(timeout=min(10, options.seconds)) as client:
            retired = client.sync(
                client.scheduler.retire_workers,
                names=[name],
                close_workers=True,
                callback_timeout=options.seconds,
            )
        print(f"retired {', '.join(retired) or 'no worker'}")
    except (OSError, TimeoutError) as error:
        print(f"worker {name} was not retired: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
