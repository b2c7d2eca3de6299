"""Before a worker's container is stopped: let other workers have its results.

Run in the worker's container, where DASK_WORKER_NAME, DASK_SCHEDULER_ADDRESS and the variables of
TLS are set. It never fails: what is not handed over in time is computed again.
"""

import argparse
import os
import sys

from distributed import Client


def main() -> None:
    """Retire the worker of this container, within ``--seconds``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="to wait at most")
    options = parser.parse_args()
    name = os.environ["DASK_WORKER_NAME"]
    try:
        with Client(timeout=min(10, options.seconds)) as client:
            work = client.sync(
                client.scheduler.retire_workers,
                names=[name],
                close_workers=True,
                callback_timeout=options.seconds,
            )
        print(f"retired {', '.join(work) or 'nothing'}")
    except (OSError, TimeoutError) as error:
        print(f"{name} was not retired: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
