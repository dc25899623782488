"""A WebRTC client that is no browser's (aiortc): watches by WHEP, or publishes by WHIP, and says in JSON how it went.

    rtc.py play URL SECONDS
    rtc.py publish URL SECONDS CODEC        CODEC: H264 or VP8
"""
import asyncio
import fractions
import json
import sys
import time
import urllib.request

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack


class Pictures(VideoStreamTrack):
    """Thirty pictures a second, each of another grey."""

    async def recv(self):
        pts, base = await self.next_timestamp()
        frame = av.VideoFrame(640, 360, "yuv420p")
        for plane, light in zip(frame.planes, (pts // 3000 % 200 + 20, 128, 128)):
            plane.update(bytes([light]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, fractions.Fraction(base)
        return frame


async def exchange(pc, url):
    await pc.setLocalDescription(await pc.createOffer())
    request = urllib.request.Request(
        url, pc.localDescription.sdp.encode(), {"content-type": "application/sdp"}, method="POST"
    )

    def ask():
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    answer = await asyncio.to_thread(ask)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))


async def play(url, seconds):
    pc = RTCPeerConnection(RTCConfiguration([]))
    seen = {"video": 0, "audio": 0, "width": 0, "first": None, "rising": True}
    begun = time.monotonic()

    async def read(track):
        last = -1
        while True:
            frame = await track.recv()
            if track.kind == "video":
                seen["first"] = seen["first"] or time.monotonic() - begun
                seen["width"] = frame.width
                seen["rising"] &= frame.pts > last
                last = frame.pts
            seen[track.kind] += 1

    tasks = []
    pc.on("track", lambda track: tasks.append(asyncio.ensure_future(read(track))))
    for kind in ("video", "audio"):
        pc.addTransceiver(kind, direction="recvonly")
    await exchange(pc, url)
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    seen["state"] = pc.connectionState
    await pc.close()
    print(json.dumps(seen))


async def publish(url, seconds, codec):
    pc = RTCPeerConnection(RTCConfiguration([]))
    pc.addTrack(AudioStreamTrack())
    pc.addTrack(Pictures())
    video = next(t for t in pc.getTransceivers() if t.kind == "video")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in codecs if c.mimeType == f"video/{codec}"])
    await exchange(pc, url)
    await asyncio.sleep(seconds)
    print(json.dumps({"state": pc.connectionState}))
    await pc.close()


what, url, seconds, *more = sys.argv[1:]
asyncio.run({"play": play, "publish": publish}[what](url, float(seconds), *more))
