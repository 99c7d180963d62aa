"""Routes of the predecessor's backend."""

import os
from typing import Optional

from fastapi import APIRouter, HTTPException, Query

from .database import SQLiteDatabase
from .models import CacheStats, DatabaseStats, PutRequest, PutResponse, VersionedValueResponse
from .store import VersionedKeyValueStore

router = APIRouter()
db = SQLiteDatabase(os.environ["PREDECESSOR_DATABASE"])
store = VersionedKeyValueStore(database=db, max_cache_size=int(os.environ.get("PREDECESSOR_CACHE", "100")))


@router.api_route("/put/{key}", methods=["PUT", "POST"], response_model=PutResponse)
async def put_value(key: str, request: PutRequest):
    version, timestamp = store.put(key, request.value)
    if version == 1:
        return PutResponse(operation="create", key=key, version=1, total_versions=1, timestamp=timestamp)
    return PutResponse(
        operation="update",
        key=key,
        version=version,
        new_version=version,
        previous_version=version - 1,
        total_versions=version,
        timestamp=timestamp,
    )


@router.get("/get/{key}", response_model=VersionedValueResponse)
async def get_value(key: str, version: Optional[int] = Query(None, ge=1)):
    found = store.get(key, version)
    if found is None:
        what = f"Key '{key}' not found" if version is None else f"Key '{key}' version {version} not found"
        raise HTTPException(status_code=404, detail=what)
    value, number, timestamp = found
    return VersionedValueResponse(key=key, value=value, version=number, timestamp=timestamp)


@router.get("/cache/stats", response_model=CacheStats)
async def cache_stats():
    return store.cache_stats()


@router.get("/db/stats", response_model=DatabaseStats)
async def db_stats():
    return db.stats()
