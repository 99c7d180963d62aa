package api

//go:generate go tool swag init --generalInfo docs.go --dir .,../kv,../../internal/problem --output ../docs --outputTypes go,json --parseInternal
