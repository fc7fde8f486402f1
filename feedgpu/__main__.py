"""`python3 -m feedgpu`: the command feedgpu."""

from .command import run

if __name__ == "__main__":
    run()
