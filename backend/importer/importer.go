// Package importer reads the database of the Python predecessor into one of ours,
// with every version, its number and its time.
package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config says what to import and who is told of it.
type Config struct {
	// Source is the file of the predecessor. It is only read.
	Source string
	// Database takes what is read. Nobody else may write to it meanwhile.
	Database *database.DB
	// MaxValueBytes is the size of the largest value.
	MaxValueBytes int64
	// DryRun does everything and keeps nothing.
	DryRun bool
	// Now is the time of the import: no version is later.
	Now time.Time
	// Say is told what is skipped or changed and why, and of the progress.
	Say func(format string, args ...any)
}

// A Summary counts what an import did.
type Summary struct {
	// Keys and Versions are those that were imported.
	Keys, Versions int
	// AlreadyKeys are keys that were imported before.
	AlreadyKeys int
	// SkippedKeys and SkippedVersions are those that were not imported. A version of a
	// skipped key is not counted.
	SkippedKeys, SkippedVersions int
	// Clamped counts versions whose time was changed.
	Clamped int
}

// errDryRun rolls back.
var errDryRun = errors.New("dry run")

// progressEvery is how many versions are imported between two lines of progress.
const progressEvery = 10_000

// Run imports in one transaction: when it returns an error, nothing was imported.
// To import the same file again changes nothing.
//
// Versions get their revisions in the order of their times, and of their rows where
// these are the same. What cannot be kept is skipped and told: a key that CheckKey
// refuses, that has other versions in the database already, or whose versions do not
// count 1, 2, 3 and so on; and a version whose value is no JSON text or is too large.
// Reading such a version is kv.ErrVersionGone; when it was the last, the key ends
// with the version before it. A time that is earlier than that of the version before
// it, or later than now, is replaced by the time of the version before it, or by now.
//
// It keeps about 40 bytes in memory for each version, and its value only while that is
// written.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	src, err := openSource(ctx, cfg.Source)
	if err != nil {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	defer src.close()
	var sum Summary
	p, err := makePlan(ctx, src, &cfg, &sum)
	if err != nil {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	err = cfg.Database.Update(ctx, func(tx *database.Tx) error {
		if err := p.settle(ctx, tx, src); err != nil {
			return err
		}
		if err := p.write(ctx, tx, src); err != nil {
			return err
		}
		if cfg.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	return sum, nil
}

// settle takes the keys out of the plan that the database has already.
func (p *plan) settle(ctx context.Context, tx *database.Tx, src *source) error {
	const page = 64
	for start := 0; start < len(p.keys); start += page {
		keys := p.keys[start:min(start+page, len(p.keys))]
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = k.name
		}
		heads, err := tx.Heads(names)
		if err != nil {
			return err
		}
		for _, k := range keys {
			head, there := heads[k.name]
			if !there {
				continue
			}
			same, err := p.same(ctx, tx, src, k, head)
			if err != nil {
				return err
			}
			k.skipped = true
			if same {
				p.sum.AlreadyKeys++
				continue
			}
			p.skipKey(k.name, "it exists already with other versions")
		}
	}
	return nil
}

// same reports whether the database has every version of k as the source has it. It
// may have later ones.
func (p *plan) same(ctx context.Context, tx *database.Tx, src *source, k *keyPlan, head database.Head) (bool, error) {
	if head.ID == 0 { // it was erased
		return false, nil
	}
	for i := k.first; i < k.first+k.count; i++ {
		v := p.versions[i]
		if v.skipped {
			continue
		}
		entry, found, err := tx.Entry(k.name, head.ID, int64(v.version))
		if err != nil {
			return false, err
		}
		if !found || entry.Time != v.time || entry.Operation != kv.OpPut {
			return false, nil
		}
		value, err := src.value(ctx, v.id)
		if err != nil {
			return false, err
		}
		if string(value) != string(entry.Value) {
			return false, nil
		}
	}
	return true, nil
}

const (
	// chunkRows and chunkBytes bound what is in memory at once.
	chunkRows  = 64
	chunkBytes = 8 << 20
)

// write appends the planned versions in their order.
func (p *plan) write(ctx context.Context, tx *database.Tx, src *source) error {
	order := p.order()
	heads := map[string]database.Head{}
	var chunk []kv.Entry
	bytes := 0
	for n, v := range order {
		k := p.keys[v.key]
		value, err := src.value(ctx, v.id)
		if err != nil {
			return err
		}
		var written kv.Written
		k.head, written = tx.Number(k.head, kv.Entry{
			Key: k.name, Value: value, Version: int64(v.version), Time: v.time, Operation: kv.OpPut,
		})
		chunk = append(chunk, written.Entry)
		heads[k.name] = k.head
		if bytes += len(value); len(chunk) == chunkRows || bytes >= chunkBytes || n == len(order)-1 {
			if err := tx.Append(heads, chunk); err != nil {
				return err
			}
			chunk, bytes = chunk[:0], 0
			clear(heads)
		}
		if p.sum.Versions++; p.sum.Versions%progressEvery == 0 {
			p.cfg.Say("%d of %d versions", p.sum.Versions, len(order))
		}
	}
	return nil
}
