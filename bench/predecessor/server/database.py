"""SQLite layer of the predecessor: every version is a row; one connection for each operation."""

import json
import os
import sqlite3
import threading
import time


class SQLiteDatabase:
    def __init__(self, db_path):
        self.db_path = db_path
        self.lock = threading.RLock()
        with self._connect() as conn:
            conn.execute(
                "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, created_at REAL NOT NULL, updated_at REAL NOT NULL)"
            )
            conn.execute(
                'CREATE TABLE IF NOT EXISTS "values" (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, '
                "value TEXT NOT NULL, version INTEGER NOT NULL, timestamp REAL NOT NULL, "
                "FOREIGN KEY (key) REFERENCES keys (key), UNIQUE (key, version))"
            )

    def _connect(self):
        return sqlite3.connect(self.db_path)

    def put_value(self, key, value):
        """Appends the next version and returns (version, timestamp). It is on disk then."""
        with self.lock:
            conn = self._connect()
            try:
                now = time.time()
                row = conn.execute('SELECT MAX(version) FROM "values" WHERE key = ?', (key,)).fetchone()
                version = (row[0] or 0) + 1
                if version == 1:
                    conn.execute("INSERT INTO keys (key, created_at, updated_at) VALUES (?, ?, ?)", (key, now, now))
                else:
                    conn.execute("UPDATE keys SET updated_at = ? WHERE key = ?", (now, key))
                conn.execute(
                    'INSERT INTO "values" (key, value, version, timestamp) VALUES (?, ?, ?, ?)',
                    (key, json.dumps(value), version, now),
                )
                conn.commit()
                return version, now
            finally:
                conn.close()

    def get_value(self, key, version=None):
        """Returns (value, version, timestamp) of the latest or of that version, or None."""
        with self.lock:
            conn = self._connect()
            try:
                if version is None:
                    row = conn.execute(
                        'SELECT value, version, timestamp FROM "values" WHERE key = ? ORDER BY version DESC LIMIT 1',
                        (key,),
                    ).fetchone()
                else:
                    row = conn.execute(
                        'SELECT value, version, timestamp FROM "values" WHERE key = ? AND version = ?', (key, version)
                    ).fetchone()
            finally:
                conn.close()
        return None if row is None else (json.loads(row[0]), row[1], row[2])

    def stats(self):
        conn = self._connect()
        try:
            keys = conn.execute("SELECT COUNT(*) FROM keys").fetchone()[0]
            versions = conn.execute('SELECT COUNT(*) FROM "values"').fetchone()[0]
        finally:
            conn.close()
        return {
            "total_keys": keys,
            "total_versions": versions,
            "database_size_bytes": os.path.getsize(self.db_path),
        }
