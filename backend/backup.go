package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
	"kvstore/internal/telemetry"
)

const (
	// backupReport is the number of bytes between two progress reports.
	backupReport = 256 << 20
	// maxAnswer bounds a JSON answer of the service.
	maxAnswer = 64 << 10
)

// backup writes a backup and verifies it. It asks the service at --backend-addr if that has
// the database open, or if there is no database here. Otherwise it reads the database
// itself, as always on PostgreSQL.
func (c command) backup(ctx context.Context, args []string) error {
	target := args[0]
	options := sqlite.Target{Name: target, Replace: c.force}
	if c.owner != "" {
		var err error
		if options.UID, options.GID, err = parseOwner(c.owner); err != nil {
			return err
		}
		options.Give = true
	}
	do := c.export
	if !c.config.onPostgres() {
		do = c.backupFile
	}
	made, err := do(ctx, options)
	if err != nil {
		return err
	}
	return c.printf("backup written and checked: %s\n%s, %d bytes, sha256 %x",
		target, contents(made), made.Bytes, made.SHA256)
}

// backupFile makes a backup of a database of SQLite.
func (c command) backupFile(ctx context.Context, options sqlite.Target) (made database.Summary, err error) {
	request, err := c.backupRequest(ctx)
	if err != nil {
		return made, err
	}
	if request != nil {
		if err := c.printf("asking the service at %s for the backup", c.config.addr); err != nil {
			return made, err
		}
	}
	err = c.withProgress("making and checking the backup", func() (err error) {
		if request == nil {
			made, err = sqlite.Backup(ctx, c.config.databaseURL, options)
		} else {
			made, err = sqlite.Receive(ctx, options, func(partial string) error { return c.download(request, partial) })
		}
		return err
	})
	return made, err
}

func (c command) restore(ctx context.Context, args []string) error {
	if c.config.onPostgres() {
		return c.restoreToServer(ctx, args[0])
	}
	var restored database.Summary
	var kept string
	err := c.withProgress("checking and copying", func() (err error) {
		restored, kept, err = sqlite.Restore(ctx, args[0], c.config.databaseURL, time.Now())
		return err
	})
	if kept != "" {
		if err := c.printf("the previous database is kept as %s", kept); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return c.printf("restored %s to %s, and checked\n%s, %d bytes, sha256 %x\n"+afterRestore,
		args[0], c.config.databaseURL, contents(restored), restored.Bytes, restored.SHA256, restored.Restored+1)
}

const afterRestore = "the next revision is %d, higher than any before; " +
	"versions continue from the backup, so clients must discard ETags from before"

// contents describes what a database holds.
func contents(s database.Summary) string {
	return fmt.Sprintf("store %s at revision %d: %d keys, %d versions", s.StoreID, s.Revision, s.Keys, s.Versions)
}

// serviceRequest returns a request to the service at --backend-addr.
func (c command) serviceRequest(ctx context.Context, method, path string) (*http.Request, error) {
	address, err := telemetry.Dialable(c.config.addr)
	if err != nil {
		return nil, err
	}
	return http.NewRequestWithContext(ctx, method, "http://"+address+path, http.NoBody)
}

// backupRequest returns the request to the service at --backend-addr for a backup. It
// returns nil if the database has to be read here, because no service answers there, or
// one with another database.
func (c command) backupRequest(ctx context.Context) (*http.Request, error) {
	request, err := c.serviceRequest(ctx, http.MethodGet, "/db/backup")
	if err != nil {
		return nil, err
	}
	id, missing := sqlite.StoreIDOf(ctx, c.config.databaseURL)
	const patience = 5 * time.Second
	probing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	probe := request.Clone(probing)
	probe.Method = http.MethodHead
	response, err := http.DefaultClient.Do(probe)
	if err == nil {
		response.Body.Close()
	}
	switch {
	case missing == nil && (err != nil || response.Header.Get("X-KV-Store") != id):
		return nil, nil //nolint:nilnil // as documented
	case missing != nil && err != nil:
		return nil, fmt.Errorf("%w, and no service answers at %s (KV_BACKEND_ADDR): %w", missing, c.config.addr, err)
	}
	return request, nil
}

// download writes the answer to an existing file. It fails unless the answer arrives
// completely and with the digest that the service announces.
func (c command) download(request *http.Request, name string) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return refusal(response)
	}
	wanted, found := strings.CutPrefix(response.Header.Get("Repr-Digest"), "sha-256=:")
	digest, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(wanted, ":"))
	if !found || err != nil || response.ContentLength < 0 {
		return fmt.Errorf("%s: the answer has no digest or no length", request.URL)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	hash := sha256.New()
	progress := &progress{printf: c.printf, total: response.ContentLength}
	n, err := io.Copy(io.MultiWriter(file, hash, progress), response.Body)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, response.ContentLength, err)
	}
	if !bytes.Equal(hash.Sum(nil), digest) {
		return errors.New("the backup was damaged on the way: its digest differs")
	}
	return request.Context().Err()
}

// refusal returns the error for an answer other than 200.
func refusal(response *http.Response) error {
	var problem struct{ Detail string }
	err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&problem)
	if err != nil || problem.Detail == "" {
		problem.Detail = "no reason is given"
	}
	return fmt.Errorf("%s answers %s: %s", response.Request.URL, response.Status, problem.Detail)
}

// progress reports how many bytes have arrived.
type progress struct {
	printf                func(string, ...any) error
	done, total, reported int64
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.done-p.reported < backupReport || p.done == p.total {
		return len(b), nil
	}
	p.reported = p.done
	return len(b), p.printf("%d of %d bytes", p.done, p.total)
}
