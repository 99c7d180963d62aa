package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"crypto/sha256"

	"kvstore/backend/database"
)

// backupReport is how many bytes arrive between two lines of progress.
const backupReport = 256 << 20

// backup writes a backup and verifies it. It asks the service at --backend-addr when
// that has the database open, or when there is no database here; else it reads the
// database by itself.
func (c command) backup(ctx context.Context, args []string) error {
	target := args[0]
	asked, err := c.whomToAsk(ctx)
	if err != nil {
		return err
	}
	options := database.Target{Name: target, Replace: c.force}
	if c.owner != "" {
		if options.UID, options.GID, err = parseOwner(c.owner); err != nil {
			return err
		}
		options.Give = true
	}
	if asked != nil {
		if err := c.say("the service at %s is asked for it", c.config.addr); err != nil {
			return err
		}
	}
	var made database.Summary
	err = c.during("making and checking the backup", func() (err error) {
		if asked == nil {
			made, err = database.Backup(ctx, c.config.databaseURL, options)
		} else {
			made, err = database.Receive(ctx, options, func(partial string) error { return c.download(ctx, asked, partial) })
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.say("backup written and checked: %s\n%s, %d bytes, sha256 %x", target, contents(made), made.Bytes, made.SHA256)
}

func (c command) restore(ctx context.Context, args []string) error {
	var restored database.Summary
	var kept string
	err := c.during("checking and copying", func() (err error) {
		restored, kept, err = database.Restore(ctx, args[0], c.config.databaseURL, time.Now())
		return err
	})
	if kept != "" {
		if err := c.say("the database that was there is kept as %s", kept); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return c.say("restored %s to %s, and checked\n%s, %d bytes, sha256 %x\nthe next revision is %d, above all that were given out; "+
		"versions count on from the backup, so clients must forget the ETags of before",
		args[0], c.config.databaseURL, contents(restored), restored.Bytes, restored.SHA256, restored.Restored+1)
}

// contents says in words what a database holds.
func contents(s database.Summary) string {
	return fmt.Sprintf("store %s at revision %d: %d keys, %d versions", s.StoreID, s.Revision, s.Keys, s.Versions)
}

// whomToAsk returns the request for a backup of the service at --backend-addr, and nil
// when the database is to be read here: no service answers there, or it has another.
func (c command) whomToAsk(ctx context.Context) (*http.Request, error) {
	address, err := dialable(c.config.addr)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/db/backup", http.NoBody)
	if err != nil {
		return nil, err
	}
	id, missing := database.StoreIDOf(ctx, c.config.databaseURL)
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
		return nil, nil //nolint:nilnil // nobody is to be asked
	case missing != nil && err != nil:
		return nil, fmt.Errorf("%w, and no service answers at %s (KV_BACKEND_ADDR): %w", missing, c.config.addr, err)
	}
	return request, nil
}

// download writes what the service sends to a file that exists, and fails unless all
// of it has arrived as it was sent.
func (c command) download(ctx context.Context, request *http.Request, name string) error {
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
	progress := &progress{say: c.say, all: response.ContentLength}
	n, err := io.Copy(io.MultiWriter(file, hash, progress), response.Body)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%d of %d bytes had arrived: %w", n, response.ContentLength, err)
	}
	if !bytes.Equal(hash.Sum(nil), digest) {
		return errors.New("what arrived is not what the service sent: its digest is another")
	}
	return ctx.Err()
}

// refusal is the error that an answer other than 200 is.
func refusal(response *http.Response) error {
	var problem struct{ Detail string }
	const most = 64 << 10
	if err := json.NewDecoder(io.LimitReader(response.Body, most)).Decode(&problem); err != nil || problem.Detail == "" {
		problem.Detail = "no reason is given"
	}
	return fmt.Errorf("%s answers %s: %s", response.Request.URL, response.Status, problem.Detail)
}

// progress says now and then how much has arrived.
type progress struct {
	say             func(string, ...any) error
	done, all, told int64
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.done-p.told < backupReport || p.done == p.all {
		return len(b), nil
	}
	p.told = p.done
	return len(b), p.say("%s of %s bytes", strconv.FormatInt(p.done, 10), strconv.FormatInt(p.all, 10))
}
