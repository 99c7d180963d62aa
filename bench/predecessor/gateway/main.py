"""The predecessor's gateway. Arguments: HOST PORT BACKEND-URL CLIENT.

CLIENT is "each", a new httpx.AsyncClient for each request, as it was; or "kept", one for all: the repair.
"""

import sys

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

app = FastAPI(title="API Gateway")
TIMEOUT = 30.0
backend_url = sys.argv[3]
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100)
kept = httpx.AsyncClient(timeout=TIMEOUT, limits=LIMITS) if sys.argv[4] == "kept" else None


async def send(client, request: Request, path: str):
    return await client.request(
        request.method,
        f"{backend_url}/{path}",
        params=request.query_params,
        content=await request.body(),
        headers={"content-type": request.headers.get("content-type", "application/json")},
    )


@app.api_route("/{path:path}", methods=["GET", "PUT", "POST"])
async def forward(path: str, request: Request):
    try:
        if kept is not None:
            response = await send(kept, request, path)
        else:
            async with httpx.AsyncClient(timeout=TIMEOUT) as client:
                response = await send(client, request, path)
    except httpx.ConnectError:
        raise HTTPException(status_code=503, detail="Backend service is unavailable")
    except httpx.TimeoutException:
        raise HTTPException(status_code=504, detail="Backend service timed out")
    return JSONResponse(content=response.json(), status_code=response.status_code)


if __name__ == "__main__":
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), access_log=False, log_level="warning")
