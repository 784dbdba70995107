"""A headless Chromium that presses keys, through its DevTools protocol.

    async with browser(folder) as open_page:
        page = await open_page("http://127.0.0.1:8765/?annotator=ann")
        await page.until("document.title === 'data.jsonl'")
        await page.press("1")
"""

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CODES = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """One tab. console: what it complained of."""

    def __init__(self, socket):
        self.socket, self.numbers, self.replies, self.console = socket, itertools.count(1), {}, []
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.socket:
            found = json.loads(message.data)
            if "id" in found:
                self.replies.pop(found["id"]).set_result(found)
            elif found["method"] == "Runtime.exceptionThrown":
                self.console.append(found["params"]["exceptionDetails"]["exception"].get("description", ""))
            elif found["method"] == "Log.entryAdded":
                self.console.append(found["params"]["entry"]["text"])

    async def call(self, method, **parameters):
        number = next(self.numbers)
        self.replies[number] = asyncio.get_running_loop().create_future()
        reply = self.replies[number]
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        found = await asyncio.wait_for(reply, 30)
        if "error" in found:
            raise RuntimeError(found["error"]["message"])
        return found["result"]

    async def value(self, expression):
        """What an expression is in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:  # also where the document is not there yet
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    async def until(self, expression, seconds=30):
        """Waits until an expression is true."""
        for _ in range(int(seconds / 0.02)):
            with suppress(RuntimeError):  # between two documents
                if await self.value(f"Boolean({expression})"):
                    return
            await asyncio.sleep(0.02)
        shown = await self.value("document.body.innerText")
        raise AssertionError(f"never true: {expression}\n{self.console}\n{shown[:2000]}")

    async def press(self, *keys, modifiers=0):
        """Keys one after the other, as of a keyboard; letters are typed where there is a field."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" and not modifiers else {}
            code = {"windowsVirtualKeyCode": CODES[key]} if key in CODES else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text, **code)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers, **code)

    async def type(self, text):
        await self.call("Input.insertText", text=text)

    async def picture(self, path, width, height, *, dark=False):
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=width < 500)
        await self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        found = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def browser(folder):
    """Gives the function that opens a page."""
    if not CHROMIUM:
        pytest.skip("no chromium is installed")
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'browser'}", "about:blank", stderr=asyncio.subprocess.PIPE, start_new_session=True)
    try:
        address = None
        while not address:
            line = await asyncio.wait_for(process.stderr.readline(), 60)
            assert line, "the browser did not start"
            address = re.search(rb"listening on ws://([^/]+)/", line)
        drain = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            async def open_page(url):
                async with session.put(f"http://{address[1].decode()}/json/new?about:blank") as reply:
                    target = await reply.json()
                page = Page(await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0))
                for method in ("Runtime.enable", "Log.enable", "Page.enable"):
                    await page.call(method)
                await page.call("Page.navigate", url=url)
                return page

            yield open_page
        drain.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
