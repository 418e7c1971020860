"""What `graphpass serve` and `graphpass worker` turn into: the same process, without what the command line is made of.

python -P -m service serve | worker METRICS_PORT        settings: GRAPHPASS_… alone
"""

import sys

from graphpass.errors import GraphpassError
from service.extra import needed


def main(kind: str, *arguments: str) -> int:
    """Until a signal comes; errors are one line on stderr and an exit status."""
    try:
        with needed():
            from service.serving import serve, work
            from service.settings import load_settings
        if kind == "serve":
            serve(load_settings())
        else:
            work(load_settings(), int(arguments[0]))
    except GraphpassError as error:
        print(f"graphpass: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("graphpass: error: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
