"""Pydantic models of the predecessor."""

from typing import Any, Optional

from pydantic import BaseModel


class PutRequest(BaseModel):
    value: Any


class VersionedValueResponse(BaseModel):
    key: str
    value: Any
    version: int
    timestamp: float


class PutResponse(BaseModel):
    operation: str
    key: str
    version: int
    new_version: Optional[int] = None
    previous_version: Optional[int] = None
    total_versions: int
    timestamp: float


class CacheStats(BaseModel):
    current_size: int
    max_size: int
    is_full: bool


class DatabaseStats(BaseModel):
    total_keys: int
    total_versions: int
    database_size_bytes: int
