// Command clients writes and reads through the client that oapi-codegen makes of the
// OpenAPI document ("task clients" makes it, in kvclient). main.ts does the same with
// the client that openapi-typescript makes.
//
//	clients http://localhost:8000
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	_ "github.com/oapi-codegen/runtime" // for "go mod tidy" where kvclient was not made

	"kvstore/internal/openapi/clients/kvclient"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

// The key has what a path must escape, the value digits that no float64 has.
const (
	key   = "clients/go/ä b?c"
	value = `{"id":12345678901234567890,"ratio":0.1000}`
)

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: clients URL")
	}
	client, err := kvclient.NewClientWithResponses(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(entries(ctx, client), batch(ctx, client), raw(ctx, client)); err != nil {
		return err
	}
	fmt.Fprintln(out, "the Go client wrote and read")
	return nil
}

func entries(ctx context.Context, client *kvclient.ClientWithResponses) error {
	put, err := client.PutEntryWithResponse(ctx, key, nil, kvclient.PutEntryJSONRequestBody{Value: json.RawMessage(value)})
	if err != nil || put.JSON200 == nil {
		return fmt.Errorf("put: %w, %s", err, put.Body)
	}
	if off := math.Abs(put.JSON200.Timestamp - float64(time.Now().UnixMicro())/1e6); off > 10 {
		return fmt.Errorf("put: the timestamp %f is %f seconds off", put.JSON200.Timestamp, off)
	}
	got, err := client.GetEntryWithResponse(ctx, key, &kvclient.GetEntryParams{Version: &put.JSON200.Version})
	if err != nil || got.JSON200 == nil {
		return fmt.Errorf("get: %w, %s", err, got.Body)
	}
	if e := got.JSON200; e.Key != key || string(e.Value) != value || e.Timestamp != put.JSON200.Timestamp {
		return fmt.Errorf("get: %+v", e)
	}
	stale := `"99"`
	lost, err := client.PutEntryWithResponse(ctx, key, &kvclient.PutEntryParams{IfMatch: &stale}, kvclient.PutEntryJSONRequestBody{Value: json.RawMessage("1")})
	if err != nil || lost.ApplicationproblemJSON412 == nil || *lost.ApplicationproblemJSON412.CurrentVersion != put.JSON200.Version {
		return fmt.Errorf("put with a stale tag: %w, %s", err, lost.Body)
	}
	none, err := client.GetEntryWithResponse(ctx, key+"/none", nil)
	if err != nil || none.ApplicationproblemJSON404 == nil || none.ApplicationproblemJSON404.Code != "key_not_found" {
		return fmt.Errorf("get nothing: %w, %s", err, none.Body)
	}
	prefix := "clients/go/"
	keys, err := client.ListKeysWithResponse(ctx, &kvclient.ListKeysParams{Prefix: &prefix})
	if err != nil || keys.JSON200 == nil || len(keys.JSON200.Keys) != 1 || keys.JSON200.Keys[0].Key != key {
		return fmt.Errorf("list keys: %w, %s", err, keys.Body)
	}
	return nil
}

func batch(ctx context.Context, client *kvclient.ClientWithResponses) error {
	text := json.RawMessage(value)
	made, err := client.RunBatchWithResponse(ctx, kvclient.BatchRequest{Operations: []kvclient.BatchOperation{
		{Op: kvclient.BatchOperationOpPut, Key: "clients/batch", Value: &text},
		{Op: kvclient.BatchOperationOpGet, Key: "clients/batch"},
	}})
	if err != nil || made.JSON200 == nil {
		return fmt.Errorf("batch: %w, %s", err, made.Body)
	}
	if results := made.JSON200.Results; len(results) != 2 || results[1].Value == nil || string(*results[1].Value) != value {
		return fmt.Errorf("batch: %s", made.Body)
	}
	return nil
}

func raw(ctx context.Context, client *kvclient.ClientWithResponses) error {
	put, err := client.PutEntryWithBodyWithResponse(ctx, "clients/raw", nil, "text/plain", strings.NewReader("as it is"))
	if err != nil || put.JSON200 == nil {
		return fmt.Errorf("put a raw value: %w, %s", err, put.Body)
	}
	alone := true
	got, err := client.GetEntryWithResponse(ctx, "clients/raw", &kvclient.GetEntryParams{Raw: &alone})
	if err != nil || string(got.Body) != "as it is" {
		return fmt.Errorf("get a raw value: %w, %s", err, got.Body)
	}
	return nil
}
