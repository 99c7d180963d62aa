package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"kvstore/bench/generator"
)

// verifyOurs compares the contents of our service at address with what it has acknowledged: the
// latest version of every key of the load with its value, and the counters of /db/stats, which
// count the keys of all loads.
func verifyOurs(ctx context.Context, address string, known knownKeys, load generator.Load) (string, error) {
	keys := known.of(load)
	client, err := generator.Open([]string{address}, generator.KV{Host: address}, keys, fillConnections)
	if err != nil {
		return "", err
	}
	defer client.Close()
	swept, err := client.Sweep()
	if err != nil {
		return "", fmt.Errorf("read every key: %w", err)
	}
	if swept.Errors > 0 {
		return "", &generator.WrongError{What: fmt.Sprintf("%d of %d keys do not have the last acknowledged write: %s", swept.Errors, load.Keys, swept.Error)}
	}
	acknowledged, unknown := keys.Writes()
	if err := between("the sum of the latest versions of the load", keys.Versions(), acknowledged, unknown); err != nil {
		return "", err
	}
	stats, err := databaseStats(ctx, address)
	if err != nil {
		return "", err
	}
	var all, allUnknown uint64
	for _, keys := range known {
		acknowledged, unknown := keys.Writes()
		all += acknowledged
		allUnknown += unknown
	}
	if err := between("total_versions in /db/stats", stats.TotalVersions, all, allUnknown); err != nil {
		return "", err
	}
	if err := between("revision in /db/stats", stats.Revision, all, allUnknown); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d writes acknowledged, total_versions and revision are %d, and each of %d keys has the last acknowledged write",
		all, stats.TotalVersions, load.Keys), nil
}

// between checks a count of writes. It must include the acknowledged ones, and may include those
// whose answer was lost.
func between(what string, found, acknowledged, unknown uint64) error {
	if found < acknowledged || found > acknowledged+unknown {
		return &generator.WrongError{What: fmt.Sprintf("%s is %d, but %d writes were acknowledged and the answers of %d were lost", what, found, acknowledged, unknown)}
	}
	return nil
}

// dbStats holds the counters of /db/stats that are needed.
type dbStats struct {
	TotalVersions uint64 `json:"total_versions"`
	Revision      uint64 `json:"revision"`
	Bytes         uint64 `json:"database_size_bytes"`
}

func databaseStats(ctx context.Context, address string) (dbStats, error) {
	var stats dbStats
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/db/stats", nil)
	if err != nil {
		return stats, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return stats, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return stats, &generator.WrongError{What: "GET /db/stats: " + response.Status}
	}
	err = json.NewDecoder(response.Body).Decode(&stats)
	return stats, err
}
