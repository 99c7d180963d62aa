// Writes and reads through the client that openapi-typescript makes of the OpenAPI
// document ("task clients" makes it). main.go does the same with a Go client.
//
//	node kvclient/main.js http://localhost:8000
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./kvclient/schema.js";

const url = process.argv[2];
if (!url) {
  console.error("usage: node kvclient/main.js URL");
  process.exit(2);
}
const client = createClient<paths>({ baseUrl: url, signal: AbortSignal.timeout(60_000) });
const key = "clients/ts/ä b?c"; // what a path must escape

const put = await client.PUT("/put/{key}", { params: { path: { key } }, body: { value: { ratio: 0.1, names: ["a"] } } });
assert.ok(put.data, put.error?.detail);
assert.ok(Math.abs(put.data.timestamp - Date.now() / 1000) < 10, `the timestamp is ${put.data.timestamp}`);

const got = await client.GET("/get/{key}", { params: { path: { key }, query: { version: put.data.version } } });
assert.ok(got.data, got.error?.detail);
assert.equal(got.data.key, key);
assert.deepEqual(got.data.value, { ratio: 0.1, names: ["a"] });

const lost = await client.PUT("/put/{key}", { params: { path: { key }, header: { "If-Match": '"99"' } }, body: { value: null } });
assert.equal(lost.error?.code, "precondition_failed");
assert.equal(lost.error?.current_version, put.data.version);

const none = await client.GET("/get/{key}", { params: { path: { key: key + "/none" } } });
assert.equal(none.error?.code, "key_not_found");

const changed = await client.PATCH("/patch/{key}", {
  params: { path: { key } },
  headers: { "Content-Type": "application/merge-patch+json" },
  body: { ratio: 0.2 },
});
assert.equal(changed.data?.operation, "patch", changed.error?.detail);

const keys = await client.GET("/keys", { params: { query: { prefix: "clients/ts/" } } });
assert.deepEqual(keys.data?.keys.map((k) => k.key), [key]);

const batch = await client.POST("/batch", { body: { operations: [{ op: "get", key }] } });
assert.deepEqual(batch.data?.results[0]?.value, { ratio: 0.2, names: ["a"] });

const alone = await client.GET("/get/{key}", { params: { path: { key }, query: { raw: true } }, parseAs: "text" });
assert.equal(alone.data, '{"ratio":0.2,"names":["a"]}');

console.log("the TypeScript client wrote and read");
