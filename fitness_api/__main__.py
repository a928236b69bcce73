"""`python -m fitness_api …` is `fitness-api …`."""

from fitness_api.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
