"""Health check of a container: exit code 0 if its scheduler or worker answers, else 1.

HEALTH_PORT is the port of the dashboard. The default is 8787, the scheduler's.
"""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen

_SECONDS = 5


def main() -> None:
    """Request ``/health`` and exit."""
    port = int(os.environ.get("HEALTH_PORT", "8787"))
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=_SECONDS) as answer:
            sys.exit(0 if answer.status == 200 else 1)
    except (URLError, TimeoutError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
