"""`pipecat-ai`: its Deepgram services, the one that finalizes at the stops of its own voice detection, and Flux."""

from __future__ import annotations

import asyncio

from pipecat.services.deepgram.flux.stt import DeepgramFluxSTTService
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat_pipeline import listen
from speaking import asked

ASKED = asked()
SOCKET = ASKED["url"].replace("http", "ws", 1)


async def main() -> None:
    live = DeepgramSTTService(api_key=ASKED["key"], base_url=SOCKET)
    flux = DeepgramFluxSTTService(api_key=ASKED["key"], url=f"{SOCKET}/v2/listen", enable_eager_end_of_turn=True)
    await asyncio.gather(
        listen(live, "live", ASKED["clips"], commit=True), listen(flux, "flux", ASKED["clips"], commit=False)
    )


asyncio.run(main())
