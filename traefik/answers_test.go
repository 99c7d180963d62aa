package traefik_test

import "encoding/json"

// The answers of the contract, member by member.

type putAnswer struct {
	Operation       string  `json:"operation"`
	Key             string  `json:"key"`
	Version         int     `json:"version"`
	NewVersion      *int    `json:"new_version"`
	PreviousVersion *int    `json:"previous_version"`
	TotalVersions   int     `json:"total_versions"`
	Timestamp       float64 `json:"timestamp"`
	Revision        int     `json:"revision"`
}

type getAnswer struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Version   int             `json:"version"`
	Timestamp float64         `json:"timestamp"`
	Revision  int             `json:"revision"`
	Source    string          `json:"source"`
}

type databaseStats struct {
	TotalKeys         int `json:"total_keys"`
	TotalVersions     int `json:"total_versions"`
	DatabaseSizeBytes int `json:"database_size_bytes"`
	Revision          int `json:"revision"`
}
