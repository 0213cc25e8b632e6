"""A TCP gate in front of an API server: close it and the server cannot be reached, open it and it is back."""

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Gate:
    def __init__(self, server):
        self._target = urlsplit(server)
        self._links = set()
        self._serving = set()
        self._listener = None
        self.port = 0

    async def open(self):
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self):
        """Refuse new connections and cut those that are there."""
        self._listener.close()
        for writer in tuple(self._links):
            writer.transport.abort()
        await self._listener.wait_closed()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ends = {writer, there_writer}
        self._links |= ends
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            self._links -= ends
            for each in ends:
                each.transport.abort()
            await asyncio.gather(*(each.wait_closed() for each in ends), return_exceptions=True)


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def gate_to(plane, folder):
    """Yield a gate to *plane*, and a kubeconfig that uses it."""
    gate = Gate(plane.server)
    await gate.open()
    settings = json.loads(plane.kubeconfig.read_text())
    settings["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{gate.port}"
    kubeconfig = folder / "through-the-gate"
    kubeconfig.write_text(json.dumps(settings))
    try:
        yield gate, str(kubeconfig)
    finally:
        await gate.close()
