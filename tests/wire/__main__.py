"""`python -m tests.wire`: play the scripts and write the golden exchanges anew. Look at the difference before it is committed."""

from tests.wire.play import EXCHANGES, path_of, record, written
from tests.wire.scripts import SCRIPTS


def main() -> None:
    EXCHANGES.mkdir(exist_ok=True)
    for stale in EXCHANGES.glob("*.json"):
        if stale.stem not in SCRIPTS:
            stale.unlink()
    for name, script in SCRIPTS.items():
        path_of(name).write_text(written(record(script)), encoding="utf-8")


if __name__ == "__main__":
    main()
