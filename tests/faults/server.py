"""The real server in a process of its own, to be killed, starved and flooded."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

import aiohttp

REPOSITORY = Path(__file__).parents[2]
_START_S = 180  # a busy machine may need long to load torch


class Server:
    """`async with Server(folder, …) as server:` runs `python -m web serve` in `folder` and ends it again."""

    def __init__(self, folder: Path, *, checkpoints: Path, database_url: str, **overrides: str) -> None:
        """`overrides` are keys of config.toml, such as `engine__slots="4"`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.output = folder / "server.log"
        chosen = {"checkpoint__folders": json.dumps([str(checkpoints)]), "web__port": str(self.port)} | overrides
        self.environment = (
            {name: value for name, value in os.environ.items() if not name.startswith("FABLEWRIGHT_")}
            | {f"FABLEWRIGHT_{name.upper()}": value for name, value in chosen.items()}
            | {"FABLEWRIGHT_CONFIG": str(REPOSITORY / "config.toml"), "DATABASE_URL": database_url}
            | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
            | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kill()

    async def start(self, **environment: str) -> None:
        """Start the process and return when it may be sent work."""
        self.process = self._spawn("exec python -m web serve", environment)
        async with aiohttp.ClientSession() as session, asyncio.timeout(_START_S):
            while not await self._is_ready(session):
                assert self.process.poll() is None, self.output.read_text(errors="replace")[-4000:]
                await asyncio.sleep(0.05)

    async def hand_over_to(self, command: str) -> int:
        """Start a successor; return the exit code of the process that ran, once it has left by itself."""
        old, self.process = self.process, self._spawn(f"exec {command}", {})
        assert old is not None
        return await asyncio.to_thread(old.wait, _START_S)

    async def run(self, command: str, **environment: str) -> tuple[int, str]:
        """Run a shell command as the server's owner would; return its exit code and all that it printed."""
        process = await asyncio.create_subprocess_shell(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_START_S):
            output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def _spawn(self, command: str, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self.output.open("ab") as output:
            return subprocess.Popen(
                ["sh", "-c", command],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=output,
                stderr=output,
            )

    async def end(self, with_signal: signal.Signals) -> int | None:
        """Send a signal and return the exit code when the process is gone; None when none was running."""
        if self.process is None:
            return None
        self.process.send_signal(with_signal)
        code = await asyncio.to_thread(self.process.wait, 60)
        self.process = None
        return code

    async def metrics(self) -> dict[str, float]:
        """Return what /metrics says, each value by its name with its labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    async def kill(self) -> None:
        """End the process without a word to it, where one is running."""
        await self.end(signal.SIGKILL)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False
