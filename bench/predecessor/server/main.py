"""The predecessor's backend. Arguments: HOST PORT."""

import sys

import uvicorn
from fastapi import FastAPI

from .routes import router

app = FastAPI(title="Versioned Key-Value Store")
app.include_router(router)

if __name__ == "__main__":
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), access_log=False, log_level="warning")
