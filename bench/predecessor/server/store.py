"""Cache layer of the predecessor: write-through, least recently used, one lock around everything."""

import threading
import time


class VersionedKeyValueStore:
    def __init__(self, database, max_cache_size=100):
        self.database = database
        self.max_cache_size = max_cache_size
        self.cache = {}  # key -> {version: (value, timestamp)}
        self.access = {}  # key -> time of the last use
        self.lock = threading.RLock()

    def put(self, key, value):
        """Returns (version, timestamp)."""
        with self.lock:
            version, timestamp = self.database.put_value(key, value)
            self._remember(key, value, version, timestamp)
            return version, timestamp

    def get(self, key, version=None):
        """Returns (value, version, timestamp), or None."""
        with self.lock:
            versions = self.cache.get(key)
            if versions:
                wanted = max(versions) if version is None else version
                if wanted in versions:
                    self.access[key] = time.time()
                    value, timestamp = versions[wanted]
                    return value, wanted, timestamp
            found = self.database.get_value(key, version)
            if found is not None and version is None:
                self._remember(key, *found)
            return found

    def _remember(self, key, value, version, timestamp):
        if key not in self.cache and len(self.cache) >= self.max_cache_size:
            oldest = min(self.access, key=self.access.get)
            del self.cache[oldest]
            del self.access[oldest]
        self.cache[key] = {version: (value, timestamp)}
        self.access[key] = time.time()

    def cache_stats(self):
        with self.lock:
            size = len(self.cache)
            return {"current_size": size, "max_size": self.max_cache_size, "is_full": size >= self.max_cache_size}
