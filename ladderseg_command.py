"""The command `ladderseg`, as pip installs it: outside the package, so that an import that fails gives one line too."""

import sys


def main() -> int:
    """Runs the command with the process's arguments and returns its exit status."""
    try:
        from ladderseg_fast.cli.main import main as run
    except ImportError as error:
        print(f"ladderseg: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ladderseg: interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
